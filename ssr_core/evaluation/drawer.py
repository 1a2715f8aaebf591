"""What a method provides to be measured: it selects something in references, and draws that under prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from PIL import Image
from torch import Tensor

from .. import samplers
from ..points import Point


@dataclass(frozen=True)
class Reference:
    """A picture and what is meant in it: by words, by a mask [H, W], by points in pixels, or by several of them.

    more: further pictures of the same thing, for methods that take several; name: what a benchmark calls it, for methods that keep what
    they learn of it.
    """

    picture: Image.Image
    words: str
    mask: Tensor | None = None
    points: tuple[Point, ...] = ()
    more: tuple[Image.Image, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn, whatever the method. size: their side in pixels; strength: of all references together."""

    size: int
    steps: int
    guidance: float
    strength: float
    negative: str = ""
    sampler: str = samplers.DEFAULT


class Selection(Protocol):
    """What a method took from a reference."""

    def heat(self) -> Tensor:
        """How much of it comes from each patch of the picture that the method saw: [grid, grid]."""

    def shown(self) -> Image.Image:
        """heat as a picture, for people to look at."""


Selected = TypeVar("Selected", bound=Selection)


class Drawer(Protocol[Selected]):
    """A method with trained weights and a base, ready to draw."""

    @property
    def fingerprint(self) -> str:
        """Identity of the trained weights, under which measurements are kept."""

    @property
    def base_fingerprint(self) -> str:
        """Of the models around them, likewise."""

    def select(self, reference: Reference) -> Selected: ...

    def draw(
        self, selections: Sequence[Sequence[Selected]], prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling
    ) -> list[Image.Image]:
        """One picture per prompt. selections: what each of them shows, the same number in each; seeds: of each one's noise."""
