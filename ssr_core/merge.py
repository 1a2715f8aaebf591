"""How several branches share a position: the weights of a layer's branches, made from what that layer itself knows.

Knows the queries and keys of one layer. Multiplying by the weights is the business of attention.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Combine = Literal["joint", "separate", "by word"]
COMBINES: tuple[Combine, ...] = get_args(Combine)
"""joint: one softmax over all subjects' tokens (Xiaojiu-z/SSR_Encoder, ssr_encoder/ssr_encoder.py, generate_multi)
separate: one branch each, summed
by word: one branch each, and every position divided among them by how strongly it attends to each subject's words (word_shares)
"""


def word_shares(query: Tensor, word_keys: Sequence[Tensor], heads: int) -> Tensor:
    """How much of every position belongs to each subject, by how strongly it attends to the subject's words.

    query: [B, L, C]; word_keys: per subject [W, C], the layer's own text keys of its words -> [subjects, B, L, 1], float32, summing
    to 1 over the subjects. A subject's relevance is softmax(k q^T / sqrt(d)) over the positions, averaged over heads and words
    (arXiv 2409.17920, section 3.3; details as in hqhQAQ/MIP-Adapter, ip_adapter/attention_processor_multi.py). A subject without
    words is equally relevant everywhere.
    """
    q = query.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, L, d]
    relevances = []
    for key in word_keys:
        k = key.unflatten(-1, (heads, -1)).transpose(0, 1)  # [H, W, d]
        logits = (k @ q.transpose(-1, -2)).float() * k.shape[-1] ** -0.5  # [B, H, W, L]
        if key.shape[0] == 0:
            logits = logits.new_zeros(*logits.shape[:2], 1, logits.shape[-1])
        relevances.append(logits.softmax(dim=-1).mean(dim=(1, 2)))  # [B, L]
    # Where no word is relevant, all count as equally relevant: 0/0 would make the picture black.
    relevance = torch.stack(relevances).clamp_min(torch.finfo(torch.float32).tiny)  # [subjects, B, L]
    return (relevance / relevance.sum(dim=0))[..., None]
