"""How strongly something acts: over the steps, the layers, the pictures of a batch, and the places of the output picture.

Plain numbers and masks; the host says where in the sampling it is and which layers it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from . import finite
from .finite import LARGEST_STRENGTH
from .layout import CrossAttention, UNetLayout
from .masks import as_masks
from .shown import shown

MOST_NUMBERS = 10_000
"""In a list: a strength for each frame of seven minutes of film."""
MOST_LETTERS = 200_000
"""Of a text with such a list."""

CURVES: dict[str, tuple[float, ...]] = {
    "constant": (1.0,),
    "fade in": (0.0, 1.0),
    "fade out": (1.0, 0.0),
    "ease in": (0.0, 0.104, 0.352, 0.648, 0.896, 1.0),
    "ease out": (1.0, 0.896, 0.648, 0.352, 0.104, 0.0),
    "rise and fall": (0.0, 1.0, 0.0),
    "fall and rise": (1.0, 0.0, 1.0),
}
"""Strength over the active steps, as equally spaced values joined by lines. The eases sample 3 t^2 - 2 t^3."""

BLOCK_PRESETS: dict[str, Callable[[CrossAttention], bool]] = {
    "all": lambda layer: True,
    "encoder only": lambda layer: layer.block[0] == "input",
    "middle only": lambda layer: layer.block[0] == "middle",
    "decoder only": lambda layer: layer.block[0] == "output",
    "no encoder": lambda layer: layer.block[0] != "input",
    "no decoder": lambda layer: layer.block[0] != "output",
}
"""Which layers see the subject, by where they are in a UNet of any layout: encoder, middle, decoder are its input, middle and output
blocks."""

LAYER_PRESETS: dict[str, Callable[[CrossAttention], bool]] = {
    **BLOCK_PRESETS,
    "structure": lambda layer: layer.block[0] == "output" and layer.level > 0,
    "detail": lambda layer: layer.block[0] == "output" and layer.level == 0,
}
"""The same for UNets with cross-attentions at their finest level, as SD1.x has: structure and detail are named after what they did when
measured on Mini (docs/measurements.md). The decoder's coarser layers carry what the subject is without its colours, its finest layers give
the colours to what the prompt names."""


@dataclass(frozen=True)
class StepSchedule:
    """When a subject acts. start, end: share of the sampling in 0..1; curve: multipliers over that window."""

    start: float = 0.0
    end: float = 1.0
    curve: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            object.__setattr__(self, name, float(value) if isinstance(value, float) else finite.finite(value, name))
        if not 0.0 <= self.start <= 1.0 or not 0.0 <= self.end <= 1.0 or self.start > self.end:
            raise ValueError(
                f"start {self.start} and end {self.end} must lie in 0..1 with start not after end. Swap or correct them."
            )
        object.__setattr__(self, "curve", _strengths(self.curve, "The strength curve"))
        if not self.curve:
            raise ValueError("The strength curve is empty; it must be one or more finite numbers.")

    @property
    def always_full(self) -> bool:
        """Whether the schedule is 1 everywhere, so that the step need not be known."""
        return self.start == 0.0 and self.end == 1.0 and all(value == 1.0 for value in self.curve)

    def at(self, progress: float) -> float:
        """Multiplier at a share of the sampling in 0..1; 0 outside the window."""
        if not self.start <= progress <= self.end:
            return 0.0
        if len(self.curve) == 1 or self.end == self.start:
            return self.curve[0]
        place = (progress - self.start) / (self.end - self.start) * (len(self.curve) - 1)
        left = min(int(place), len(self.curve) - 2)
        return self.curve[left] + (self.curve[left + 1] - self.curve[left]) * (place - left)


@dataclass(frozen=True, eq=False)
class Manner:
    """How something acts on a UNet: all that multiplies its branches, in one value.

    strength: of all of it; pictures: a multiplier for each picture of the batch (frame of an animation), () for 1; a longer batch holds
    the last one. layers: a multiplier per layer in checkpoint order, () for 1. steps: when it acts. region: [frames, H, W] in 0..1 over
    the output picture (as masks.as_masks takes it), or None for everywhere. Raises ValueError for numbers that are none or together
    beyond LARGEST_STRENGTH, and for a region that is none or empty.
    """

    strength: float = 1.0
    pictures: tuple[float, ...] = ()
    layers: tuple[float, ...] = ()
    steps: StepSchedule = field(default_factory=StepSchedule)
    region: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", finite.strength(self.strength))
        object.__setattr__(self, "pictures", _strengths(self.pictures, "The list of frame strengths"))
        object.__setattr__(self, "layers", _strengths(self.layers, "The list of layer strengths"))
        if not isinstance(self.steps, StepSchedule):
            raise ValueError(f"steps is a {type(self.steps).__name__}; expected a StepSchedule.")
        together = abs(self.strength)
        for factors in (self.pictures, self.layers, self.steps.curve):
            together *= max(map(abs, factors), default=1.0)
        if together > LARGEST_STRENGTH:
            raise ValueError(
                f"strength, frame strengths, layer strengths and curve come to {together:g} where they are largest; together they may be "
                f"{LARGEST_STRENGTH:g} at most. Lower one of them."
            )
        if self.region is not None:
            object.__setattr__(self, "region", _checked_region(self.region))

    def within(self, region: Tensor | None) -> Manner:
        """The same, where a second region [1, H, W] lets it: both multiply, at the larger one's size. Itself for None."""
        if region is None:
            return self
        if self.region is not None:
            size = max(self.region.shape[-2], region.shape[-2]), max(self.region.shape[-1], region.shape[-1])
            region = _resize(self.region[:, None], size)[:, 0].clamp(0, 1) * _resize(region[:, None], size)[:, 0].clamp(0, 1)
            if not bool((region > 0).any()):
                raise ValueError(
                    "The object's own region and the region here do not meet, so it could act nowhere. Let them overlap, or disconnect one."
                )
        return replace(self, region=region)

    @property
    def acts(self) -> bool:
        """Whether strength, pictures and layers leave anything of it."""
        return bool(self.strength and any(self.pictures or (1.0,)) and any(self.layers or (1.0,)))

    def check_layers(self, layout: UNetLayout) -> None:
        """Refuse multipliers for another number of layers than a UNet has; raises ValueError."""
        if len(self.layers) not in (0, len(layout.layers)):
            raise ValueError(
                f"The list of layer strengths has {len(self.layers)} numbers for a UNet of {len(layout.layers)} cross-attention layers. "
                "Make it with layer_strengths."
            )

    def in_layer(self, index: int) -> float:
        """Multiplier of a layer, by its number in checkpoint order."""
        return self.layers[index] if self.layers else 1.0


