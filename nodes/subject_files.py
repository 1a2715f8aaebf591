"""Save Subject and Load Subject."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui import folders
from ..ssr_core.hosts.comfyui.view import view
from ..ssr_core.methods.ssr.subject import SubjectSet
from ..ssr_core.methods.ssr.subject_file import load, provenance, save
from ..ssr_core.shown import shown
from . import inputs, saved, wires
from .compat import Schema


class SaveSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_SaveSubject",
            display_name="Save Subject",
            category=wires.SSR_CATEGORY,
            description="Writes a subject to a file in output/ssr_subjects, to use it again or to share it. "
            "It holds the square the encoder saw.",
            search_aliases=["ssr"],
            is_output_node=True,
            inputs=[
                wires.Subject.Input("subject", tooltip="One subject, or several from Combine Subjects."),
                io.String.Input(
                    "filename_prefix", default="subject", tooltip="Name of the file; a number is added. May hold a folder."
                ),
            ],
            outputs=[wires.Subject.Output(display_name="subject", tooltip="The same subject, passed on.")],
        )

    @classmethod
    def execute(cls, subject: SubjectSet, filename_prefix: str) -> io.NodeOutput:
        told = saved.write_new(folders.SUBJECTS, filename_prefix, lambda path, own: save(subject, path, own, new=True))
        return io.NodeOutput(subject, ui=told)


class LoadSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_LoadSubject",
            display_name="Load Subject",
            category=wires.SSR_CATEGORY,
            is_output_node=True,  # so that it can run alone and show what is in the file
            description="Reads a subject that Save Subject wrote. Its encoder is needed again, its picture is not.",
            search_aliases=["ssr"],
            inputs=[
                inputs.saved(
                    "subject_file",
                    folders.saved_files(folders.SUBJECTS),
                    "Files in output/ssr_subjects, input/ssr_subjects and models/ssr_subjects. Press R after saving a new one.",
                ),
            ],
            outputs=[wires.Subject.Output(display_name="subject", tooltip="For Apply Subject and Combine Subjects.")],
        )

    @classmethod
    def validate_inputs(cls, subject_file: Any = None) -> bool | str:
        return inputs.check_saved(subject_file, folders.subject_path, "Save Subject")

    @classmethod
    def execute(cls, subject_file: str) -> io.NodeOutput:
        path = folders.subject_path(subject_file)
        loaded = load(path)
        told = saved.described(folders.SUBJECTS, subject_file, path, _described(loaded), provenance(path))
        return io.NodeOutput(loaded, ui={**view(loaded), **told})

    @classmethod
    def fingerprint_inputs(cls, subject_file: str = "") -> Any:
        return folders.stamp(folders.SUBJECTS, subject_file)


def _described(loaded: SubjectSet) -> list[str]:
    """Where the subjects of a file come from, in words."""
    lines = []
    for number, one in enumerate(loaded, start=1):
        height, width = one.source_size
        by = " and ".join(["words"] * bool(one.words) + ["mask"] * (one.marked is not None)) or "its query as a whole"
        reference = f"of a picture of {width} x {height} pixels, {one.fit}"
        named = f'{number}. "{shown(one.query)}", by {by}, {reference}'
        lines.append(f"{named}, strength {one.strength:g}, encoder {shown(one.encoder[:12])}")
    return lines
