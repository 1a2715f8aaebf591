"""The optimizers that a configuration can name. All are AdamW; they differ in how they keep their state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .config import TrainingConfig


def made(config: TrainingConfig, trained: Sequence[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """Raises ValueError where the optimizer's library or device is not there."""
    options: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(trained, **options)
    if device.type != "cuda":
        raise ValueError(f"`optimizer: adamw8bit` runs on CUDA; this run is on {device.type}. Write `optimizer: adamw`.")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ValueError(
            f"`optimizer: adamw8bit` needs bitsandbytes ({error}): pip install 'ssr-encoder[8bit]', or write `optimizer: adamw`."
        ) from error
    return AdamW8bit(trained, **options)
