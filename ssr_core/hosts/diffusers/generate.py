"""Pictures from a base through diffusers' own Stable Diffusion pipelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import torch
from diffusers import (
    AnimateDiffPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch import Tensor

from ... import samplers
from ...finite import finite, whole
from ...samplers import LARGEST_GUIDANCE, MOST_STEPS
from ...text_files import check_characters
from .base import Base

GUIDANCE = 5.0
"""Scale of SSR-Encoder's own scripts (infer_text.py and the others)."""


def pipeline(base: Base, sampler: str = samplers.DEFAULT, controlnet: Any = None, motion_adapter: Any = None) -> Any:
    """diffusers' own Stable Diffusion pipeline around a base, 1.x or XL, plain, with a ControlNet, or (1.x) with AnimateDiff's motion
    adapter.

    sampler: one of samplers.SAMPLERS.
    """
    if controlnet is not None and motion_adapter is not None:
        raise ValueError("Give a ControlNet or a motion adapter, not both.")
    if base.is_xl and motion_adapter is not None:
        raise ValueError("Motion adapters are for Stable Diffusion 1.x; this base is XL. Leave the motion adapter out.")
    parts: dict[str, Any] = {
        "unet": base.unet,
        "vae": base.vae,
        "text_encoder": base.text_encoder,
        "tokenizer": base.tokenizer,
        "scheduler": getattr(diffusers, samplers.SAMPLERS[sampler]).from_config(
            base.noise_schedule.config, **samplers.OPTIONS.get(sampler, {})
        ),
    }
    if base.is_xl:
        parts.update(text_encoder_2=base.text_encoder_2, tokenizer_2=base.tokenizer_2, add_watermarker=False)
        if controlnet is None:
            pipe: Any = StableDiffusionXLPipeline(**parts)
        else:
            pipe = StableDiffusionXLControlNetPipeline(**parts, controlnet=controlnet)
    elif motion_adapter is not None:
        pipe = AnimateDiffPipeline(**parts, motion_adapter=motion_adapter)
    else:
        parts.update(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
        if controlnet is not None:
            pipe = StableDiffusionControlNetPipeline(**parts, controlnet=controlnet)
        else:
            pipe = StableDiffusionPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(base: Base, seeds: Sequence[int], width: int, height: int) -> Tensor:
    """Unit noise, each picture's from its own seed on the CPU, so that it does not depend on the device: [B, 4, h/8, w/8]."""
    shape = (base.unet.config.in_channels, height // 8, width // 8)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def sample(
    pipe: Any,
    prompts: Sequence[str],
    latents: Tensor,
    negative: str = "",
    steps: int = 20,
    guidance: float = GUIDANCE,
    on_step: Callable[[], None] | None = None,
    **more: Any,
) -> Tensor:
    """Latents of one picture per prompt, with whatever is attached to the UNet. latents: unit noise [prompts, 4, h, w].

    Raises ValueError for prompts that are no text, and for numbers that are none or out of all measure.
    """
    for text in (*prompts, negative):
        check_characters(text, "A prompt")
    steps, guidance = whole(steps, "steps", 1, MOST_STEPS), finite(guidance, "guidance", 0, LARGEST_GUIDANCE)
    device = pipe.unet.device

    def stepped(_pipe: Any, _step: int, _timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        if on_step is not None:
            on_step()
        return state

    options: dict[str, Any] = {
        "prompt": list(prompts),
        "negative_prompt": [negative] * len(prompts),
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "latents": latents.to(device, pipe.unet.dtype),
        "height": latents.shape[-2] * 8,
        "width": latents.shape[-1] * 8,
        "output_type": "latent",
        "callback_on_step_end": stepped,
        **more,
    }
    return _latents(pipe(**options))


def _latents(output: Any) -> Tensor:
    """[B, 4, h, w]; a video's frames one after the other."""
    frames = getattr(output, "frames", None)
    return output.images if frames is None else frames.transpose(1, 2).flatten(0, 1)  # [B, 4, F, h, w] -> [B*F, 4, h, w]


@torch.no_grad()
def decode(base: Base, latents: Tensor) -> list[Image.Image]:
    """Pictures of scaled latents [B, 4, h, w]."""
    parameter = next(base.vae.parameters())
    scaled = latents.to(parameter.device, parameter.dtype) / base.vae.config.scaling_factor
    pixels = base.vae.decode(scaled).sample.float().clamp(-1, 1)  # [B, 3, H, W]
    return [Image.fromarray(picture) for picture in to_bytes(pixels)]


def to_bytes(pixels: Tensor) -> Any:
    """[B, 3, H, W] in -1..1 -> uint8 array [B, H, W, 3]."""
    return ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
