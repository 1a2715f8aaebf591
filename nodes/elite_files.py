"""Save Subject (ELITE) and Load Subject (ELITE)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui import folders
from ..ssr_core.hosts.comfyui.view import view_of_marked
from ..ssr_core.methods.elite.subject import EliteSubjects, together
from ..ssr_core.methods.elite.subject_file import load, provenance, save
from ..ssr_core.shown import shown
from . import inputs, saved, wires
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
        told = saved.write_new(folders.ELITE_SUBJECTS, filename_prefix, lambda path, own: save(subject, path, own, new=True))
        return io.NodeOutput(subject, ui=told)


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
                inputs.saved(
                    "subject_file",
                    folders.saved_files(folders.ELITE_SUBJECTS),
                    "Files in output/ssr_elite_subjects, input/ssr_elite_subjects and models/ssr_elite_subjects. Press R after "
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
    def validate_inputs(cls, subject_file: Any = None) -> bool | str:
        return inputs.check_saved(subject_file, folders.elite_subject_path, "Save Subject (ELITE)")

    @classmethod
    def execute(cls, subject_file: str, previous: EliteSubjects = ()) -> io.NodeOutput:
        path = folders.elite_subject_path(subject_file)
        loaded = load(path)
        told = saved.described(folders.ELITE_SUBJECTS, subject_file, path, _described(loaded), provenance(path))
        return io.NodeOutput(together(previous or (), loaded), ui={**view_of_marked(loaded), **told})

    @classmethod
    def fingerprint_inputs(cls, subject_file: str | None = None, **others: Any) -> Any:
        return folders.stamp(folders.ELITE_SUBJECTS, subject_file)


def _described(loaded: EliteSubjects) -> list[str]:
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
    return lines
