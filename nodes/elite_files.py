"""Save Subject (ELITE) and Load Subject (ELITE)."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui import folders
from ..ssr_core.hosts.comfyui.view import view_of_marked
from ..ssr_core.methods.elite.subject import EliteSubjects, together
from ..ssr_core.methods.elite.subject_file import load, save
from ..ssr_core.methods.elite.subject_file import provenance as provenance_of
from ..ssr_core.shown import shown
from . import checks, wires
from .compat import Schema
from .elite import ALIASES


class SaveEliteSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_SaveSubjectELITE",
            display_name="Save Subject (ELITE)",
            category=wires.ELITE_CATEGORY,
            description="Writes a subject to a file in output/ssr_elite_subjects, to use it again or to share it. "
            "It holds the square that the vision model saw.",
            search_aliases=ALIASES,
            is_output_node=True,
            inputs=[
                wires.EliteSubject.Input("subject", tooltip="One subject, or several."),
                io.String.Input(
                    "filename_prefix", default="subject", tooltip="Name of the file; a number is added. May hold a folder."
                ),
            ],
            outputs=[wires.EliteSubject.Output(display_name="subject", tooltip="The same subject, passed on.")],
        )

    @classmethod
    def execute(cls, subject: EliteSubjects, filename_prefix: str) -> io.NodeOutput:
        made = datetime.now(timezone.utc).isoformat(timespec="seconds")
        provenance = {"made_by": "ComfyUI-SSR-Encoder", "made_at": made}
        prefix = checks.text(filename_prefix, "filename_prefix")
        name = folders.save_new(folders.ELITE_SUBJECTS, prefix, lambda path: save(subject, path, provenance, new=True))
        return io.NodeOutput(subject, ui={"text": [f"Saved {shown(name)}"]})


class LoadEliteSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_LoadSubjectELITE",
            display_name="Load Subject (ELITE)",
            category=wires.ELITE_CATEGORY,
            description="Reads a subject that Save Subject (ELITE) wrote. Its ELITE is needed again; picture, mask and CLIP Vision "
            "are not.",
            search_aliases=ALIASES,
            is_output_node=True,  # so that it can run alone and show what is in the file
            inputs=[
                io.Combo.Input(
                    "subject_file",
                    options=folders.saved_files(folders.ELITE_SUBJECTS),
                    tooltip="Files in output/ssr_elite_subjects, input/ssr_elite_subjects and models/ssr_elite_subjects. Press R after "
                    "saving a new one.",
                ),
                wires.EliteSubject.Input(
                    "previous", optional=True, tooltip="Subjects from another node; those of the file are added after them."
                ),
            ],
            outputs=[
                wires.EliteSubject.Output(
                    display_name="subject", tooltip="For Prompt with Subject (ELITE) and Apply Subject (ELITE)."
                )
            ],
        )

    @classmethod
    def execute(cls, subject_file: str, previous: EliteSubjects = ()) -> io.NodeOutput:
        path = folders.elite_subject_path(subject_file)
        loaded = load(path)
        text = _described(loaded, provenance_of(path))
        if hidden := folders.hidden_files(folders.ELITE_SUBJECTS, subject_file):
            text += f"\nread from {shown(path.parent)}; of the same name, not read: {', '.join(map(shown, hidden))}"
        return io.NodeOutput(together(previous or (), loaded), ui={**view_of_marked(loaded), "text": [text]})

    @classmethod
    def fingerprint_inputs(cls, subject_file: str | None = None, **others: Any) -> Any:
        return folders.stamp(folders.ELITE_SUBJECTS, subject_file)


def _described(loaded: EliteSubjects, told: dict[str, str]) -> str:
    """Where the subjects of a file come from, in words."""
    lines = []
    for number, one in enumerate(loaded, start=1):
        height, width = one.source_size
        tokens = (
            f"{int(one.patches.sum())} of {one.patches.numel()} places marked" if one.tokens is not None else "a word alone"
        )
        lines.append(
            f"{number}. of a picture of {width} x {height} pixels, {one.framing}, {tokens}, strength {one.strength:g}, ELITE "
            f"{shown(one.encoder[:12])}"
        )
    return "\n".join(lines + [f"{name.replace('_', ' ')}: {text}" for name, text in sorted(told.items())])
