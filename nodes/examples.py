"""Example Picture: a photograph that comes with the pack, so that nothing has to be uploaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from ..ssr_core.examples import EXAMPLES, example
from . import checks, wires
from .compat import Schema
from .pictured import pictured


class ExamplePicture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_ExamplePicture",
            display_name="Example Picture",
            category=wires.EXAMPLES_CATEGORY,
            description="A photograph that comes with the pack, and a mask of one thing in it. Replace it with Load Image for your own.",
            search_aliases=["ssr", "example reference", "sample photo"],
            is_output_node=True,  # so that it can run alone and show the photograph
            inputs=[
                io.Combo.Input(
                    "marked",
                    options=list(EXAMPLES),
                    default=next(iter(EXAMPLES)),
                    tooltip="What the mask marks. cup and spoon are in the same photograph.",
                )
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The photograph, for a node that encodes."),
                io.Mask.Output(display_name="mask", tooltip="Of what is marked, for the same node's mask."),
                io.String.Output(display_name="name", tooltip="The marked thing's word, for a query or a name."),
            ],
        )

    @classmethod
    def execute(cls, marked: Any) -> io.NodeOutput:
        picture, mask = example(checks.choice(marked, tuple(EXAMPLES), "marked"))
        image = torch.from_numpy(np.asarray(picture).astype(np.float32) / 255)[None]  # [1, H, W, 3]
        return io.NodeOutput(image, torch.from_numpy(mask)[None], marked, ui=pictured(cls, image))
