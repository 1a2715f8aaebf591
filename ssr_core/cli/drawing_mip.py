"""`ssr-encoder generate` with an MIP-Adapter: objects of a name and one picture or several each, as hqhQAQ/MIP-Adapter's inference.py
draws them: strength by variant, negative prompt, sampler.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .. import pictures
from ..checkpoints import alone
from ..hosts.diffusers import mip
from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.base import Base
from ..hosts.diffusers.load import load_base
from ..maps import OPACITY, overlay
from ..methods.mip import formats
from ..methods.mip.encode import References
from ..methods.mip.objects import MERGES, ObjectSet, check_name
from ..methods.ssr.subject import SCALINGS
from ..mini import files
from ..reference import reference_picture
from ..schedule import Manner, layer_strengths
from ..sheet import from_picture, to_picture
from ..vision import Fit, seen_box
from .parsing import one_each, weights_of

NOT_TAKEN = {
    "subject": [], "query": [], "null_query": "", "mask_weight": 1.0, "subject_scaling": SCALINGS[0], "controlnet_sees_subject": False,
    "motion_adapter": None, "framing": None, "words": None,
}  # fmt: skip
"""Options of other methods, as they are where nobody gives them."""


class MIPDrawing:
    sampler = "euler"
    """That of Stable Diffusion XL's base."""
    steps = 30

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        for name, default in NOT_TAKEN.items():
            if getattr(options, name) != default:
                instead = " An object has a --name instead." if name == "query" else ""
                raise ValueError(f"--{name.replace('_', '-')} is not for MIP-Adapters; leave it out.{instead}")
        self.files = weights_of(options, files.MIP_ADAPTER)
        if not self.files:
            raise ValueError("--method mip needs an MIP-Adapter: give --encoder with its file, such as model_sdxl.bin.")
        self.negative = (
            options.negative if options.negative is not None else "" if options.model == files.MINI else mip.NEGATIVE
        )
        self.pictures, self.first = _objects(options)
        if options.scale and len(options.scale) != len(self.pictures):
            raise ValueError(
                f"{len(self.pictures)} objects ({', '.join(self.pictures)}), but {len(options.scale)} of --scale. Give one for each "
                "object, or none."
            )
        self.scales = options.scale or [1.0] * len(self.pictures)
        self.objects: ObjectSet = ()

    def texts(self) -> list[str]:
        return list(self.pictures)

    def load(self, dtype: torch.dtype, device: torch.device) -> Base:
        self.adapter = formats.load(alone(self.files), dtype=torch.float32).to(device)
        shapes = self.adapter.config
        self.base = load_base(self.options.model, self.options.vision_encoder, dtype, mip.vision_named(shapes))
        check_unet(self.base.unet, shapes.layout)
        return self.base

    def encode(self) -> None:
        self.objects = tuple(
            mip.encode(self.base, self.adapter, References(shown, fit=self.options.fit), name, scale)
            for (name, shown), scale in zip(self.pictures.items(), self.scales, strict=True)
        )

    def sample(self, pipe: Any, noise: Tensor, controlnet: Any, **sampling: Any) -> Tensor:
        options, shapes = self.options, self.adapter.config
        strength = mip.strength_of(shapes) if options.strength is None else options.strength
        return mip.sample(
            pipe,
            self.adapter,
            self.objects,
            [options.prompt],
            noise,
            manner=Manner(strength, layers=layer_strengths(shapes.layout, options.layers)),
            combine=options.combine or MERGES[0],
            **sampling,
        )

    def maps(self) -> list[Image.Image]:
        """Each object's first picture, dark where the vision model does not see it."""
        side = self.objects[0].pictures.shape[1]
        return [_seen(picture, mask, side, self.options.fit) for picture, mask in self.first.values()]


Given = tuple[Image.Image, Tensor | None]
"""A picture and the mask [h, w] that it has, if it has one."""


def _seen(picture: Image.Image, mask: Tensor | None, side: int, fit: Fit) -> Image.Image:
    """side: of the vision model's square in pixels. What a mask cuts out is seen whole, since a square is made of it before."""
    shown = from_picture(picture)
    if mask is not None:
        return to_picture(overlay(shown, mask, OPACITY))
    box = seen_box(picture.width, picture.height, side, fit)
    return to_picture(overlay(shown, torch.ones(1, 1), OPACITY, box))


def _objects(options: argparse.Namespace) -> tuple[dict[str, list[Image.Image]], dict[str, Given]]:
    """By name, in the order in which names come first: its pictures, each cut out on white where it has a mask, and the first as it was
    given."""
    found: dict[str, list[Image.Image]] = {}
    first: dict[str, Given] = {}
    # The authors' demo takes names from files too.
    names = one_each(options, "name", None)
    for path, name, mask in zip(options.reference, names, one_each(options, "mask", None), strict=True):
        called = path.stem if name is None else name
        check_name(called)
        picture = pictures.open_picture(path)
        opened = None if mask is None else pictures.open_mask(mask)
        first.setdefault(called, (picture, opened))
        found.setdefault(called, []).append(reference_picture(picture, None if opened is None else opened.numpy()))
    return found, first
