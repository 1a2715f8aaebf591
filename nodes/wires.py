"""What travels along the pack's own wires."""

from __future__ import annotations

from comfy_api.latest import io

Encoder = io.Custom("SSR_ENCODER")
"""hosts.comfyui.ssr.HostEncoder"""

Subject = io.Custom("SSR_SUBJECT")
"""subject.SubjectSet: a tuple of one or several subjects"""

Footprint = io.Custom("SSR_FOOTPRINT")
"""hosts.comfyui.recording.Recorder: filled when the sampling ends"""

MIPAdapter = io.Custom("SSR_MIP_ADAPTER")
"""hosts.comfyui.mip.HostAdapter"""

MIPObjects = io.Custom("SSR_MIP_OBJECTS")
"""methods.mip.objects.ObjectSet: a tuple of one or several objects"""

Learned = io.Custom("SSR_LASR_SUBJECT")
"""methods.lasr.subject.LasrSubjects: a tuple of one or several learned subjects"""

Elite = io.Custom("SSR_ELITE")
"""hosts.comfyui.elite.HostElite"""

EliteSubject = io.Custom("SSR_ELITE_SUBJECT")
"""methods.elite.subject.EliteSubjects: a tuple of one or several subjects"""

CATEGORY = "SSR-Encoder"
SSR_CATEGORY = f"{CATEGORY}/SSR"
MIP_CATEGORY = f"{CATEGORY}/MIP"
LASR_CATEGORY = f"{CATEGORY}/LASR"
ELITE_CATEGORY = f"{CATEGORY}/ELITE"
TOOLS_CATEGORY = f"{CATEGORY}/tools"
"""What serves every method: selecting, and seeing what acts where."""
EXAMPLES_CATEGORY = f"{CATEGORY}/examples"
"""What a graph can be tried with before anything is downloaded."""
