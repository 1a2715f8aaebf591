"""Load MIP-Adapter and Encode Object (MIP)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.crop import parse_crop
from ..ssr_core.hosts.comfyui import folders
from ..ssr_core.hosts.comfyui.clip import vision_model
from ..ssr_core.hosts.comfyui.mip import HostAdapter, encode_name, load_adapter
from ..ssr_core.hosts.comfyui.view import view_of_references
from ..ssr_core.methods.mip.encode import References, check_vision_model, encode_object
from ..ssr_core.methods.mip.objects import ObjectSet, check_count, check_name, together
from ..ssr_core.points import parse_points
from ..ssr_core.vision import FITS, as_pictures
from . import checks, inputs, wires
from .compat import RARE, Schema


class LoadMIPAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_LoadMIPAdapter",
            display_name="Load MIP-Adapter",
            category=wires.MIP_CATEGORY,
            description="Loads an MIP-Adapter for SDXL, which draws several objects, each from references of its own. A plain IP-Adapter "
            "for SDXL works too, without the learned gates.",
            search_aliases=["mip", "mip adapter", "multi-reference", "multi subject"],
            inputs=[
                inputs.published(
                    "adapter_file",
                    folders.adapter_files(),
                    "model_sdxl.bin",
                    "model_sdxl.bin (with CLIP ViT-bigG), model_sdxl_plus.bin (with CLIP ViT-H), or an IP-Adapter for SDXL. "
                    "Looked for in models/ssr_mip and models/ipadapter.",
                ),
            ],
            outputs=[
                wires.MIPAdapter.Output(display_name="mip_adapter", tooltip="For Encode Object (MIP) and Apply Objects (MIP).")
            ],
        )

    @classmethod
    def validate_inputs(cls, adapter_file: Any = None) -> bool | str:
        """The answer says more than that a value is not in a list."""
        return adapter_file is None or checks.found(
            lambda: folders.adapter_path(adapter_file)
        )  # None: known when the node runs

    @classmethod
    def execute(cls, adapter_file: str) -> io.NodeOutput:
        adapter = load_adapter(folders.adapter_path(adapter_file))
        return io.NodeOutput(adapter, ui={"text": [_described(adapter)]})

    @classmethod
    def fingerprint_inputs(cls, adapter_file: str | None = None) -> Any:
        return folders.adapter_stamp(adapter_file)


def _described(adapter: HostAdapter) -> str:
    """What was loaded, in words."""
    config = adapter.config
    takes = "the embedding of a picture" if config.pooled else "the hidden states of a picture"
    lines = [
        f"{config.tokens} tokens for each object, from {takes}, {config.vision_width} wide; {len(config.layout.layers)} layers",
    ]
    if not adapter.gated:
        lines.append(
            "A plain IP-Adapter: it has no learned gates, so every gate is 1. Objects are still told apart by their names."
        )
    return "\n".join(lines)


class EncodeObject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_EncodeObjectMIP",
            display_name="Encode Object (MIP)",
            category=wires.MIP_CATEGORY,
            description="Makes an object of one or several pictures of it and a name. The name tells where in the new picture it belongs.",
            search_aliases=["mip", "object", "multi-reference", *inputs.SEARCHED],
            is_output_node=True,  # so that it can run alone and show what the vision model sees, before anything is sampled
            inputs=[
                wires.MIPAdapter.Input("mip_adapter", tooltip="From Load MIP-Adapter."),
                io.Clip.Input(
                    "clip",
                    tooltip="The CLIP of an SDXL checkpoint, which reads the name. Its layers are the usual ones, whatever CLIP Set Last "
                    "Layer says.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="From Load CLIP Vision: CLIP ViT-bigG for model_sdxl.bin, CLIP ViT-H for model_sdxl_plus.bin.",
                ),
                io.Image.Input(
                    "image",
                    tooltip="Pictures of the object. A batch is several pictures of one object; their tokens are averaged.",
                ),
                io.String.Input(
                    "name",
                    default="",
                    multiline=False,
                    tooltip='What it is, in a word or two: "cat", "red jacket". Places in the new picture are found by it. Use the same '
                    "words in the prompt.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The object, painted: white is the object. It is cut out on white, as in training. One mask for all "
                    "pictures, or one for each.",
                ),
                io.String.Input(
                    "points",
                    default="",
                    optional=True,
                    tooltip="Places in the first reference that were clicked; what belongs to them joins the mask. Click on the picture "
                    'below, or write pixels: "120, 80; 140, 95".',
                ),
                inputs.fit(
                    "How what is not square meets the vision model's square, where nothing is cut out: center crop loses the ends of the "
                    "long side (official), pad and stretch keep everything.",
                    rare=True,
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    optional=True,
                    tooltip="This object's weight among several. Leave it at 1 for a single object and use Apply Objects' strength.",
                    **RARE,
                ),
                io.Mask.Input(
                    "region",
                    optional=True,
                    tooltip="Where in the new picture this object may act: white is where it may. One mask of any size; soft edges count.",
                ),
                wires.MIPObjects.Input(
                    "previous", optional=True, tooltip="Objects from another Encode Object (MIP); this one is added after them."
                ),
                inputs.crop(" What is cut out by a mask or by points ends there too."),
            ],
            outputs=[
                wires.MIPObjects.Output(
                    display_name="objects", tooltip="For Apply Objects (MIP), Combine Objects (MIP) and Save Objects (MIP)."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        mip_adapter: HostAdapter,
        clip: Any,
        clip_vision: Any,
        image: Any,
        name: str,
        mask: Any = None,
        points: str = "",
        fit: Any = FITS[0],
        strength: float = 1.0,
        region: Any = None,
        previous: ObjectSet = (),
        crop: str = "",
    ) -> io.NodeOutput:
        check_name(checks.text(name, "name"))
        checks.choice(fit, FITS, "fit")
        strength = checks.strength(strength)
        check_count(len(previous or ()) + 1)
        references = References(as_pictures(image), mask, parse_points(points), fit, parse_crop(crop))
        tower = vision_model(clip_vision)
        check_vision_model(tower, mip_adapter.config)
        encoded = encode_name(clip, name, mip_adapter.config.text_width)
        made = encode_object(mip_adapter.for_encoding(), tower, references, encoded, strength, region)
        return io.NodeOutput(together(previous or (), (made,)), ui=view_of_references(made, references, tower))
