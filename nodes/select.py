"""Select by Points."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.crop import parse_crop
from ..ssr_core.hosts.comfyui.clip import vision_model
from ..ssr_core.hosts.comfyui.view import view_of_selected
from ..ssr_core.points import parse_points
from ..ssr_core.select import masks_around
from ..ssr_core.vision import FITS, as_pictures, check_images
from . import checks, inputs, wires
from .compat import Schema

EMPTY = 'points is empty; click on the picture in Select by Points, or write where the subject is, in pixels: "120, 80".'


class SelectByPoints(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_SelectByPoints",
            display_name="Select by Points",
            category=wires.TOOLS_CATEGORY,
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
                    tooltip='Click on the picture below, or write pixels from the top left: "120, 80; 140, 95". The JSON of point editors '
                    "works too.",
                ),
                inputs.fit(
                    "How a picture that is not square meets the vision model's square; as in Encode Subject.", rare=True
                ),
                inputs.crop(),
            ],
            outputs=[io.Mask.Output(display_name="mask", tooltip="For Encode Subject and every other node that takes a MASK.")],
        )

    @classmethod
    def execute(cls, clip_vision: Any, image: Any, points: str, fit: Any = FITS[0], crop: str = "") -> io.NodeOutput:
        checks.choice(fit, FITS, "fit")
        places, framed, tower = parse_points(points), parse_crop(crop), vision_model(clip_vision)
        check_images(image)
        pictures = as_pictures(image)
        if not places:
            # The picture is shown all the same, to be clicked on; what waits for the mask is told why there is none.
            # None stands for the mask: without an output the host forgets to block it.
            return io.NodeOutput(None, ui=view_of_selected(pictures[0], None, tower, fit, framed), block_execution=EMPTY)
        masks = masks_around(tower, pictures, places, fit, framed)
        return io.NodeOutput(masks, ui=view_of_selected(pictures[0], masks[0].numpy(), tower, fit, framed))
