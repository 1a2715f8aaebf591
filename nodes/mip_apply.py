"""Apply Objects (MIP)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui.mip import HostAdapter, apply_objects
from ..ssr_core.layout import SDXL
from ..ssr_core.methods.mip.objects import MERGES, ObjectSet
from ..ssr_core.schedule import BLOCK_PRESETS
from . import checks, manner, wires
from .compat import Schema


class ApplyObjects(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_ApplyObjectsMIP",
            display_name="Apply Objects (MIP)",
            category=wires.MIP_CATEGORY,
            description="Makes an SDXL model draw the objects, each where the picture attends to its name. Its place among other "
            "model nodes does not matter.",
            search_aliases=["mip", "mip adapter", "multi-reference"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="An SDXL model. It is not changed; the output is a copy that also sees the objects."
                ),
                wires.MIPAdapter.Input("mip_adapter", tooltip="The adapter that made the objects."),
                wires.MIPObjects.Input(
                    "objects", tooltip="One object, or several from Encode Object (MIP) or Combine Objects (MIP)."
                ),
                manner.strength(
                    0.75,
                    "How strongly the picture follows the references. The authors use 0.75 with model_sdxl.bin and 0.65 with "
                    "model_sdxl_plus.bin; 0 switches it off. A linked list of numbers gives every frame of an animation its own.",
                ),
                *manner.schedule(
                    "the objects",
                    BLOCK_PRESETS,
                    "Which layers of the UNet see the objects: its input (encoder), middle and output (decoder) blocks, named as in SDXL.",
                ),
                io.Combo.Input(
                    "combine",
                    options=list(MERGES),
                    default=MERGES[0],
                    tooltip="by word, gated: every place is shared out by how strongly it attends to each object's name, and opened or "
                    "closed by a learned gate (the paper's way). The others are for comparison: by word without the gate, separate adds "
                    "each one's effect, joint lets them compete for every place.",
                ),
                *manner.places("the objects", len(SDXL.layers)),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For KSampler or any other model node.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        mip_adapter: HostAdapter,
        objects: ObjectSet,
        strength: Any,
        start: float,
        end: float,
        curve: str,
        layers: str,
        combine: Any,
        region: Any = None,
        layer_strengths: str = "",
        curve_values: str = "",
        frame_strengths: str = "",
    ) -> io.NodeOutput:
        checks.choice(combine, MERGES, "combine")
        how = manner.manner(
            mip_adapter.config.layout, BLOCK_PRESETS, strength, start, end, curve, layers,
            region, layer_strengths, curve_values, frame_strengths,
        )  # fmt: skip
        return io.NodeOutput(apply_objects(model, mip_adapter, objects, how, combine))
