"""Record Footprint and Subject Footprint."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui.recording import Recorder, recording
from ..ssr_core.maps import footprint_map
from ..ssr_core.methods.ssr.subject import MOST_SUBJECTS
from ..ssr_core.shown import shown
from ..ssr_core.vision import check_images
from . import checks, inputs, wires
from .compat import Schema


class RecordFootprint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_RecordFootprint",
            display_name="Record Footprint",
            category=wires.TOOLS_CATEGORY,
            description="Notes, while this model samples, where each subject acts. Works with any sampler; its place among other model "
            "nodes does not matter.",
            search_aliases=["ssr", "heat map", "where"],
            inputs=[io.Model.Input("model", tooltip="A model with subjects, before or after Apply Subject.")],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the sampler. It draws the same picture, a little slower."),
                wires.Footprint.Output(display_name="footprint", tooltip="For Subject Footprint."),
            ],
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        return io.NodeOutput(*recording(model))


class SubjectFootprint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_SubjectFootprint",
            display_name="Subject Footprint",
            category=wires.TOOLS_CATEGORY,
            description="Shows where in the new picture a subject acted.",
            search_aliases=["ssr", "heat map", "where"],
            inputs=[
                wires.Footprint.Input("footprint", tooltip="From Record Footprint."),
                io.Image.Input("image", tooltip="The picture that the recorded sampling made, from VAE Decode."),
                inputs.index("Which subject, counted from 1 in the order they were applied."),
                inputs.opacity(),
            ],
            outputs=[
                io.Image.Output(display_name="overlay", tooltip="The map over the picture."),
                io.Mask.Output(
                    display_name="map", tooltip="The map itself, 0 to 1; the subjects of a picture share one scale."
                ),
            ],
        )

    @classmethod
    def execute(cls, footprint: Recorder, image: Any, index: int = 1, opacity: float = 0.6) -> io.NodeOutput:
        opacity = checks.number(opacity, "opacity", 0, 1)
        check_images(image, "image")
        found = footprint.of(image)
        if found is None:
            raise ValueError(
                "Nothing was recorded. Connect the MODEL of Record Footprint to the sampler, and an Apply node before or after it; if it "
                "is connected, change the seed so that the sampler runs again. Learned subjects (LASR) are words of the prompt and "
                "leave no footprint."
            )
        maps = found.maps()  # [subjects, pictures, h, w]
        if not 1 <= checks.whole(index, "index", 1, MOST_SUBJECTS) <= len(maps):
            queries = ", ".join(f'{number} "{query}"' for number, query in enumerate(found.queries, start=1))
            raise ValueError(f"There is no subject {index}; the recorded sampling had: {shown(queries)}.")
        return io.NodeOutput(*footprint_map(maps[index - 1], image, opacity))
