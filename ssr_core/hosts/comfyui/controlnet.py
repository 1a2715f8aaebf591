"""What ControlNets see of a CONDITIONING: its prompt, and behind it the subjects' tokens if a node shows them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...methods.ssr.subject import SubjectSet, active, joint_tokens

SEEN = "cross_attn_controlnet"
"""What a CONDITIONING's ControlNets see instead of its prompt (the host's own key)."""


def shown_to_controlnet(positive: Any, negative: Any, subjects: SubjectSet) -> tuple[Any, Any]:
    """Both CONDITIONINGs with the subjects' tokens behind what their ControlNets see; unchanged if no subject acts."""
    if not active(subjects):
        return positive, negative
    null_tokens, tokens = joint_tokens(subjects)  # [N, D] each
    return _shown(positive, tokens), _shown(negative, null_tokens)


def _shown(conditioning: Any, tokens: Tensor) -> list[Any]:
    shown = []
    for prompt, options in conditioning:  # prompt: [B, T, D]
        if prompt.shape[-1] != tokens.shape[-1]:
            raise ValueError(
                f"The prompt has width {prompt.shape[-1]} and the subject's tokens {tokens.shape[-1]}. Encode the prompt with the CLIP of "
                "an SD1.5 checkpoint, the one that Encode Subject uses."
            )
        seen = options.get(SEEN, prompt)
        behind = tokens.to(seen.device, seen.dtype).expand(seen.shape[0], -1, -1)
        shown.append([prompt, {**options, SEEN: torch.cat([seen, behind], dim=1)}])  # [B, T + N, D]
    return shown
