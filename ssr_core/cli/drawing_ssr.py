"""`ssr-encoder generate` with the SSR-Encoder: a subject for each reference, selected by words, a mask or both."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .. import pictures, samplers
from ..hosts.diffusers import ssr
from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.base import Base
from ..hosts.diffusers.controlnet import shown_to_controlnet
from ..hosts.diffusers.load import load_base
from ..merge import COMBINES
from ..methods.ssr import formats
from ..methods.ssr.subject import SubjectSet
from ..mini import files
from ..schedule import Manner, layer_strengths
from ..sheet import heat_picture
from .parsing import one_each, weights_of

STRENGTH = 0.65
"""Of SSR-Encoder's own scripts."""


class SSRDrawing:
    sampler = samplers.DEFAULT
    steps = 30

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        if options.name:
            raise ValueError("--name is for MIP-Adapters; with an SSR-Encoder words select: give --query.")
        if options.subject:
            raise ValueError(
                "--subject is for LASR; leave it out. An SSR-Encoder takes subjects from pictures: give --reference."
            )
        for name in ("framing", "words"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} is for ELITE; leave it out.")
        if options.combine not in (None, *COMBINES):
            raise ValueError(f'--combine "{options.combine}" is for MIP-Adapters; expected {", ".join(COMBINES)}.')
        self.negative = options.negative or ""
        self.queries, self.scales = one_each(options, "query", ""), one_each(options, "scale", 1.0)
        masks = one_each(options, "mask", None)
        if any(not query and mask is None for query, mask in zip(self.queries, masks, strict=True)):
            raise ValueError("Every reference needs a query: words (--query), a mask (--mask), or both.")
        self.references = [pictures.open_picture(path) for path in options.reference]
        self.masks = [None if path is None else pictures.open_mask(path) for path in masks]
        self.subjects: SubjectSet = ()

    def texts(self) -> list[str]:
        return [self.options.null_query, *self.queries]

    def load(self, dtype: torch.dtype, device: torch.device) -> Base:
        options = self.options
        self.base = load_base(options.model, options.vision_encoder, dtype)
        named = weights_of(options, files.ENCODER)
        if not named:
            raise ValueError(f"{options.model} needs an SSR-Encoder: give --encoder with its file, or the official pair.")
        self.encoder = formats.load(named, dtype=torch.float32).to(device)
        check_unet(self.base.unet, self.encoder.config.layout)
        return self.base

    def encode(self) -> None:
        options = self.options
        self.subjects = tuple(
            subject
            for picture, mask, query, scale in zip(self.references, self.masks, self.queries, self.scales, strict=True)
            for subject in ssr.encode(
                self.base, self.encoder, picture, query, mask, options.mask_weight, options.fit, scale, options.null_query
            )
        )

    def sample(self, pipe: Any, noise: Tensor, controlnet: Any, **sampling: Any) -> Tensor:
        options = self.options
        strength = options.strength if options.strength is not None else (1.0 if options.model == files.MINI else STRENGTH)
        seen = options.controlnet_sees_subject
        with shown_to_controlnet(controlnet, self.subjects, guidance=options.guidance > 1) if seen else nullcontext():
            return ssr.sample(
                pipe,
                self.encoder,
                self.subjects,
                [options.prompt],
                noise,
                manner=Manner(strength, layers=layer_strengths(self.encoder.config.layout, options.layers)),
                combine=options.combine or COMBINES[0],
                scaling=options.subject_scaling,
                **sampling,
            )

    def maps(self) -> list[Image.Image]:
        return [heat_picture(one.map(), picture) for one, picture in zip(self.subjects, self.references, strict=True)]
