"""Where in the new picture each subject acted: summed up while the picture is sampled, and only if a node asks for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .schedule import Area


class Footprint:
    """Where the subjects of one sampling acted. queries: the subjects' queries, in order.

    Measured is how large a subject's contribution is compared to the text's, averaged over layers and steps.
    """

    def __init__(self, queries: Sequence[str]) -> None:
        self.queries = tuple(queries)
        self._noted: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}
        """By picture and by the device that drew it: sums [subjects, H, W] and numbers of passes [H, W]."""

    def add(
        self,
        magnitudes: Tensor,
        canvas: tuple[int, int],
        area: Area | None = None,
        pictures: Sequence[int] | None = None,
    ) -> None:
        """Add one layer of one pass. magnitudes: [subjects, pictures, h, w] over the crop `area` of the canvas, None for all of it.

        canvas: latent height and width of the whole picture. pictures: their numbers in the whole batch (a context window), None for
        the first ones.
        """
        height, width, top, left = area or (*canvas, 0, 0)
        grown = F.interpolate(magnitudes.float(), size=(height, width), mode="bilinear", align_corners=False)
        place = (slice(top, top + height), slice(left, left + width))
        for column, picture in enumerate(range(grown.shape[1]) if pictures is None else pictures):
            key = (picture, grown.device)
            if key not in self._noted:
                self._noted[key] = grown.new_zeros(len(self.queries), *canvas), grown.new_zeros(canvas)
            sums, passes = self._noted[key]
            sums[(slice(None), *place)] += grown[:, column]
            passes[place] += 1

    def settle(self) -> None:
        """Move the sums off the devices: they wait in main memory until a node asks for them."""
        settled: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}
        for (picture, _), (sums, passes) in self._noted.items():
            key = (picture, torch.device("cpu"))
            others = settled.get(key, (0, 0))
            settled[key] = (others[0] + sums.cpu(), others[1] + passes.cpu())
        self._noted = settled

    def maps(self) -> Tensor:
        """[subjects, pictures, H, W] in 0..1, divided by the largest value of each picture, so that its subjects can be compared."""
        self.settle()
        if not self._noted:
            raise ValueError(
                "No subject acted in the sampling that was recorded: its strength was 0, no step was in its window, "
                "or it was drawn in tiles that could not be found in the picture."
            )
        means = [sums / passes.clamp_min(1) for _, (sums, passes) in sorted(self._noted.items(), key=lambda entry: entry[0][0])]
        maps = torch.stack(means, dim=1)  # [subjects, pictures, H, W]
        return maps / maps.amax(dim=(0, 2, 3), keepdim=True).clamp_min(1e-12)


def magnitude(delta: Tensor, text: Tensor) -> Tensor:
    """How large a contribution is compared to the text's: [B, L, C] each -> [B, L], 1 where it is as large as the text's average."""
    size = text.float().norm(dim=-1).mean(dim=-1, keepdim=True)  # [B, 1]
    return delta.float().norm(dim=-1) / size.clamp_min(1e-12)
