"""What a ControlNet of diffusers sees of the subjects: by itself nothing, within shown_to_controlnet their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...methods.ssr.subject import SubjectSet, active, joint_tokens


@contextmanager
def shown_to_controlnet(controlnet: Any, subjects: SubjectSet, guidance: bool = True) -> Iterator[None]:
    """Let a ControlNet see the subjects' tokens behind the prompt for the length of a with-block.

    So it is in Xiaojiu-z/SSR_Encoder, utils/pipeline_controlnet.py.
    guidance: as for subjects_attached. Not for guess_mode, in which the ControlNet sees one side only.
    """
    if not active(subjects):
        yield
        return
    tokens = joint_tokens(subjects) if guidance else joint_tokens(subjects)[1:]  # [2 or 1, N, D]

    def show(_network: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        prompt = named["encoder_hidden_states"]  # [B, T, D]
        if prompt.shape[0] % len(tokens):
            raise ValueError(
                f"The ControlNet got a batch of {prompt.shape[0]}, expected both sides of the guidance: no guess_mode."
            )
        behind = tokens.to(prompt.device, prompt.dtype).repeat_interleave(prompt.shape[0] // len(tokens), dim=0)
        return arguments, {**named, "encoder_hidden_states": torch.cat([prompt, behind], dim=1)}

    hook = controlnet.register_forward_pre_hook(show, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
