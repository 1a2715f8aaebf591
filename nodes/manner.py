"""The inputs that every Apply node has, in their order, and the Manner that they tell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from comfy_api.latest import io

from ..ssr_core.layout import UNetLayout
from ..ssr_core.schedule import CURVES, Manner, StepSchedule, layer_strengths, parse_numbers
from . import checks
from .compat import RARE


def strength(default: float, tooltip: str) -> io.Input:
    return io.Float.Input("strength", default=default, min=0.0, max=3.0, step=0.05, tooltip=tooltip)


def schedule(what: str, presets: Iterable[str], about_layers: str, amount: str = "the strength") -> list[io.Input]:
    """When and in which layers. what: acts, as in "the subject"; about_layers: the tooltip of the presets; amount: what curves multiply."""
    return [
        io.Float.Input(
            "start",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip=f"Share of the sampling at which {what} sets in.",
        ),
        io.Float.Input(
            "end",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip=f"Share of the sampling at which {what} stops. Counted on the full noise schedule, as for ControlNet.",
        ),
        io.Combo.Input(
            "curve",
            options=list(CURVES),
            default="constant",
            tooltip=f"How {amount} runs from start to end.",
        ),
        io.Combo.Input("layers", options=list(presets), default="all", tooltip=about_layers),
    ]


def places(what: str, layers: int) -> list[io.Input]:
    """Where, and numbers in place of presets. layers: how many cross-attentions the UNet has."""
    return [
        io.Mask.Input(
            "region",
            optional=True,
            tooltip=f"Where in the new picture {what} may act: white is where it may. Any size, soft edges count; several "
            "masks are used picture by picture.",
        ),
        io.String.Input(
            "layer_strengths",
            default="",
            optional=True,
            tooltip="Overrides layers. Multipliers: 1 number, 3 (input, middle, output), "
            f"or {layers} (one per cross-attention, in running order).",
            **RARE,
        ),
        io.String.Input(
            "curve_values",
            default="",
            optional=True,
            tooltip='Overrides curve: multipliers spread evenly from start to end and joined by lines, such as "0, 1, 0.5".',
            **RARE,
        ),
        io.String.Input(
            "frame_strengths",
            default="",
            optional=True,
            tooltip='Multipliers for the pictures of the batch, such as the frames of an animation: "1, 0.5, 0". The last one '
            "holds for those that follow.",
            **RARE,
        ),
    ]


def manner(
    layout: UNetLayout,
    presets: Iterable[str],
    strength: Any,
    start: float,
    end: float,
    curve: str,
    layers: str,
    region: Any = None,
    layer_strengths_text: str = "",
    curve_values: str = "",
    frame_strengths: str = "",
) -> Manner:
    """What the widgets say. Raises ValueError that names the widget."""
    numbers = parse_numbers(layer_strengths_text, "layer_strengths")
    if not numbers:
        checks.choice(layers, tuple(presets), "layers")
    values = parse_numbers(curve_values, "curve_values") or CURVES[checks.choice(curve, tuple(CURVES), "curve")]
    return Manner(
        *checks.strengths(strength, parse_numbers(frame_strengths, "frame_strengths")),
        layers=layer_strengths(layout, layers, numbers),
        steps=StepSchedule(start, end, values),
        region=region,
    )
