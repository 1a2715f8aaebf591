"""The cross-attention layers of a MODEL, and whether weights fit them."""

from __future__ import annotations

from typing import Any

from ...layout import Block, Found, UNetLayout


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


def check_model(model: Any, layout: UNetLayout, text_width: int, what: str) -> None:
    """Refuse a MODEL whose cross-attentions are not those that weights were made for. what: the weights, as in "the SSR-Encoder"."""
    kind = type(model.model).__name__
    layers = cross_attentions(model.model.diffusion_model)
    family = _FAMILIES.get(text_width)
    remedy = "Load the base model that they were made for."
    if family is not None:
        remedy = f"{what[0].upper()}{what[1:]} works with {family} models (and their fine-tunes and LoRAs)."
    if not layers:
        load = "Load a checkpoint of that kind."
        raise ValueError(
            f"This MODEL is a {kind} without the cross-attentions of a Stable Diffusion UNet. {remedy} {load if family else ''}".strip()
        )
    context = layers[0][1].to_k.in_features
    if context != text_width:
        named = {768: " (SD1.x)", 1024: " (SD2.x)", 2048: " (SDXL)", 1280: " (SDXL refiner)"}.get(context, "")
        raise ValueError(f"This MODEL is a {kind} with text width {context}{named}; {what} needs {text_width}. {remedy}")
    difference = layout.mismatch([Found(block, attention.to_q.out_features, attention.heads) for block, attention in layers])
    if difference is not None:
        raise ValueError(f"This MODEL ({kind}) does not fit {what}: {difference}. {remedy}")


def layout_of(model: Any, what: str) -> tuple[UNetLayout, int]:
    """The layout of a MODEL's UNet, and the width of its text. what: needs it, as in "a subject". Raises ValueError for another kind."""
    layers = cross_attentions(model.model.diffusion_model)
    described = model.model.model_config.unet_config
    if not layers or "channel_mult" not in described:
        kind = type(model.model).__name__
        raise ValueError(
            f"This MODEL is a {kind}; {what} needs the UNet of a Stable Diffusion. Load a checkpoint of that kind."
        )
    width, levels = described["model_channels"], len(described["channel_mult"])
    resnets, depths = described["num_res_blocks"], described["transformer_depth"]
    of_block = {block[:2]: attention.heads for block, attention in layers}
    layout = UNetLayout(
        channels=[width * factor for factor in described["channel_mult"]],
        depths=[depths[level * resnets[0]] for level in range(levels)],
        resnets=resnets[0],
        heads=_heads(of_block, levels, resnets[0]),
        mid_depth=sum(block[0] == "middle" for block, _ in layers),
    )
    text_width = layers[0][1].to_k.in_features
    check_model(model, layout, text_width, what)
    return layout, text_width


def _heads(of_block: dict[tuple[str, int], int], levels: int, resnets: int) -> int | list[int]:
    if len(set(of_block.values())) == 1:
        return next(iter(of_block.values()))
    found = [of_block.get(("input", 1 + level * (resnets + 1))) for level in range(levels)]
    last = of_block.get(("middle", 0), 1)
    return [heads or last for heads in found]


_FAMILIES = {768: "Stable Diffusion 1.x", 2048: "Stable Diffusion XL"}
"""By the width of their text."""
