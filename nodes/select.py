"""Select by Points."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui.clip import vision_model
from ..ssr_core.points import parse_points
from ..ssr_core.select import masks_around
from ..ssr_core.vision import FITS, as_pictures
from . import checks, inputs, wires
from .compat import Schema


class SelectByPoints(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_SelectByPoints",
            display_name="Select by Points",
            category=wires.CATEGORY,
            description="Makes a mask of what belongs to the places pointed at, as the vision model sees it. No other model is needed.",
            search_aliases=["ssr", "segment", "click", "mask"],
            inputs=[
                io.ClipVision.Input(
                    "clip_vision", tooltip="The CLIP vision model of Encode Subject or of Encode Object (MIP)."
                ),
                io.Image.Input("image", tooltip="The picture; of a batch each gets its own mask."),
                io.String.Input(
                    "points",
                    default="",
                    tooltip='Pixels from the top left: "120, 80; 140, 95". The JSON of point editors works too.',
                ),
                inputs.fit("How a picture that is not square meets the vision model's square; as in Encode Subject."),
            ],
            outputs=[io.Mask.Output(display_name="mask", tooltip="For Encode Subject and every other node that takes a MASK.")],
        )

    @classmethod
    def execute(cls, clip_vision: Any, image: Any, points: str, fit: Any = FITS[0]) -> io.NodeOutput:
        checks.choice(fit, FITS, "fit")
        places = parse_points(points)
        if not places:
            raise ValueError('points is empty; write where the subject is, in pixels: "120, 80".')
        return io.NodeOutput(masks_around(vision_model(clip_vision), as_pictures(image), places, fit))
