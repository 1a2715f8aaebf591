"""The training objective of the SSR-Encoder: noise prediction plus embedding consistency (arXiv 2312.16272, section 3.4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...losses import noise_loss


class Loss(NamedTuple):
    """total = noise + weight * consistency, all scalars in float32."""

    total: Tensor
    noise: Tensor
    consistency: Tensor


def embedding_consistency(tokens: Tensor, query: Tensor, shares: Tensor | None = None) -> Tensor:
    """How far the subject tokens of every scale turn away from the query's own tokens.

    tokens: [B, S*T, D], query: [B, T, D] -> scalar in 0..2S: the SUM over scales of the mean over batch and tokens of 1 - cosine.
    shares: [B], how much each entry of the batch counts, summing to 1; None for all alike.
    """
    scales = tokens.float().unflatten(1, (-1, query.shape[1]))  # [B, S, T, D]
    cosine = F.cosine_similarity(scales, query.detach().float()[:, None], dim=-1)  # [B, S, T]
    if shares is None:
        return (1 - cosine).mean(dim=(0, 2)).sum()
    return ((1 - cosine).mean(dim=2).sum(dim=1) * shares).sum()


def objective(
    predicted: Tensor,
    noise: Tensor,
    tokens: Tensor,
    query: Tensor,
    weight: float,
    sample_weights: Tensor | None = None,
    shares: Tensor | None = None,
) -> Loss:
    """The loss of one step. predicted, noise: [B, 4, h, w]; weight 0 drops the regulariser.

    sample_weights: [B] of the noise loss, or None for 1 everywhere (Xiaojiu-z/SSR_Encoder, train.py). shares: as embedding_consistency
    takes them; tokens and query may be of several subjects a sample.
    """
    of_noise = noise_loss(predicted, noise, sample_weights)
    consistency = embedding_consistency(tokens, query, shares) if weight else torch.zeros((), device=predicted.device)
    return Loss(of_noise + weight * consistency, of_noise, consistency)
