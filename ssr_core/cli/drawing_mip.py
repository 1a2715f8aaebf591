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
from ..methods.mip import formats
from ..methods.mip.encode import References
from ..methods.mip.objects import MERGES, ObjectSet, check_name
from ..methods.ssr.subject import SCALINGS
from ..mini.files import MINI
from ..reference import reference_picture
from ..schedule import Manner, layer_strengths
from .parsing import one_each

NOT_TAKEN = {
    "query": [], "null_query": "", "mask_weight": 1.0, "subject_scaling": SCALINGS[0], "controlnet_sees_subject": False,
    "motion_adapter": None, "framing": None, "words": None,
}  # fmt: skip
"""Options of the SSR-Encoder, as they are where nobody gives them."""


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
        if not options.encoder:
            raise ValueError("--method mip needs an MIP-Adapter: give --encoder with its file, such as model_sdxl.bin.")
        self.negative = options.negative if options.negative is not None else "" if options.model == MINI else mip.NEGATIVE
        self.pictures = _objects(options)
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
        self.adapter = formats.load(alone(self.options.encoder), dtype=torch.float32).to(device)
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
        """What the vision model saw of each object's first picture."""
        return [Image.fromarray(one.pictures[0].numpy()) for one in self.objects]


def _objects(options: argparse.Namespace) -> dict[str, list[Image.Image]]:
    """Pictures by name, in the order in which names come first; each cut out on white where it has a mask."""
    found: dict[str, list[Image.Image]] = {}
    # The authors' demo takes names from files too.
    names = one_each(options, "name", None)
    for path, name, mask in zip(options.reference, names, one_each(options, "mask", None), strict=True):
        called = path.stem if name is None else name
        check_name(called)
        picture = pictures.open_picture(path)
        marked = None if mask is None else pictures.open_mask(mask).numpy()
        found.setdefault(called, []).append(reference_picture(picture, marked))
    return found
