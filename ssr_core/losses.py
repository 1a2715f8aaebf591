"""What every method's objective shares: the noise loss and the weights of its timesteps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

NOISY_LIMIT, CLEAN_LIMIT = 12.0, 10.0
"""The largest weight of a noisy timestep before normalising, and the signal-to-noise ratio above which clean ones weigh less."""


def noise_loss(predicted: Tensor, noise: Tensor, sample_weights: Tensor | None = None) -> Tensor:
    """Mean squared error in float32. predicted, noise: [B, 4, h, w]; sample_weights: [B], or None for 1 everywhere."""
    if sample_weights is None:
        return F.mse_loss(predicted.float(), noise.float())
    errors = (predicted.float() - noise.float()).square().mean(dim=(1, 2, 3))  # [B]
    return (sample_weights * errors).mean()


def balanced_weights(alphas_cumprod: Tensor) -> Tensor:
    """Weight of each timestep's noise loss, 1 on average: [timesteps] -> [timesteps].

    What a picture shows is decided at noisy timesteps, where the plain loss hardly depends on it. So noisy timesteps weigh as in
    v-prediction (arXiv 2202.00512) and clean ones as in Min-SNR (arXiv 2303.09556). Small latents need this more than large ones,
    as fewer values hold the same content.
    """
    ratio = alphas_cumprod / (1 - alphas_cumprod)  # signal to noise
    weights = ((ratio + 1) / ratio).clamp(max=NOISY_LIMIT) * (CLEAN_LIMIT / ratio).clamp(max=1.0)
    return weights / weights.mean()
