"""Pictures of a subject as they are learned from: square, mirrored and not, as they are and smaller on black, each encoded once.

The authors draw a size anew every time and encode every time; a few sizes that are encoded once before the first step show the same, and
no step runs the autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SCALES = (0.75, 0.85, 0.95)
"""Of the pictures that are shown smaller; the authors draw between 0.7 and 1 (askerlee/AdaFace-dev, ldm/data/personalized.py)."""
HALF = 0.5
"""Of a latent's cell that must be marked for it to count."""
FITS = ("crop", "stretch")
"""How a picture becomes square: its middle, or the whole pulled to a square, as the authors do."""
MOST_PICTURES = 200

EncodePixels = Callable[[Tensor], Tensor]
"""[1, 3, S, S] in -1..1 -> the scaled latent's mean [1, 4, S/8, S/8] float32."""


class Views(NamedTuple):
    """latents: [P, V, 4, h, w]; masks: [P, V, h, w] of 0 and 1, what counts; both on the CPU. plain: how many of V are of full size."""

    latents: Tensor
    masks: Tensor
    plain: int

    @property
    def scaled(self) -> int:
        return self.latents.shape[1] - self.plain

    def chosen(self, pictures: Sequence[int], views: Sequence[int]) -> tuple[Tensor, Tensor]:
        """[B, 4, h, w], [B, h, w]."""
        return self.latents[list(pictures), list(views)], self.masks[list(pictures), list(views)]


def squared(picture: Tensor, side: int, fit: str = "crop") -> Tensor:
    """[C, H, W] -> [C, side, side]."""
    if fit == "crop":
        height, width = picture.shape[-2:]
        short = min(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        picture = picture[:, top : top + short, left : left + short]
    if picture.shape[-2:] == (side, side):
        return picture
    return F.interpolate(picture[None].float(), (side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)


def views_of(
    pictures: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    encode: EncodePixels,
    coarsest: int,
    scaled: bool = True,
    on_view: Callable[[], None] = lambda: None,
) -> Views:
    """pictures: [3, S, S] in 0..1 each; masks: [S, S] in 0..1 or None for the whole picture; coarsest: cells along a side of the UNet's
    smallest features; on_view: called before each is encoded.

    Raises ValueError for a mask that leaves nothing there, since what enters a layer could not be averaged over it.
    """
    if not 1 <= len(pictures) <= MOST_PICTURES:
        raise ValueError(f"A subject is learned from 1 to {MOST_PICTURES} pictures, got {len(pictures)}; 3 to 10 are usual.")
    latents, parts = [], []
    for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True), start=1):
        whole = torch.ones(picture.shape[-2:]) if mask is None else mask
        for scale in (1.0, *(SCALES if scaled else ())):
            shown, part = _smaller(picture, scale), _smaller(whole[None], scale)
            for flipped in (False, True):
                on_view()
                pixels, marked = (one.flip(-1) if flipped else one for one in (shown, part))
                latent = encode(pixels[None] * 2 - 1)[0].float().cpu()
                cells = (F.adaptive_avg_pool2d(marked[None], (latent.shape[-2], latent.shape[-1]))[0, 0] > HALF).float()
                if not F.interpolate(cells[None, None], (coarsest, coarsest), mode="nearest").any():
                    raise ValueError(
                        f"The mask of picture {number} marks too little to learn from. Crop the picture closer to the subject, or mark it "
                        "more generously."
                    )
                latents.append(latent)
                parts.append(cells)
    count = len(pictures)
    return Views(
        torch.stack(latents).view(count, -1, *latents[0].shape), torch.stack(parts).view(count, -1, *parts[0].shape), plain=2
    )


def _smaller(picture: Tensor, scale: float) -> Tensor:
    """[C, S, S] around the centre of black: the same size."""
    side = picture.shape[-1]
    own = round(side * scale)
    if own == side:
        return picture
    shrunk = F.interpolate(picture[None].float(), (own, own), mode="bilinear", antialias=True)[0]
    before = (side - own) // 2
    return F.pad(shrunk, (before, side - own - before, before, side - own - before))
