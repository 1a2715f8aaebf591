"""Which side each chunk of a batch is on, and which crop of the picture it works on.

cond_or_uncond alone does not tell: SAG labels a negative pass 0, DualCFG labels its negative 0 and its positive 2. The guider's own
lists of conds do: by identity, else by the uuids of their conds. The label decides where both sides share a uuid, and where there is no
guider; a list that a guider does not know is on the null side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...attention import NULL, SUBJECT
from ...schedule import Area

Conds = Sequence[Mapping[str, Any]] | None

NEGATIVES = ("negative", "empty_negative_prompt")
"""What guiders call the lists that are subtracted; the second is PerpNegGuider's. All other lists are on the subject's side."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """What a batch of conds tells: the side of each cond list, crops by label and uuid, and the latent that the conds are for.

    whole: whether that latent holds whole pictures, and not parts cut by context windows along height or width.
    """

    sides: tuple[int, ...]
    areas: Mapping[tuple[int, Any], Area]
    latent: Tensor
    whole: bool = True

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of the whole picture in latent cells."""
        height, width = self.latent.shape[-2:]
        return height, width

    def side(self, label: int) -> int:
        return self.sides[label] if label < len(self.sides) else side_of_label(label)

    def area(self, label: int, uuid: Any) -> Area | None:
        return self.areas.get((label, uuid))


def side_of_label(label: int) -> int:
    return SUBJECT if label == 0 else NULL


def read_conditions(
    guider_conds: Mapping[str, Conds], lists: Sequence[Conds], latent: Tensor, whole: bool = True
) -> Conditions:
    """guider_conds: the guider's cond lists by name ("positive", "negative", ...); lists: those of this batch, by label."""
    sides = tuple(_side(guider_conds, conds, label) for label, conds in enumerate(lists))
    areas = {
        (label, cond.get("uuid")): _within(cond["area"], latent)
        for label, conds in enumerate(lists)
        for cond in conds or ()
        if len(cond.get("area") or ()) == 4 and isinstance(cond["area"][0], int)
    }
    return Conditions(sides, areas, latent, whole)


def _within(area: Sequence[int], latent: Tensor) -> Area:
    """An area as the host cuts it: without what lies outside the picture."""
    height, width, top, left = area
    return min(height, latent.shape[-2] - top), min(width, latent.shape[-1] - left), top, left


def _side(guider_conds: Mapping[str, Conds], conds: Conds, label: int) -> int:
    for name, known in guider_conds.items():
        if conds is not None and known is conds:
            return side_of_name(name)
    if not guider_conds or not conds:
        return side_of_label(label)
    # Context windows remake the lists, but their conds keep their uuids. Area conds and their automatic negatives share one: then only
    # the label is left.
    uuids = {cond.get("uuid") for cond in conds} - {None}
    names = {name for name, known in guider_conds.items() for cond in known or () if cond.get("uuid") in uuids}
    sides = {side_of_name(name) for name in names}
    if not sides:
        return NULL  # a list that a node made for itself, as Perp-Neg does its empty prompt: it is there to be subtracted
    return sides.pop() if len(sides) == 1 else side_of_label(label)


def side_of_name(name: str) -> int:
    """Of what a guider calls a list of conds."""
    return NULL if name in NEGATIVES else SUBJECT


def window_of(tile: Tensor, whole: Tensor) -> Area | None:
    """Where a tile was cut out of a picture, found by its values, since nothing else tells: [n, C, h, w] in [n, C, H, W].

    None if it is not found, or found in several places, as in an empty latent without noise.
    """
    height, width = tile.shape[-2:]
    if tile.shape[:2] != whole.shape[:2] or height > whole.shape[-2] or width > whole.shape[-1]:
        return None
    whole = whole.to(tile.device)
    corners = whole[0, 0, : whole.shape[-2] - height + 1, : whole.shape[-1] - width + 1]
    found = None
    for top, left in (corners == tile[0, 0, 0, 0]).nonzero().tolist():
        if torch.equal(whole[..., top : top + height, left : left + width], tile):
            if found is not None:
                return None
            found = (height, width, top, left)
    return found
