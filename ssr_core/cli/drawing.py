"""One call of `ssr-encoder generate`: load the models, encode the subjects, draw, and write the files.

Separate from generate.py, which lists the options and needs none of the libraries that draw.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from .. import pictures, samplers, weight_files
from ..hosts.diffusers import generate, ssr
from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.controlnet import shown_to_controlnet
from ..hosts.diffusers.load import load_base, load_controlnet, load_motion_adapter
from ..methods.ssr import formats
from ..mini import files
from ..mini.scene import SIDE, check_size
from ..mini.vocabulary import check_words
from ..new_files import check_writable, write_new
from ..schedule import Manner, layer_strengths
from ..sheet import heat_picture
from . import devices

FRAMES = 16
"""Of an animation, where it is not said."""
FRAME_MILLISECONDS = 125


def run(options: argparse.Namespace) -> list[Path]:
    """Write the pictures (and maps); returns their paths. options: generate.py."""
    mini = options.model == files.MINI
    if mini:
        for text in (options.prompt, options.negative, options.null_query, *options.query):
            check_words(text)
    width, height = options.size or ((SIDE, SIDE) if mini else (512, 512))
    if mini:
        check_size(width, height)
    references = [pictures.open_picture(path) for path in options.reference]
    masks = [None if path is None else pictures.open_mask(path) for path in options.mask]
    control = None if options.control_image is None else pictures.open_picture(options.control_image)
    check_writable(options.out)
    device = torch.device(devices.find(options.device))
    dtype = weight_files.DTYPES[options.dtype]
    base = load_base(options.model, options.vision_encoder, dtype)
    encoder_files = options.encoder or ([files.find(files.FOLDER, files.ENCODER)] if mini else [])
    if not encoder_files:
        raise ValueError(f"{options.model} needs an SSR-Encoder: give --encoder with its file, or the official pair.")
    encoder = formats.load(encoder_files, dtype=torch.float32).to(device)
    check_unet(base.unet, encoder.config.layout)
    controlnet, adapter, more = _companions(options, dtype, control)
    sampler = options.sampler or (samplers.FOR_MOTION if adapter is not None else samplers.DEFAULT)
    pipe = generate.pipeline(base, sampler, controlnet, adapter).to(device)
    base.vision_encoder.to(device)

    subjects = [
        subject
        for picture, mask, query, scale in zip(references, masks, options.query, options.scale, strict=True)
        for subject in ssr.encode(
            base, encoder, picture, query, mask, options.mask_weight, options.fit, scale, options.null_query
        )
    ]
    strength = options.strength if options.strength is not None else (1.0 if mini else 0.65)
    written = []
    shown: AbstractContextManager[None] = nullcontext()
    if options.controlnet_sees_subject:
        shown = shown_to_controlnet(controlnet, tuple(subjects), guidance=options.guidance > 1)
    with shown, tqdm(total=options.count * options.steps, desc="drawing") as bar:
        for seed in range(options.seed, options.seed + options.count):
            noise = generate.noise(base, [seed], width, height)
            if adapter is not None:
                frames = [seed * 1000 + frame for frame in range(more["num_frames"])]
                noise = generate.noise(base, frames, width, height).transpose(0, 1)[None]  # [1, 4, F, h, w]
            latents = ssr.sample(
                pipe,
                encoder,
                tuple(subjects),
                [options.prompt],
                noise,
                negative=options.negative,
                steps=options.steps,
                guidance=options.guidance,
                manner=Manner(strength, layers=layer_strengths(encoder.config.layout, options.layers)),
                combine=options.combine,
                scaling=options.subject_scaling,
                on_step=bar.update,
                **more,
            )
            written.append(_write(generate.decode(base, latents), options.out / f"picture_{seed:05}"))
    if options.maps:
        for number, subject in enumerate(subjects, 1):
            written.append(_write([heat_picture(subject.map())], options.out / f"map_{number}"))
    return written


def _companions(
    options: argparse.Namespace, dtype: torch.dtype, control: Image.Image | None
) -> tuple[Any, Any, dict[str, Any]]:
    """ControlNet, motion adapter, and what the pipeline's call needs for them."""
    if options.controlnet is not None:
        controlnet = load_controlnet(options.controlnet, dtype)
        return controlnet, None, {"image": control}
    if options.motion_adapter is not None:
        adapter = load_motion_adapter(options.motion_adapter, dtype)
        count = options.frames or FRAMES
        if count > (most := adapter.config.motion_max_seq_length):
            raise ValueError(f"{options.motion_adapter} moves at most {most} frames at once, got --frames {count}.")
        return None, adapter, {"num_frames": count}
    return None, None, {}


def _write(pictures: list[Image.Image], path: Path) -> Path:
    """One picture as PNG, several as an animation; never over a file that is there. Returns the name that it got."""
    first, *rest = pictures
    if not rest:
        return write_new(path.with_suffix(".png"), lambda part: first.save(part, "PNG"))
    moving: dict[str, Any] = {
        "save_all": True,
        "append_images": rest,
        "duration": FRAME_MILLISECONDS,
        "loop": 0,
        "lossless": True,
    }
    return write_new(path.with_suffix(".webp"), lambda part: first.save(part, "WEBP", **moving))
