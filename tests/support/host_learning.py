"""Runs of learning on SSR Mini inside the host, and what they leave."""

from __future__ import annotations

from typing import Any

import torch
from support import comfy_host
from torch import nn

WORDS = {"words": "star", "placeholder": "moon"}
"""Mini's tokenizer knows the words of its world only."""


def part(name: str) -> Any:
    return comfy_host.part(f"ssr_core.{name}")


def recipe(**changes: Any) -> Any:
    return part("methods.lasr.recipe").Recipe(**WORDS | {"steps": 3, "seed": 11} | changes)


def learn(mini: Any, pictures: torch.Tensor, made: Any = None, **wanted: Any) -> Any:
    run = part("hosts.comfyui.learning_run")
    with torch.inference_mode():
        return run.learn(
            mini.model, mini.clip, mini.vae, list(pictures), [None] * len(pictures), run.Wanted(made or recipe(), **wanted)
        )


class Weights:
    """Of a MODEL and a CLIP: the very tensors, and their values."""

    def __init__(self, *modules: nn.Module) -> None:
        self.modules = modules
        self.tensors = [one for module in modules for one in (*module.parameters(), *module.buffers())]
        self.values = [one.detach().clone() for one in self.tensors]

    def are_untouched(self) -> bool:
        now = [one for module in self.modules for one in (*module.parameters(), *module.buffers())]
        hooks = [
            part for module in self.modules for part in module.modules() if part._forward_pre_hooks or "forward" in vars(part)
        ]
        return (
            not hooks
            and all(one is before for one, before in zip(now, self.tensors, strict=True))
            and all(torch.equal(one, value) for one, value in zip(now, self.values, strict=True))
        )
