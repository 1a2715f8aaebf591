"""Token-to-patch aligner: query tokens attend to the patches of a picture and come back as subject tokens.

Knows the formula (arXiv 2312.16272, section 3.2; details as in Xiaojiu-z/SSR_Encoder, ssr_encoder/attention_processor.py) and
nothing of where text and patches come from. One attention map, computed from the deepest scale, pools every scale.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CLS_BIAS = 1.0
"""Added to the logit of the CLS token wherever there is a mask, whatever its weight (same file)."""


class Aligned(NamedTuple):
    """tokens: [B, S*T, D], scale after scale; attention: [B, T, P], averaged over heads, in float32."""

    tokens: Tensor
    attention: Tensor


def mask_bias(mask: Tensor, weight: float | Tensor) -> Tensor:
    """What a mask query adds to the logits (Xiaojiu-z/SSR_Encoder, ssr_encoder/attention_processor.py).

    mask: [B, P-1] in 0..1, row by row; weight: one number or [B, 1] -> [B, 1, 1, P] for [B, H, T, P] logits.
    A patch gets m w - w (1 - m w): -w outside and +w^2 inside, so it is quadratic in the weight, and weight 0 still leaves
    the CLS bias.
    """
    patches = weight * (mask.float() * (1.0 + weight) - 1.0)  # [B, P-1]
    cls = torch.full_like(patches[:, :1], CLS_BIAS)  # [B, 1]
    return torch.cat([cls, patches], dim=1)[:, None, None, :]


class Aligner(nn.Module):
    """text_width D, vision_width V, inner_width I = heads * head size, scales S. All projections are without bias.

    operations: module that supplies Linear and LayerNorm, so that a host can give its own (weight casting, offloading).
    """

    def __init__(
        self,
        text_width: int,
        vision_width: int,
        inner_width: int,
        heads: int,
        scales: int,
        operations: Any = nn,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        factory = {"device": device, "dtype": dtype}
        self.to_q = operations.Linear(text_width, inner_width, bias=False, **factory)
        self.to_k = operations.Linear(vision_width, inner_width, bias=False, **factory)
        self.to_v = nn.ModuleList(operations.Linear(vision_width, inner_width, bias=False, **factory) for _ in range(scales))
        self.to_out = nn.ModuleList(operations.Linear(inner_width, text_width, bias=False, **factory) for _ in range(scales))
        self.norm = operations.LayerNorm(text_width, eps=1e-5, **factory)

    def forward(
        self, query: Tensor, features: Tensor, mask: Tensor | None = None, mask_weight: float | Tensor = 1.0
    ) -> Aligned:
        """query: [B or 1, T, D]; features: [B, S, P, V], CLS token first; mask: [B or 1, P-1] in 0..1, or None."""
        batch = features.shape[0]
        q = self._split(self.to_q(query))  # [B or 1, H, T, d]
        k = self._split(self.to_k(features[:, -1]))  # [B, H, P, d]
        logits = q @ k.transpose(-1, -2) * k.shape[-1] ** -0.5  # [B, H, T, P]
        # In float32: Xiaojiu-z/SSR_Encoder does so too where there is a mask, and people look at the map.
        logits = logits.float()
        if mask is not None:
            logits = logits + mask_bias(mask.to(logits.device), mask_weight)
        attention = logits.softmax(dim=-1)  # [B, H, T, P]

        scales = []
        for scale, (to_v, to_out) in enumerate(zip(self.to_v, self.to_out, strict=True)):
            v = self._split(to_v(features[:, scale]))  # [B, H, P, d]
            pooled = attention.to(v.dtype) @ v  # [B, H, T, d]
            scales.append(to_out(pooled.transpose(1, 2).reshape(batch, query.shape[1], -1)))  # [B, T, D]
        tokens = self.norm(torch.cat(scales, dim=1))  # [B, S*T, D]
        return Aligned(tokens, attention.mean(dim=1))

    def _split(self, x: Tensor) -> Tensor:
        """[B, N, H*d] -> [B, H, N, d]"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
