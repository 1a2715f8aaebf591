"""The training objective: noise prediction plus embedding consistency (arXiv 2312.16272 section 3.4, official code)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NOISY_LIMIT, CLEAN_LIMIT = 12.0, 10.0
"""Largest weight of a noisy timestep before normalising; signal-to-noise ratio above which clean timesteps weigh less."""


class Loss(NamedTuple):
    """total = noise + weight * consistency, all scalars in float32."""

    total: Tensor
    noise: Tensor
    consistency: Tensor


def embedding_consistency(tokens: Tensor, query: Tensor) -> Tensor:
    """How far the subject tokens of every scale turn away from the query's own tokens.

    tokens: [B, S*T, D], query: [B, T, D] -> scalar in 0..2S: the SUM over scales of the mean over batch and tokens of 1 - cosine.
    """
    scales = tokens.float().unflatten(1, (-1, query.shape[1]))  # [B, S, T, D]
    cosine = F.cosine_similarity(scales, query.detach().float()[:, None], dim=-1)  # [B, S, T]
    return (1 - cosine).mean(dim=(0, 2)).sum()


def objective(
    predicted: Tensor, noise: Tensor, tokens: Tensor, query: Tensor, weight: float, sample_weights: Tensor | None = None
) -> Loss:
    """The loss of one step. predicted, noise: [B, 4, h, w]; weight 0 drops the regulariser.

    sample_weights: [B] of the noise loss, or None for the official code's, which are all 1.
    """
    if sample_weights is None:
        noise_loss = F.mse_loss(predicted.float(), noise.float())
    else:
        errors = (predicted.float() - noise.float()).square().mean(dim=(1, 2, 3))  # [B]
        noise_loss = (sample_weights * errors).mean()
    consistency = embedding_consistency(tokens, query) if weight else torch.zeros((), device=predicted.device)
    return Loss(noise_loss + weight * consistency, noise_loss, consistency)


def balanced_weights(alphas_cumprod: Tensor) -> Tensor:
    """Weight of each timestep's noise loss, 1 on average: [timesteps] -> [timesteps].

    What a picture shows is decided where little more than noise is seen, and there the plain loss hardly feels it; so noisy steps
    weigh as they do in v-prediction (arXiv 2202.00512), clean ones as in Min-SNR (arXiv 2303.09556). Small latents need this more
    than large ones: fewer values share what they tell.
    """
    ratio = alphas_cumprod / (1 - alphas_cumprod)  # signal to noise
    weights = ((ratio + 1) / ratio).clamp(max=NOISY_LIMIT) * (CLEAN_LIMIT / ratio).clamp(max=1.0)
    return weights / weights.mean()
