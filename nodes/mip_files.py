"""Save Objects (MIP) and Load Objects (MIP)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui import folders
from ..ssr_core.hosts.comfyui.view import view_of_objects
from ..ssr_core.methods.mip.object_file import load, provenance, save
from ..ssr_core.methods.mip.objects import ObjectSet
from ..ssr_core.shown import shown
from . import inputs, saved, wires
from .compat import Schema


class SaveObjects(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_SaveObjectsMIP",
            display_name="Save Objects (MIP)",
            category=wires.MIP_CATEGORY,
            description="Writes objects to a file in output/ssr_mip_objects, to use them again or to share them. "
            "It holds the squares that the vision model saw.",
            search_aliases=["mip"],
            is_output_node=True,
            inputs=[
                wires.MIPObjects.Input("objects", tooltip="One object, or several from Combine Objects (MIP)."),
                io.String.Input(
                    "filename_prefix", default="objects", tooltip="Name of the file; a number is added. May hold a folder."
                ),
            ],
            outputs=[wires.MIPObjects.Output(display_name="objects", tooltip="The same objects, passed on.")],
        )

    @classmethod
    def execute(cls, objects: ObjectSet, filename_prefix: str) -> io.NodeOutput:
        told = saved.write_new(folders.MIP_OBJECTS, filename_prefix, lambda path, own: save(objects, path, own, new=True))
        return io.NodeOutput(objects, ui=told)


class LoadObjects(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_LoadObjectsMIP",
            display_name="Load Objects (MIP)",
            category=wires.MIP_CATEGORY,
            description="Reads objects that Save Objects (MIP) wrote. Their adapter is needed again; CLIP, CLIP Vision and pictures "
            "are not.",
            search_aliases=["mip"],
            is_output_node=True,  # so that it can run alone and show what is in the file
            inputs=[
                inputs.saved(
                    "objects_file",
                    folders.saved_files(folders.MIP_OBJECTS),
                    "Files in output/ssr_mip_objects, input/ssr_mip_objects and models/ssr_mip_objects. Press R after saving a new "
                    "one.",
                ),
            ],
            outputs=[
                wires.MIPObjects.Output(display_name="objects", tooltip="For Apply Objects (MIP) and Combine Objects (MIP).")
            ],
        )

    @classmethod
    def validate_inputs(cls, objects_file: Any = None) -> bool | str:
        return inputs.check_saved(objects_file, folders.objects_path, "Save Objects (MIP)")

    @classmethod
    def execute(cls, objects_file: str) -> io.NodeOutput:
        path = folders.objects_path(objects_file)
        loaded = load(path)
        told = saved.described(folders.MIP_OBJECTS, objects_file, path, _described(loaded), provenance(path))
        return io.NodeOutput(loaded, ui={**view_of_objects(loaded), **told})

    @classmethod
    def fingerprint_inputs(cls, objects_file: str | None = None) -> Any:
        return folders.stamp(folders.MIP_OBJECTS, objects_file)


def _described(loaded: ObjectSet) -> list[str]:
    """Where the objects of a file come from, in words."""
    lines = []
    for number, one in enumerate(loaded, start=1):
        pictures = "1 picture" if one.count == 1 else f"{one.count} pictures"
        place = "" if one.region is None else ", with a region of its own"
        lines.append(
            f'{number}. "{shown(one.name, 60)}", of {pictures}{place}, strength {one.strength:g}, adapter {shown(one.adapter[:12])}'
        )
    return lines
