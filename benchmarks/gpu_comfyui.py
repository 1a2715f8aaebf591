"""Steps of all methods for gpu.py in ComfyUI's own UNets, which the variants of step_overhead.py give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import variants_elite
import variants_mip
import variants_ssr
from gpu_measure import Row
from host import comfy_host, sd15_unet, sdxl_unet
from torch import Tensor

NAME = "ComfyUI"
WHOLE_STEP = True
PLACE = 5
"""Of the placeholder in the text of a learned subject."""


def unet(kind: str, device: torch.device, dtype: torch.dtype, width: int) -> Any:
    return (sd15_unet if kind == "sd15" else sdxl_unet)(device, dtype, width)


def rows(kind: str, base: Any, device: torch.device, dtype: torch.dtype, side: int, pictures: int) -> list[Row]:
    """The plain step first."""
    options = {"cond_or_uncond": [1, 0]}
    if kind == "sdxl":
        large = variants_mip.Step(base, device, dtype, side, pictures)
        return [
            _row("plain", lambda: large(large.latent, large.timesteps, None, None, None, options)),
            _row("MIP, two", variants_mip.ours(large, 4, 1, device, dtype)),
            _row("MIP, two of 16 tokens", variants_mip.ours(large, 16, 2, device, dtype)),
        ]
    step = variants_ssr.Step(base, device, dtype, side, pictures)
    return [
        _row("plain", lambda: step(step.latent, step.timesteps, None, None, None, options)),
        _row("SSR, one", variants_ssr.ours(step, 1, device, dtype)),
        _row("SSR, three", variants_ssr.ours(step, 3, device, dtype)),
        _row("SSR, three in regions", variants_ssr.ours(step, 3, device, dtype, in_thirds=True)),
        _row("ELITE", variants_elite.ours(step, variants_elite.STRENGTH, device, dtype)),
        _row("LASR", learned(step, device)),
    ]


@contextmanager
def compiled(base: Any) -> Iterator[None]:
    """The UNet under torch.compile."""
    model = base.diffusion_model
    base.diffusion_model = torch.compile(model)
    try:
        yield
    finally:
        base.diffusion_model = model


def _row(name: str, call: Callable[[], Any]) -> Row:
    @contextmanager
    def opened() -> Iterator[Callable[[], Any]]:
        yield call

    return Row(name, opened)


class _Text:
    """CLIP-L on random weights, as clip_text.HostText runs it: weights in half precision on a GPU, computed in full."""

    class identity:
        @staticmethod
        def difference(other: Any) -> None:
            return None

    def __init__(self, device: torch.device) -> None:
        import comfy.sd1_clip

        stored = torch.float32 if device.type == "cpu" else torch.float16
        self.model = comfy.sd1_clip.SD1ClipModel(device=device, dtype=stored).clip_l
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.normal_(std=0.02) if parameter.ndim > 1 else parameter.fill_(float(name.endswith("weight")))

    def encode(self, embeds: Tensor) -> Tensor:
        places = torch.zeros(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        return self.model.transformer(places, None, embeds=embeds, intermediate_output=None, dtype=torch.float32)[0].float()


def learned(step: variants_ssr.Step, device: torch.device) -> Callable[[], Any]:
    """A learned subject in the positive prompt, one run: half of every context is made from what enters the layer's block."""
    context, host, riders = (comfy_host.part(f"ssr_core.hosts.comfyui.{name}") for name in ("context", "lasr", "riders"))
    core, embedder, prompts = (comfy_host.part(f"ssr_core.methods.lasr.{name}") for name in ("subject", "embedder", "contexts"))
    made = embedder.SubjectEmbedder(embedder.EmbedderShapes(step.layout, 768, 1, 3))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.02)
    subject = core.LasrSubject(made.shapes, core.weights_of(made), "z", 345)
    ids = torch.full((1, 77), 49407)
    ids[0, PLACE] = subject.token
    layers = len(context.sites_of(step.layout))
    content = host.SubjectPrompt(
        (subject,), None, prompts.prompts_of(ids, torch.randn(1, 77, 768), [subject.token]), torch.randn(layers, 77, 768)
    )
    said = riders.ride([step.text[-1:], {}], host.KIND, host.PROMPT, host.APPLY, "a z", content)
    ((name, entry),) = said[1]["model_conds"].items()
    numbers = torch.cat([torch.full_like(entry.cond, riders.NEUTRAL), entry.cond]).repeat_interleave(step.pictures, 0)
    parts = (host.LasrContexts((subject,), _Text(device), comfy_host.part("ssr_core.schedule").Manner(0.5)),)
    bound, options = context.bind(parts), {"cond_or_uncond": [1, 0], context.KEY: context.ContextRun(parts)}
    # The rider, which `entry` holds, is found by its number only while somebody holds it.
    return lambda entry=entry: bound(step, step.latent, step.timesteps, None, None, None, options, **{name: numbers})