def _strengths(numbers: Sequence[float], what: str) -> tuple[float, ...]:
    """A list, or one of numpy's or torch's, as a tuple. Bytes and dictionaries would pass as lists of numbers."""
    try:
        count = len(numbers)
        if isinstance(numbers, str | bytes | bytearray | Mapping | Set):
            raise TypeError
    except TypeError:
        raise ValueError(f"{what} is a {type(numbers).__name__}; expected a list of numbers.") from None
    if count > MOST_NUMBERS:
        raise ValueError(f"{what} has {count:,} numbers; at most {MOST_NUMBERS:,} are read.")
    return tuple(finite.strength(number, f"{what}: number {place}") for place, number in enumerate(numbers, start=1))


def _checked_region(region: Tensor) -> Tensor:
    region = as_masks(region, "The region")
    if not bool((region > 0).any()):
        raise ValueError(
            "The region is empty (all zero), so the subject could act nowhere. Paint where it may act, or disconnect the mask. "
            "(Load Image gives an all-zero MASK for a picture without alpha.)"
        )
    return region


def parse_numbers(text: str, what: str) -> tuple[float, ...]:
    """Numbers separated by commas, spaces or line breaks, each a strength."""
    if not isinstance(text, str):
        raise ValueError(
            f'{what} is a {type(text).__name__}; expected a text of numbers separated by commas, such as "1, 0.5, 0".'
        )
    if len(text) > MOST_LETTERS:
        raise ValueError(f"{what} is a text of {len(text):,} characters; at most {MOST_LETTERS:,} are read.")
    try:
        numbers = tuple(float(word) for word in text.replace(",", " ").replace(";", " ").split())
    except ValueError:
        raise ValueError(f'{what} is "{shown(text, 60)}"; expected numbers separated by commas, such as "1, 0.5, 0".') from None
    if not all(abs(number) <= LARGEST_STRENGTH for number in numbers):
        raise ValueError(f'{what} is "{shown(text, 60)}"; every number must be finite and at most {LARGEST_STRENGTH:g}.')
    if len(numbers) > MOST_NUMBERS:
        raise ValueError(f"{what} holds {len(numbers):,} numbers; at most {MOST_NUMBERS:,} are read.")
    return numbers


