"""Select by Points."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.crop import parse_crop
from ..ssr_core.hosts.comfyui.clip import vision_model
from ..ssr_core.hosts.comfyui.view import view_of_selection
from ..ssr_core.points import parse_points
from ..ssr_core.select import masks_of, select_around
from ..ssr_core.vision import FITS, as_pictures
from . import checks, inputs, wires
from .compat import Schema

NO_POINTS = 'points is empty; click on the picture in Select by Points, or write where the subject is, in pixels: "120, 80".'


class SelectByPoints(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_SelectByPoints",
            display_name="Select by Points",
            category=wires.CATEGORY,
            description="Makes a mask of what belongs to the places pointed at, as the vision model sees it. No other model is needed.",
            search_aliases=["ssr", "segment", "click", "mask"],
            is_output_node=True,  # so that it can run alone and show the picture to click on
            inputs=[
                io.ClipVision.Input(
                    "clip_vision", tooltip="The CLIP vision model of Encode Subject or of Encode Object (MIP)."
                ),
                io.Image.Input("image", tooltip="The picture; of a batch each gets its own mask."),
                io.String.Input(
                    "points",
                    default="",
                    tooltip="Places in the picture that were clicked. Click on the picture below, or write pixels from the top left: "
                    '"120, 80; 140, 95". The JSON of point editors works too.',
                ),
                inputs.fit("How a picture that is not square meets the vision model's square; as in Encode Subject."),
                inputs.crop(),
            ],
            outputs=[io.Mask.Output(display_name="mask", tooltip="For Encode Subject and every other node that takes a MASK.")],
        )

    @classmethod
    def execute(cls, clip_vision: Any, image: Any, points: str, fit: Any = FITS[0], crop: str = "") -> io.NodeOutput:
        checks.choice(fit, FITS, "fit")
        places, framed = parse_points(points), parse_crop(crop)
        tower, pictures = vision_model(clip_vision), as_pictures(image)
        if not places:
            # The picture is shown all the same, to be clicked on; what is connected to the mask stops with this message.
            shown = view_of_selection(pictures, [None] * len(pictures), tower, fit, framed)
            return io.NodeOutput(None, block_execution=NO_POINTS, ui=shown)  # None stands for the output that the host blocks
        patches = [select_around(tower, picture, places, fit, framed) for picture in pictures]
        return io.NodeOutput(
            masks_of(patches, pictures, tower, fit, framed), ui=view_of_selection(pictures, patches, tower, fit, framed)
        )
