"""Where in the new picture each subject acted: summed up while it is sampled, and only if somebody asked for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .schedule import Area


class Footprint:
    """Of one sampling. queries: the subjects, in order; canvas: latent height and width of the whole picture.

    What counts is how large a subject's contribution is beside the text's, averaged over layers and steps.
    """

    def __init__(self, queries: Sequence[str], canvas: tuple[int, int]) -> None:
        self.queries = tuple(queries)
        self.canvas = canvas
        self._sums: dict[int, Tensor] = {}
        self._passes: dict[int, Tensor] = {}

    def add(self, magnitudes: Tensor, area: Area | None = None, pictures: Sequence[int] | None = None) -> None:
        """One layer of one pass. magnitudes: [subjects, pictures, h, w] over the crop `area` of the canvas (None: all of it);
        pictures: their numbers in the whole batch (a context window), None for the first ones.
        """
        height, width, top, left = area or (*self.canvas, 0, 0)
        grown = F.interpolate(magnitudes.float(), size=(height, width), mode="bilinear", align_corners=False)
        place = (slice(top, top + height), slice(left, left + width))
        for column, picture in enumerate(range(grown.shape[1]) if pictures is None else pictures):
            if picture not in self._sums:
                self._sums[picture] = grown.new_zeros(len(self.queries), *self.canvas)
                self._passes[picture] = grown.new_zeros(self.canvas)
            self._sums[picture][(slice(None), *place)] += grown[:, column]
            self._passes[picture][place] += 1

    def maps(self) -> Tensor:
        """[subjects, pictures, H, W] in 0..1, divided by the largest value of each picture, so that its subjects compare."""
        if not self._sums:
            raise ValueError(
                "No subject acted in the sampling that was recorded: its strength was 0, no step was in its window, "
                "or it was drawn in tiles that could not be found in the picture."
            )
        means = [self._sums[picture] / self._passes[picture].clamp_min(1) for picture in sorted(self._sums)]
        maps = torch.stack(means, dim=1).cpu()  # [subjects, pictures, H, W]
        return maps / maps.amax(dim=(0, 2, 3), keepdim=True).clamp_min(1e-12)


def magnitude(delta: Tensor, text: Tensor) -> Tensor:
    """How large a contribution is beside the text's: [B, L, C] each -> [B, L], 1 where it is as large as the text is on average."""
    size = text.float().norm(dim=-1).mean(dim=-1, keepdim=True)  # [B, 1]
    return delta.float().norm(dim=-1) / size.clamp_min(1e-12)
