"""Learned subjects, prompts and sampling with them on the tiny model inside ComfyUI, and the same model by the golden recipe."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from support import comfy_host, golden_lasr, tiny
from torch import nn

EXACT = 2e-5
"""Relative: batches of another size round otherwise."""
LONG = "a photo of " + "a very " * 40 + "small z, " + "and a chair, " * 10 + "z"
"""A prompt of several chunks with two placeholders."""


def subject(seed: int = 0, placeholder: str = "z", token: int = 345, layout: Any = None, **changes: Any) -> Any:
    """A learned subject of random numbers for the tiny UNet, or one of another layout, and CLIP-L's width."""
    embedder, core = (comfy_host.part(f"ssr_core.methods.lasr.{name}") for name in ("embedder", "subject"))
    layout = layout or comfy_host.part("ssr_core.layout").UNetLayout(**tiny.LAYOUT)
    made = embedder.SubjectEmbedder(embedder.EmbedderShapes(layout, 768, 1, 3))
    fill(made, seed)
    return core.LasrSubject(made.shapes, core.weights_of(made), placeholder, token, **changes)


def fill(made: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)


def host() -> Any:
    return comfy_host.part("ssr_core.hosts.comfyui.lasr")


def prompt(clip: Any, subjects: Any, text: str = "a photo of a z") -> Any:
    """CONDITIONING of Prompt with Subject (LASR)."""
    with torch.inference_mode():
        return host().encode_prompt(clip, subjects, text)


def riding(conditioning: Any) -> Any:
    """The SubjectPrompt on a CONDITIONING of Prompt with Subject (LASR)."""
    return comfy_host.part("ssr_core.hosts.comfyui.riders").rider_of(conditioning[0][1], "lasr").content


def plain(clip: Any, text: str = "") -> Any:
    """CONDITIONING of CLIP Text Encode."""
    with torch.inference_mode():
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def apply(model: Any, clip: Any, subjects: Any, alpha: float = 0.5, reuse: int = 1, **manner: Any) -> Any:
    made = comfy_host.part("ssr_core.schedule").Manner
    return host().apply_subjects(model, clip, subjects, made(alpha, **manner), reuse)


def sampled(model: Any, positive: Any, negative: Any, **options: Any) -> torch.Tensor:
    return tiny.sample(model, positive=positive, negative=negative, **options)


def host_node(name: str, *inputs: Any) -> Any:
    """First output of one of the host's own nodes."""
    import nodes

    node = nodes.NODE_CLASS_MAPPINGS[name]
    with torch.inference_mode():
        return getattr(node(), node.FUNCTION)(*inputs)[0]


def golden_unet(seed: int) -> Any:
    """MODEL of the golden cases: the tiny UNet with weights by recipe."""
    patcher = tiny.model()
    golden_lasr.fill(patcher.model.diffusion_model, seed, lambda name: f"unet.{name}")
    return patcher


def text_of(clip: Any) -> Any:
    return comfy_host.part("ssr_core.hosts.comfyui.clip_text").HostText(clip, 768, "the learned subject")


def itself(clip: Any, placeholder: str = "z", token: int = 345) -> Any:
    """A subject whose vectors, of all layers and at all times, are its placeholder's own: its prompts are the ordinary ones."""
    made = subject(0, placeholder, token)
    row = clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight[token].detach().float()
    weights = {name: value.clone() for name, value in made.weights.items()}
    for name, value in weights.items():
        if ".layer_lns." in name or name.endswith("bias_scales"):
            value.fill_(1.0 if name.endswith("bias_scales") else 0.0)
        elif name in ("static.bias", "lasr.bias"):
            value.copy_(row.expand_as(value))
    return dataclasses.replace(made, weights=weights)


class UNetCalls:
    """Rows of every call of a MODEL's UNet, and of its text encoder, while it is entered."""

    def __init__(self, model: Any, clip: Any) -> None:
        self.unet, self.text = model.model.diffusion_model, clip.cond_stage_model.clip_l.transformer
        self.rows: list[int] = []
        self.texts: list[int] = []

    def __enter__(self) -> UNetCalls:
        self.handles = [
            self.unet.register_forward_pre_hook(lambda _, args: self.rows.append(len(args[0]))),
            self.text.register_forward_pre_hook(
                lambda _, args, named: self.texts.append(len(named["embeds"])), with_kwargs=True
            ),
        ]
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self.handles:
            handle.remove()
