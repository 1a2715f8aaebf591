"""Show Subject to ControlNet."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..ssr_core.subject import SubjectSet, active, joint_tokens
from . import types
from .compat import Schema

SEEN = "cross_attn_controlnet"
"""What a CONDITIONING's ControlNets see instead of its prompt (the host's own key)."""


class ShowToControlNet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_ShowToControlNet",
            display_name="Show Subject to ControlNet",
            category=types.CATEGORY,
            description="Lets ControlNets see the subject's tokens behind the prompt, as the official code does. Without this node they "
            "see the prompt only.",
            search_aliases=["ssr"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt, before or after Apply ControlNet."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, before or after Apply ControlNet."),
                types.Subject.Input("subject", tooltip="The subject that Apply Subject gets too."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="For the sampler, or for Apply ControlNet."),
                io.Conditioning.Output(display_name="negative", tooltip="For the sampler, or for Apply ControlNet."),
            ],
        )

    @classmethod
    def execute(cls, positive: Any, negative: Any, subject: SubjectSet) -> io.NodeOutput:
        if not active(subject):
            return io.NodeOutput(positive, negative)
        null_tokens, tokens = joint_tokens(subject)  # [N, D] each
        return io.NodeOutput(_shown(positive, tokens), _shown(negative, null_tokens))


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
