"""The objectives of ELITE's two training stages: noise prediction, and words or local values that stay small (arXiv 2302.13848, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ...losses import noise_loss

Scaling = Literal["official", "per value"]
SCALINGS: tuple[Scaling, ...] = get_args(Scaling)
"""How the second stage counts the noise loss.

official: by the mask's places, each with four channels, so that it is four times the first stage's (csyxwei/ELITE, train_local.py)
per value: by values, as in the first stage
"""

WORDS_WEIGHT = 0.01
"""csyxwei/ELITE, train_global.py."""
VALUES_WEIGHT = 1e-4
"""csyxwei/ELITE, train_local.py."""


class Loss(NamedTuple):
    """total = noise + the stage's weight * size, all scalars in float32."""

    total: Tensor
    noise: Tensor
    size: Tensor


def global_objective(
    predicted: Tensor,
    noise: Tensor,
    words: Tensor,
    weight: float = WORDS_WEIGHT,
    sample_weights: Tensor | None = None,
) -> Loss:
    """The first stage's loss. predicted, noise: [B, 4, h, w]; words: [B, S, D], all that were put into the prompt; sample_weights: [B]."""
    of_noise = noise_loss(predicted, noise, sample_weights)
    size = words.float().abs().mean()
    return Loss(of_noise + weight * size, of_noise, size)


def local_objective(
    predicted: Tensor,
    noise: Tensor,
    mask: Tensor,
    values: Sequence[Tensor],
    scaling: Scaling = "official",
    weight: float = VALUES_WEIGHT,
    sample_weights: Tensor | None = None,
) -> Loss:
    """The second stage's loss. mask: [B, 1, h, w], where the loss counts; values: of each layer, [B, N, C] of the local tokens."""
    of_noise = masked_noise_loss(predicted, noise, mask, scaling, sample_weights)
    size = torch.stack([value.float().abs().mean() for value in values]).mean()
    return Loss(of_noise + weight * size, of_noise, size)


def masked_noise_loss(
    predicted: Tensor, noise: Tensor, mask: Tensor, scaling: Scaling, sample_weights: Tensor | None = None
) -> Tensor:
    """Squared error under a mask, divided by its area, averaged over samples. A sample without any area counts as no error."""
    mask = mask.float()
    errors = ((predicted.float() - noise.float()).square() * mask).sum(dim=(1, 2, 3))  # [B]
    per_sample = errors / mask.sum(dim=(1, 2, 3)).clamp_min(1.0)
    if scaling == "per value":
        per_sample = per_sample / predicted.shape[1]
    return (per_sample if sample_weights is None else per_sample * sample_weights).mean()
