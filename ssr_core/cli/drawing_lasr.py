"""`ssr-encoder generate` with LASR: subjects that were learned before, from their files, with askerlee/AdaFace-dev's alpha, sampler and
steps. There is no reference to look at.
"""

from __future__ import annotations

import argparse
import logging
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..hosts.diffusers import generate, lasr
from ..hosts.diffusers.base import Base
from ..hosts.diffusers.encoders import pieces_of
from ..hosts.diffusers.load import load_base
from ..methods.lasr import contexts, formats
from ..methods.lasr.contexts import checked_alpha
from ..methods.lasr.from_words import one_token
from ..methods.lasr.subject import LasrSubject, LasrSubjects, active, check_base, check_count, set_alpha, together
from ..methods.ssr.subject import SCALINGS
from ..mini import files
from ..schedule import Manner, layer_strengths
from ..shown import shown
from ..text_files import check_characters
from ..vision import FITS

log = logging.getLogger("ssr_encoder")

NOT_TAKEN: dict[str, Any] = {
    "reference": [], "encoder": None, "vision_encoder": None, "query": [], "null_query": "", "mask": [], "mask_weight": 1.0, "fit": FITS[0],
    "framing": None, "words": None, "combine": None, "subject_scaling": SCALINGS[0], "controlnet_sees_subject": False, "maps": False,
}  # fmt: skip
"""Options of other methods, as they are where nobody gives them."""
INSTEAD = {
    "reference": " A subject was learned from pictures before, by ssr-encoder learn; give its file with --subject.",
    "encoder": " Give the subjects' files with --subject.",
    "vision_encoder": " No picture is looked at.",
    "query": " A subject's word in the prompt is its --name.",
    "maps": " No picture is looked at, so there is nothing to show.",
}
MINI_SUBJECT = "lasr_star.safetensors"
"""That Mini brings."""


class LASRDrawing:
    sampler = "ddim"
    steps = 50
    """Both as askerlee/AdaFace-dev draws for its own measurements (evaluation/learned.py)."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        for name, default in NOT_TAKEN.items():
            if getattr(options, name) != default:
                raise ValueError(f"--{name.replace('_', '-')} is not for LASR; leave it out.{INSTEAD.get(name, '')}")
        paths = options.subject or (files.brought(MINI_SUBJECT) if options.model == files.MINI else [])
        if not paths:
            raise ValueError(
                "--method lasr needs learned subjects: give --subject with files of ssr-encoder learn or of LASR's authors."
            )
        self.negative = options.negative or ""
        self.alpha = None if options.strength is None else checked_alpha(options.strength)
        loaded = [one for path in paths for one in formats.load(path)]
        check_count(len(loaded))
        names = _one_each(options, "name", loaded) or [one.placeholder for one in loaded]
        scales = _one_each(options, "scale", loaded) or [1.0] * len(loaded)
        _check_apart(names)
        self.placeholders = names
        self.subjects: LasrSubjects = tuple(one.scaled(scale) for one, scale in zip(loaded, scales, strict=True))

    def texts(self) -> list[str]:
        return self.placeholders

    def load(self, dtype: torch.dtype, device: torch.device) -> Base:
        """What does not fit the base is told here, before anything is drawn."""
        self.base = base = load_base(self.options.model, dtype=dtype, vision_named=None)
        check_base(self.subjects, base.layout, base.text_width)
        named = zip(self.subjects, self.placeholders, strict=True)
        self.subjects = together(
            tuple(one.renamed(name, one_token(name.strip(), self._tokens, "placeholder", "z")) for one, name in named)
        )
        self._check_prompt(active(self.subjects))
        return base

    def _tokens(self, text: str) -> list[tuple[int, str]]:
        ids = self.base.tokenizer(text, add_special_tokens=False).input_ids
        return list(zip(ids, self.base.tokenizer.convert_ids_to_tokens(ids), strict=True))

    def _check_prompt(self, subjects: LasrSubjects) -> None:
        """Whether it names every subject that acts. Warns where a placeholder may be meant as a word."""
        prompt, tokenizer = self.options.prompt, self.base.tokenizer
        for text in (prompt, self.negative):
            check_characters(text, "A prompt")
        length = self.base.text_encoder.config.max_position_embeddings
        ids = tokenizer(prompt, truncation=True, max_length=length, return_tensors="pt").input_ids[0]  # [T]
        placeholders = {one.placeholder: one.token for one in subjects}
        contexts.check_named(ids, list(placeholders.values()), list(placeholders), prompt)
        pieces = pieces_of(tokenizer, ids)
        for doubt in contexts.doubts(pieces, ids.tolist(), placeholders):
            log.warning('SSR-Encoder: the prompt "%s": %s', shown(prompt, 60), doubt)

    def encode(self) -> None:
        """The prompts, once for all pictures."""
        texts = [self.negative, self.options.prompt]
        self.prompts = lasr.SubjectPrompts(self.base.tokenizer, self.base.text_encoder, self.subjects, texts)

    def sample(self, pipe: Any, noise: Tensor, controlnet: Any, **sampling: Any) -> Tensor:
        alpha = set_alpha(active(self.subjects)) if self.alpha is None else self.alpha
        manner = Manner(alpha, layers=layer_strengths(self.base.layout, self.options.layers))
        own = next(pipe.unet.parameters())
        negative, prompt = self.prompts.base.to(own.device, own.dtype).split(1)  # [1, T, D] each
        given = {"prompt": None, "negative_prompt": None, "prompt_embeds": prompt, "negative_prompt_embeds": negative}
        with lasr.subjects_attached(pipe.unet, self.prompts, manner):
            return generate.sample(pipe, [self.options.prompt], noise, **given, **sampling)

    def maps(self) -> list[Image.Image]:
        """None: nothing is selected."""
        return []


def _one_each(options: argparse.Namespace, name: str, subjects: list[LasrSubject]) -> list[Any]:
    """An option's values, one for each subject, or none. A file of LASR's authors may hold several."""
    given = getattr(options, name)
    if given and len(given) != len(subjects):
        listed = ", ".join(f'"{shown(one.placeholder, 40)}"' for one in subjects)
        raise ValueError(
            f"{len(subjects)} subjects ({listed}), but {len(given)} of --{name}. Give one for each subject, or none."
        )
    return given


def _check_apart(placeholders: list[str]) -> None:
    """Whether each has one of its own. The text encoder tells no capitals apart."""
    plain = [name.strip().lower() for name in placeholders]
    if twice := next((name for name in plain if plain.count(name) > 1), None):
        raise ValueError(
            f'Two subjects have the placeholder "{shown(twice, 40)}". Give each a word of its own with --name, as in "--name z y".'
        )
