"""The training objective of LASR and its schedule.

Reconstruction as in every diffusion model; a regulariser that keeps the embedders near the words they began as; and the composition
delta: that adding a phrase to the prompt changes the subject's encoding as it changes the encoding of its class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .embedder import AdaptiveEmbedder, StaticEmbedder, SubjectEmbedder

REGULARISER_WEIGHT = 0.05
STATIC_SHARE, ADAPTIVE_SHARE = 5.0, 10.0
"""Of the two embedders in the regulariser."""
BIAS_WEIGHT, BASIS_WEIGHT, WORDS_WEIGHT = 0.1, 0.1, 0.1
NORM_POWER = 1.5
"""To which a mean row norm is raised, to weigh that row's own penalty."""
SMALL_SCALES_WEIGHT = 1e-4
"""Of bias scales up to 1, against 1 of larger ones."""
MAPS_WEIGHT, MAPS_BIAS_WEIGHT = 1.0, 0.01
REFERENCE_POWER = 3.0
"""To which a reference's numbers are raised, their signs kept: large ones decide."""
EPSILON = 1e-12
TRAINING_ALPHAS = (0.4, 0.7)
"""Between which the adaptive share is drawn anew for every layer of every call while training: 0.5 times 0.8 to 1.4."""


@dataclass(frozen=True)
class DeltaScaling:
    """How the composition delta enters the loss: weight * (static + boost * adaptive) / divisor."""

    weight: float
    divisor: float
    boost: float


ADAPTIVE_EVERY = 5
"""Steps from one that compares adaptive contexts to the next."""
REPAIRED = DeltaScaling(weight=1e-3, divisor=1.0, boost=ADAPTIVE_EVERY / 2)
"""As the authors repaired it (askerlee/AdaFace-dev, 3440d899 and ff2ce28e, April 2023); encodings are compared."""
AS_COMMITTED = DeltaScaling(weight=5e-3, divisor=16.0, boost=float(ADAPTIVE_EVERY))
"""As first published: a mean over layers is divided by their number again. What it compared for the adaptive part were input embeddings,
whose gradient is zero."""


class Delta(NamedTuple):
    """total = (static + boost * adaptive) / divisor, before its weight. adaptive: None on most steps."""

    total: Tensor
    static: Tensor
    adaptive: Tensor | None


class Regulariser(NamedTuple):
    """total = static + adaptive, before its weight, each with its own share in it."""

    total: Tensor
    static: Tensor
    adaptive: Tensor


