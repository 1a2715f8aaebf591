"""One call of `ssr-encoder generate`: load the models, encode what is shown, draw, and write the files.

Separate from generate.py, which lists the options and needs none of the libraries that draw. What a method makes of its options is in
drawing_ssr.py, drawing_mip.py, drawing_elite.py and drawing_lasr.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from .. import checkpoints, pictures, samplers, weight_files
from ..hosts.diffusers import generate
from ..hosts.diffusers.base import Base
from ..hosts.diffusers.load import load_controlnet, load_motion_adapter
from ..mini.files import MINI
from ..mini.scene import SIDE, check_size
from ..mini.vocabulary import check_words
from ..new_files import check_writable, write_new
from ..shown import shown
from . import devices
from .drawing_elite import ELITEDrawing
from .drawing_lasr import LASRDrawing
from .drawing_mip import MIPDrawing
from .drawing_ssr import SSRDrawing

FRAMES = 16
"""Of an animation, where it is not said."""
FRAME_MILLISECONDS = 125
SIDES = {False: 512, True: 1024}
"""Of a picture, by whether the base is Stable Diffusion XL."""


class Drawing(Protocol):
    """What a method makes of the options. Made before any model is loaded: it opens pictures and refuses options that it does not know."""

    sampler: str
    """Where none is asked for; and the sampler's steps."""
    steps: int
    negative: str

    def texts(self) -> list[str]:
        """What the built-in models must know the words of, besides prompts."""

    def load(self, dtype: torch.dtype, device: torch.device) -> Base:
        """The base and the method's own weights, which fit each other."""

    def encode(self) -> None:
        """What the references show; the base is on its device."""

    def sample(self, pipe: Any, noise: Tensor, controlnet: Any, **sampling: Any) -> Tensor:
        """Latents of one picture."""

    def maps(self) -> list[Image.Image]:
        """What is taken from each reference."""


DRAWINGS: dict[str, Callable[[argparse.Namespace], Drawing]] = {
    "ssr": SSRDrawing,
    "mip": MIPDrawing,
    "elite": ELITEDrawing,
    "lasr": LASRDrawing,
}


def run(options: argparse.Namespace) -> list[Path]:
    """Write the pictures (and maps); returns their paths. options: generate.py."""
    method = _method(options)
    if method != "lasr" and not options.reference:
        raise ValueError(
            "There is no picture of the subjects: give --reference. LASR alone goes without, with files of learned subjects (--subject)."
        )
    drawing: Drawing = DRAWINGS[method](options)
    steps = drawing.steps if options.steps is None else options.steps
    mini = options.model == MINI
    if mini:
        for text in (options.prompt, drawing.negative, *drawing.texts()):
            check_words(text)
        check_size(*(options.size or (SIDE, SIDE)))
    control = None if options.control_image is None else pictures.open_picture(options.control_image)
    check_writable(options.out)
    device = torch.device(devices.find(options.device))
    dtype = weight_files.DTYPES[options.dtype]
    base = drawing.load(dtype, device)
    side = SIDE if mini else SIDES[base.is_xl]
    width, height = options.size or (side, side)
    controlnet, adapter, more = _companions(options, dtype, control)
    sampler = options.sampler or (samplers.FOR_MOTION if adapter is not None else drawing.sampler)
    pipe = generate.pipeline(base, sampler, controlnet, adapter).to(device)
    if base.vision_encoder is not None:
        base.vision_encoder.to(device)
    drawing.encode()

    written = []
    with tqdm(total=options.count * steps, desc="drawing") as bar:
        for seed in range(options.seed, options.seed + options.count):
            noise = generate.noise(base, [seed], width, height)
            if adapter is not None:
                frames = [seed * 1000 + frame for frame in range(more["num_frames"])]
                noise = generate.noise(base, frames, width, height).transpose(0, 1)[None]  # [1, 4, F, h, w]
            latents = drawing.sample(
                pipe,
                noise,
                controlnet,
                negative=drawing.negative,
                steps=steps,
                guidance=options.guidance,
                on_step=bar.update,
                **more,
            )
            written.append(_write(generate.decode(base, latents), options.out / f"picture_{seed:05}"))
    if options.maps:
        for number, found in enumerate(drawing.maps(), 1):
            written.append(_write([found], options.out / f"map_{number}"))
    return written


def _method(options: argparse.Namespace) -> str:
    """What is asked for, else what the files are of. Files that do not tell are the SSR-Encoder's to refuse."""
    if options.subject and not options.method:
        return "lasr"
    if options.method or not options.encoder or not all(path.is_file() for path in options.encoder):
        return options.method or "ssr"
    try:
        kind = checkpoints.kind(options.encoder)
    except ValueError:
        return "ssr"
    if kind == "lasr":
        raise ValueError(f"{shown(options.encoder[0])} is {checkpoints.NAMES[kind]}, no encoder. Give it with --subject.")
    return kind


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
