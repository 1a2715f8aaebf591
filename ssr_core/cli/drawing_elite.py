"""`ssr-encoder generate` with ELITE: a picture and its mask each become a word of the prompt, as csyxwei/ELITE's inference_global.py,
inference_local.py and demo draw them: strength (lambda), sampler, steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .. import pictures
from ..hosts.diffusers import elite
from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.base import Base
from ..hosts.diffusers.load import load_base
from ..methods.elite import formats
from ..methods.elite.framing import FRAMINGS
from ..methods.elite.subject import DEFAULT_LAMBDA, DEFAULT_WORDS, EliteSubjects, together
from ..methods.ssr.subject import SCALINGS
from ..mini import files
from ..schedule import Manner, layer_strengths
from ..sheet import heat_picture
from ..vision import FITS
from .parsing import one_each, weights_of

NOT_TAKEN = {
    "subject": [], "query": [], "null_query": "", "mask_weight": 1.0, "subject_scaling": SCALINGS[0], "controlnet_sees_subject": False,
    "motion_adapter": None, "combine": None, "fit": FITS[0],
}  # fmt: skip
"""Options of other methods, as they are where nobody gives them."""
INSTEAD = {"query": " A mask marks the object (--mask).", "fit": " Give --framing."}
STEPS = 100
"""Of the authors' scripts."""
MASK_SUFFIX = "_bg.png"
"""Of the mask's file that lies beside a picture, in the authors' folders."""


class ELITEDrawing:
    sampler = "lms"
    steps = STEPS

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        for name, default in NOT_TAKEN.items():
            if getattr(options, name) != default:
                raise ValueError(f"--{name.replace('_', '-')} is not for ELITE; leave it out.{INSTEAD.get(name, '')}")
        self.files = weights_of(options, *files.ELITE)
        if not self.files:
            raise ValueError(
                "--method elite needs ELITE's weights: give --encoder with its file, or the global mapper's and the local mapper's."
            )
        if len(options.reference) > 1 and not options.name:
            raise ValueError(
                f'{len(options.reference)} references need a word each in the prompt: give --name, as in "--name S Y".'
            )
        self.negative = options.negative or ""
        self.placeholders = one_each(options, "name", elite.PLACEHOLDER)
        self.scales = one_each(options, "scale", 1.0)
        masks = one_each(options, "mask", None)
        self.pictures = [pictures.open_picture(path) for path in options.reference]
        self.masks = [_mask(given, path) for given, path in zip(masks, options.reference, strict=True)]
        self.subjects: EliteSubjects = ()

    def texts(self) -> list[str]:
        return list(self.placeholders)

    def load(self, dtype: torch.dtype, device: torch.device) -> Base:
        self.elite = formats.load(self.files, dtype=torch.float32).to(device)
        self.base = load_base(self.options.model, self.options.vision_encoder, dtype)
        check_unet(self.base.unet, self.elite.config.layout)
        return self.base

    def encode(self) -> None:
        framing = self.options.framing or FRAMINGS[0]
        self.subjects = together(
            *(
                elite.encode(self.base, self.elite, picture, mask, framing, strength=scale)
                for picture, mask, scale in zip(self.pictures, self.masks, self.scales, strict=True)
            )
        )

    def sample(self, pipe: Any, noise: Tensor, controlnet: Any, **sampling: Any) -> Tensor:
        options = self.options
        strength = DEFAULT_LAMBDA if options.strength is None else options.strength
        return elite.sample(
            pipe,
            self.elite,
            self.subjects,
            [options.prompt],
            noise,
            manner=Manner(strength, layers=layer_strengths(self.elite.config.layout, options.layers)),
            placeholders=self.placeholders,
            words=options.words or DEFAULT_WORDS,
            **sampling,
        )

    def maps(self) -> list[Image.Image]:
        """What of each reference is the object."""
        return [heat_picture(one.map(), picture) for one, picture in zip(self.subjects, self.pictures, strict=True)]


def _mask(given: Path | None, picture: Path) -> Tensor | None:
    """[H, W]: what is given, else the file that the authors' folders have beside a picture."""
    beside = picture.with_name(f"{picture.stem}{MASK_SUFFIX}")
    path = given or (beside if beside.is_file() else None)
    return None if path is None else pictures.open_mask(path)
