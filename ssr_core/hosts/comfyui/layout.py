"""The cross-attention layers of a MODEL, and whether an encoder fits them."""

from __future__ import annotations

from typing import Any

from ...layout import Block, Found
from ...methods.ssr.encoder import EncoderConfig


def cross_attentions(diffusion_model: Any) -> list[tuple[Block, Any]]:
    """All attn2 layers of a UNet with their block names, found by walking its blocks. [] for anything but a UNet."""
    found: list[tuple[Block, Any]] = []
    stages = {
        "input": getattr(diffusion_model, "input_blocks", ()),
        "middle": (getattr(diffusion_model, "middle_block", ()),),
        "output": getattr(diffusion_model, "output_blocks", ()),
    }
    for stage, blocks in stages.items():
        for number, block in enumerate(blocks):
            for part in block:
                for depth, transformer in enumerate(getattr(part, "transformer_blocks", ())):
                    if getattr(transformer, "attn2", None) is not None:
                        found.append(((stage, number, depth), transformer.attn2))
    return found


def check_model(model: Any, config: EncoderConfig) -> None:
    """Refuse a MODEL whose cross-attentions are not those the encoder was made for."""
    kind = type(model.model).__name__
    layers = cross_attentions(model.model.diffusion_model)
    remedy = "The released SSR-Encoder works with Stable Diffusion 1.x models (and their fine-tunes and LoRAs)."
    if not layers:
        raise ValueError(
            f"This MODEL is a {kind} without the cross-attentions of a Stable Diffusion UNet. {remedy} Load an SD1.5 checkpoint."
        )
    context = layers[0][1].to_k.in_features
    if context != config.text_width:
        named = {1024: " (SD2.x)", 2048: " (SDXL)", 1280: " (SDXL refiner)"}.get(context, "")
        raise ValueError(
            f"This MODEL is a {kind} with text width {context}{named}; the SSR-Encoder needs {config.text_width}. {remedy}"
        )
    difference = config.layout.mismatch(
        [Found(block, attention.to_q.out_features, attention.heads) for block, attention in layers]
    )
    if difference is not None:
        raise ValueError(f"This MODEL ({kind}) does not fit the encoder: {difference}. {remedy}")