def reconstruction(predicted: Tensor, noise: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error in float32. predicted, noise: [B, 4, h, w]; mask: [B, h, w] in 0..1, whose zeros stay in the mean
    (p_losses in askerlee/AdaFace-dev, ldm/models/diffusion/ddpm.py)."""
    difference = predicted.float() - noise.float()
    return (difference if mask is None else difference * mask[:, None].float()).square().mean()


def delta_loss(compared: Tensor, reference: Tensor, power: float = REFERENCE_POWER, rows: Tensor | None = None) -> Tensor:
    """How far differences of encodings turn away from those of a reference: the mean over token rows of 1 - cosine.

    compared: [B, L, T, D]; reference: the same, or L = 1, through which no gradient passes; rows: [B, T], those that count, or None for
    all of them: rows before the phrase are zero in both, cosine 0, and add a constant
    (calc_delta_loss in askerlee/AdaFace-dev, ldm/util.py).
    """
    reference = reference.detach().float()
    raised = reference.sign() * reference.abs() ** power
    compared = compared.float()
    product = (compared * raised).sum(dim=-1)  # [B, L, T]
    lengths = (compared.square().sum(dim=-1) + EPSILON) * (raised.square().sum(dim=-1) + EPSILON)
    turned = 1 - product / lengths.sqrt()
    if rows is None:
        return turned.mean()
    weights = rows[:, None].to(turned.dtype).expand_as(turned)
    return (turned * weights).sum() / weights.sum().clamp_min(1)


class Contexts(NamedTuple):
    """Encodings of the same prompts without and with their phrases: [B, L, T, D] each."""

    single: Tensor
    composed: Tensor

    @property
    def change(self) -> Tensor:
        return self.composed - self.single


def composition_delta(
    subject: Contexts,
    of_class: Contexts,
    adaptive: Contexts | None = None,
    scaling: DeltaScaling = REPAIRED,
    rows: Tensor | None = None,
) -> Delta:
    """That a phrase changes the subject's prompts as it changes those of its class.

    subject, of_class: static contexts; the class's may have L = 1, as they are the same in all layers; adaptive: adaptive contexts, on
    every fifth step; rows: [B, T] (phrase_rows).
    """
    static = delta_loss(subject.change, of_class.change, rows=rows)
    of_adaptive = None if adaptive is None else delta_loss(adaptive.change, of_class.change, rows=rows)
    total = static if of_adaptive is None else static + scaling.boost * of_adaptive
    return Delta(total / scaling.divisor, static, of_adaptive)


def phrase_rows(single: Tensor, composed: Tensor) -> Tensor:
    """The token rows that a phrase can change: from the first token in which the two prompts differ. ids: [B, T] each -> [B, T] bool."""
    return (single != composed).cumsum(dim=1) > 0


def regulariser(embedder: SubjectEmbedder, vectors: Tensor) -> Regulariser:
    """vectors: [N, D], the words' embeddings that both embedders began with
    (embedding_reg_loss in askerlee/AdaFace-dev, ldm/modules/embedding_manager.py)."""
    static = STATIC_SHARE * _regularised(embedder.static, vectors)
    of_maps = torch.zeros((), device=vectors.device)
    for layer in embedder.lasr.layer_maps:
        assert isinstance(layer, nn.Linear)
        of_maps = of_maps + MAPS_WEIGHT * layer.weight.square().mean() + MAPS_BIAS_WEIGHT * layer.bias.square().mean()
    adaptive = ADAPTIVE_SHARE * (_regularised(embedder.lasr, vectors) + of_maps)
    return Regulariser(static + adaptive, static, adaptive)


def _regularised(embedder: StaticEmbedder | AdaptiveEmbedder, vectors: Tensor) -> Tensor:
    bias, basis, scales = embedder.bias, embedder.basis_vecs, embedder.bias_scales
    squares = scales.square()
    large = scales > 1
    of_scales = torch.where(large, squares, 0).mean() + SMALL_SCALES_WEIGHT * torch.where(large, 0, squares).mean()
    return (
        BIAS_WEIGHT * _row_norm(bias) * bias.square().mean()
        + of_scales / bias.shape[1]
        + BASIS_WEIGHT * _row_norm(basis) * basis.square().mean()
        + WORDS_WEIGHT * (embedder.pre_vecs - vectors).square().mean()
    )


def _row_norm(rows: Tensor) -> Tensor:
    """A weight, through which no gradient passes."""
    return rows.detach().norm(dim=1).mean() ** NORM_POWER


def drawn_alphas(layers: int, generator: torch.Generator) -> Tensor:
    """The adaptive share of each layer in one training call: [L], on the CPU."""
    least, most = TRAINING_ALPHAS
    return torch.empty(layers).uniform_(least, most, generator=generator)


@dataclass(frozen=True)
class RateSchedule:
    """A linear warm-up, then half a cosine, then constant. The rate of a step is the base rate times the batch size times its factor
    (LambdaWarmUpCosineScheduler in askerlee/AdaFace-dev, ldm/lr_scheduler.py)."""

    warm_up: int = 500
    until: int = 4000
    first: float = 0.01
    most: float = 1.0
    last: float = 0.2

    def factor(self, step: int) -> float:
        if step < self.warm_up:
            return (self.most - self.first) / self.warm_up * step + self.first
        along = min((step - self.warm_up) / max(self.until - self.warm_up, 1), 1.0)
        return self.last + 0.5 * (self.most - self.last) * (1 + math.cos(along * math.pi))
