"""Steps with a subject of ELITE, for step_overhead.py: ours, and the official algorithm re-stated.

The official one makes the maps of the text attention in every layer, projects the local tokens' keys and values at every step, and calls
the UNet once for each side of the guidance (elite.md, sections 6 and 7). The UNet's own matrices stand here for those that ELITE puts in
their place, which are as large; so the word alone costs nothing but what it takes to find that nothing else acts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from host import comfy_host, sd15_unet
from torch import Tensor, nn
from variants import Variant
from variants_ssr import PLAIN, SIDE, Step

LOCAL, GATE, PROJECTIONS = 11.8, 1.8, 9.8
"""GFLOP of the local attention, of our gate, and of projecting the local tokens (elite.md, corrections; ours in
tests/host/test_counts.py). The official gate is read off maps that the plain step makes too, out of sight."""
TOKENS, PLACE, STRENGTH = 256, 5, 0.8
"""Of the local mapper's grid; of the word in the text; lambda in the authors' scripts."""


def ours(step: Step, strength: float, device: torch.device, dtype: torch.dtype) -> Callable[[], Any]:
    """Bound as while sampling: one run, so K, V and the word's place are made once. The word rides on the second chunk."""
    sampling, riders, words = (comfy_host.part(f"ssr_core.hosts.comfyui.{name}") for name in ("sampling", "riders", "words"))
    layout, manner = step.layout, comfy_host.part("ssr_core.schedule").Manner

    def like(width: int) -> Tensor:
        return torch.randn(1, TOKENS, width, device=device, dtype=dtype)

    branch = tuple((like(layer.width), like(layer.width)) for layer in layout.layers)
    parts = (sampling.Applied(layout, (branch,), manner(strength), words=("subject",), maker="elite"),)
    said = riders.ride(
        [step.text[-1:], {}], words.KIND, words.PROMPT, words.APPLY, "a S", words.Words({"subject": (PLACE,)}, "elite")
    )
    ((name, entry),) = said[1]["model_conds"].items()
    numbers = torch.cat([torch.full_like(entry.cond, riders.NEUTRAL), entry.cond]).repeat_interleave(step.pictures, 0)
    bound, run = sampling.bind(parts), sampling.Run(parts)
    options = {"cond_or_uncond": [1, 0], sampling.KEY: run}
    # The rider, which `entry` holds, is found by its number only while somebody holds it.
    return lambda entry=entry: bound(step, step.latent, step.timesteps, None, None, None, options, **{name: numbers})


def official(step: Step, strength: float, device: torch.device, dtype: torch.dtype) -> Callable[[], Any]:
    """The official algorithm in the host: a call with the text alone, and one with the local tokens, if they act."""
    text_alone: dict[Any, Any] = {}
    with_local: dict[Any, Any] = {}
    tokens = torch.randn(1, TOKENS, 768, device=device, dtype=dtype)
    for layer in step.layout.layers:
        to_k, to_v = (nn.Linear(768, layer.width, bias=False, device=device, dtype=dtype) for _ in range(2))

        def attend(
            q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any], to_k: Any = to_k, to_v: Any = to_v, local: bool = False
        ) -> Tensor:
            def heads(tensor: Tensor) -> Tensor:
                return tensor.unflatten(-1, (extra["n_heads"], -1)).transpose(1, 2)  # [B, H, N, d]

            query = heads(q)
            scale = query.shape[-1] ** -0.5
            attends = (query @ heads(k).transpose(-1, -2) * scale).softmax(dim=-1)  # [B, H, L, 77]
            out = attends @ heads(v)
            if local:
                gate = attends[..., PLACE, None]
                own = (query @ heads(to_k(tokens)).transpose(-1, -2) * scale).softmax(dim=-1)  # [B, H, L, 256]
                out = out + (own * (gate / gate.max()) * strength) @ heads(to_v(tokens))
            return out.transpose(1, 2).flatten(2)

        text_alone[layer.block] = attend
        with_local[layer.block] = lambda q, k, v, extra, attend=attend: attend(q, k, v, extra, local=True)

    def call() -> None:
        for row, attn2 in ((0, text_alone), (1, with_local if strength else text_alone)):
            side = slice(row, row + 1)
            options = {"cond_or_uncond": [1 - row], "patches_replace": {"attn2": attn2}}
            step.class_obj.diffusion_model(
                step.latent[side], step.timesteps[side], context=step.text[side], transformer_options=options
            )

    return call


def variants(device: torch.device, dtype: torch.dtype, side: int | None) -> list[Variant]:
    step = Step(sd15_unet(device, dtype), device, dtype, side or SIDE)

    def counted(gflop: float) -> float | None:
        return gflop / PLAIN if step.latent.shape[-1] == SIDE else None

    plain = Variant("plain", lambda: step(step.latent, step.timesteps, None, None, None, {"cond_or_uncond": [1, 0]}), 0.0)
    return [
        plain,
        Variant("the word alone", ours(step, 0.0, device, dtype), counted(0.0)),
        Variant("word and local tokens", ours(step, STRENGTH, device, dtype), counted(LOCAL + GATE)),
        Variant("official, the word alone", official(step, 0.0, device, dtype), counted(0.0)),
        Variant("official, word and local tokens", official(step, STRENGTH, device, dtype), counted(LOCAL + PROJECTIONS)),
    ]
