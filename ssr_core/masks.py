"""Masks as other nodes and programs bring them, in one shape and within 0 to 1."""

from __future__ import annotations

import torch
from torch import Tensor

from .finite import fault
from .vision import check_size

SLACK = 0.5
"""How far beyond 0 and 1 a resized or sharpened mask may overshoot; what goes further has another scale, such as 0 to 255."""
MOST_NUMBERS = 1 << 30
"""In all masks of a batch: 4 GB."""


def as_masks(masks: Tensor, what: str) -> Tensor:
    """[H, W], [B, H, W], [B, 1, H, W] or [B, H, W, 1] of any type -> [B, H, W] float32 in 0..1 on the CPU.

    Raises ValueError that says what was given. what: how to name it, at the start of a sentence.
    """
    if not isinstance(masks, Tensor):
        raise ValueError(f"{what} is a {type(masks).__name__}; expected a MASK. Connect a MASK output.")
    shape = tuple(masks.shape)
    if masks.ndim == 4 and 1 in (shape[1], shape[3]):
        masks = masks.squeeze(1 if shape[1] == 1 else 3)
    if masks.ndim == 2:
        masks = masks[None]
    if masks.ndim != 3 or 0 in shape or masks.is_complex():
        hint = " This is an IMAGE; put Convert Image to Mask in between." if masks.ndim == 4 and shape[3] in (3, 4) else ""
        raise ValueError(f"{what} has shape {shape}; expected a MASK, [masks, height, width].{hint}")
    if masks.layout is not torch.strided or masks.device.type == "meta" or masks.is_quantized:
        raise ValueError(
            f"{what} is no plain tensor ({masks.layout}, {masks.device}, {masks.dtype}); expected a MASK. Connect a MASK output."
        )
    check_size(masks.shape[2], masks.shape[1], what)
    if masks.numel() > MOST_NUMBERS:
        raise ValueError(
            f"{what} holds {masks.numel():,} numbers in {masks.shape[0]} masks; at most {MOST_NUMBERS:,} are taken."
        )
    if (found := fault(masks.to(torch.float32), -SLACK, 1 + SLACK)) is not None:
        raise ValueError(f"{what} holds {found}; a MASK has numbers from 0 to 1.")
    return masks.float().clamp(0, 1).cpu()