def layer_strengths(layout: UNetLayout, preset: str = "all", numbers: Sequence[float] = ()) -> tuple[float, ...]:
    """A multiplier per layer in checkpoint order, from a preset or from numbers in execution order (input, middle, output).

    One number serves all layers; three serve the input, middle and output blocks; as many as there are layers serve one layer each.
    """
    numbers = _strengths(numbers, "The list of layer strengths")
    if not numbers:
        if not isinstance(preset, str) or preset not in LAYER_PRESETS:
            raise ValueError(f'There is no layer preset "{shown(preset, 60)}". Choose one of: {", ".join(LAYER_PRESETS)}.')
        if preset not in BLOCK_PRESETS and not layout.depths[0]:
            raise ValueError(
                f'The layer preset "{preset}" is measured on SD1.x, and this model has no cross-attention at its finest level. Choose one '
                f"of: {', '.join(BLOCK_PRESETS)}."
            )
        return tuple(float(LAYER_PRESETS[preset](layer)) for layer in layout.layers)
    order = layout.execution_order
    stages = ("input", "middle", "output")
    strengths: dict[CrossAttention, float]
    if len(numbers) == 1:
        strengths = dict.fromkeys(order, numbers[0])
    elif len(numbers) == len(stages):
        strengths = {layer: numbers[stages.index(layer.block[0])] for layer in order}
    elif len(numbers) == len(order):
        strengths = dict(zip(order, numbers, strict=True))
    else:
        raise ValueError(
            f"{len(numbers)} layer strengths given; expected 1, 3 (input, middle, output) or {len(order)} "
            "(one per cross-attention layer, in the order the UNet runs them)."
        )
    return tuple(strengths[layer] for layer in layout.layers)


Area = tuple[int, int, int, int]
"""(height, width, top, left) of a crop, in latent cells."""


def region_weights(region: Tensor, canvas: tuple[int, int], area: Area | None, grid: tuple[int, int]) -> Tensor:
    """Weight per position of one layer: region [F, H, W] in 0..1 over the whole picture -> [F, h*w, 1].

    canvas: latent height and width of the whole picture; area: the part of it this pass works on, None for all;
    grid: height and width of the layer's tokens. Soft edges stay soft.
    """
    weights = region[:, None].float()  # [F, 1, H, W]
    if area is not None:
        weights = _resize(weights, canvas)
        height, width, top, left = area
        weights = weights[..., top : top + height, left : left + width]
    weights = _resize(weights, grid)
    return weights.clamp(0, 1).flatten(1)[..., None]


def frame_index(count: int, pictures: int, indices: Sequence[int] | None) -> Tensor:
    """Which of the count entries of a list (strengths, a region's frames) each picture of a pass takes: [pictures] int64.

    indices: which pictures of the whole batch the pass works on (a context window), None for the first ones. If the batch is longer
    than the list, the list's last entry serves the rest.
    """
    return torch.tensor(list(range(pictures) if indices is None else indices)).clamp(max=count - 1)


def frame_weights(strengths: Sequence[float], pictures: int, indices: Sequence[int] | None) -> Tensor:
    """Strength per picture of a pass, from one per picture of the whole batch, chosen by frame_index: [1, pictures, 1, 1]."""
    return torch.tensor(strengths)[frame_index(len(strengths), pictures, indices)].view(1, -1, 1, 1)


def one_each(count: int, strengths: Sequence[float] = ()) -> tuple[tuple[float, ...], ...]:
    """Strengths per picture for each of `count` subjects, by which picture i of the batch has subject i alone, and the pictures after them
    the last one. strengths: per picture of whichever subject it has, () for 1."""
    given = strengths or (1.0,)
    pictures = range(max(count, len(given)))
    own = [given[min(picture, len(given) - 1)] for picture in pictures]
    return tuple(
        tuple(own[picture] if min(picture, count - 1) == subject else 0.0 for picture in pictures) for subject in range(count)
    )


def positions_where(weights: Tensor, pictures: int, length: int) -> Tensor | None:
    """The positions where a weight is not zero in some chunk, numbered through the pictures of a chunk: picture * L + position.

    weights: [chunks, 1 or pictures, 1 or L, 1] on the CPU, so that no device is waited for -> [M] int64; None for all positions.
    """
    acting = (weights != 0).any(dim=0)[..., 0].expand(pictures, length).flatten()  # [pictures * L]
    return None if bool(acting.all()) else acting.nonzero()[:, 0]


def _resize(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrinking averages over what a cell covers, so that an edge on a cell's border does not bleed across it."""
    if weights.shape[-2] >= size[0] and weights.shape[-1] >= size[1]:
        return F.interpolate(weights, size=size, mode="area")
    return F.interpolate(weights, size=size, mode="bilinear", antialias=True, align_corners=False)
