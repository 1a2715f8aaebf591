"""One run of `ssr-encoder learn`: read the pictures, load the models, make the steps, and write the files.

Separate from learn.py, which lists the options and needs none of the libraries that learn.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from .. import pictures, weight_files
from ..curve import curve
from ..hosts.diffusers import generate, lasr
from ..hosts.diffusers.base import fingerprint
from ..hosts.diffusers.learning import BaseModels, views_of_pictures
from ..hosts.diffusers.load import load_base
from ..interrupts import stopped_between_steps
from ..methods.lasr import inversion, memory, progress, subject_file
from ..methods.lasr.inversion import InversionLearner, OneVector
from ..methods.lasr.learning import LayerwiseLearner, Learning, kept_whatever_happens, learned_subject
from ..methods.lasr.recipe import RATE, Recipe, begin, describing
from ..methods.lasr.subject import LasrSubject
from ..methods.lasr.texts import caption_frames
from ..mini import files
from ..mini.scene import SIDE, check_size
from ..new_files import check_writable, write_new
from ..text_files import read_text
from . import devices

RUN = "run"
"""Part of what a file says of itself: which run it is of (_identity)."""


def run(options: argparse.Namespace) -> list[Path]:
    """Learn, and return the files that were written. options: learn.py."""
    mini = options.model == files.MINI
    side = options.size or (SIDE if mini else 512)
    if mini:
        check_size(side, side)
    recipe = Recipe(
        options.words, tuple(options.weights), options.placeholder, options.class_word, options.steps, options.batch, options.seed,
        options.phrases, options.rate or RATE, kind=options.kind,
    )  # fmt: skip
    named = _pictures(options.pictures)
    opened = [pictures.open_picture(path) for path in named]
    masks = [
        None if options.masks is None else _mask(options.masks, path, picture)
        for path, picture in zip(named, opened, strict=True)
    ]
    captions = caption_frames([_caption(path) for path in named], recipe.placeholder) if options.captions else ()
    inverts = options.method == "textual-inversion"
    _check_out(options, inverts)
    kept = progress.load(options.out, recipe) if options.resume else None

    device = torch.device(devices.find(options.device))
    base = load_base(options.model, dtype=weight_files.DTYPES[options.dtype], vision_named=None)
    base.vae.to(device)
    models = BaseModels(base, options.model, device, options.gradient_checkpointing)
    describing(recipe, models.tokens)
    run_of = _identity(options, recipe, side, captions, opened, masks, fingerprint(*base.models))
    if kept and subject_file.provenance(options.out).get(RUN, run_of) != run_of:
        raise ValueError(
            f"{options.out} was learned otherwise: from other pictures, masks or captions, on another base, or with another size, fit, "
            "seed, batch, rate or number of phrases. Give the same to go on, or another --out to begin anew."
        )
    views = views_of_pictures(base, opened, masks, side, options.fit)
    learner: Any
    begun = None
    if inverts:
        learner = InversionLearner(models, recipe, options.rate or inversion.RATE)
    else:
        begun = kept.subject if kept else begin(models, recipe)
        learner = LayerwiseLearner(begun, recipe, device)
        text = base.text_encoder.config
        shape = memory.TextShape(text.hidden_size, text.num_hidden_layers)
        needs = memory.estimate(base.layout, shape, side, recipe, base.unet.dtype.itemsize, options.gradient_checkpointing)
        print(f"learning takes about {needs}", file=sys.stderr)
    step, state = (kept.subject.learning.step, kept.state) if kept else (0, None)
    learning = Learning(models, learner, recipe, views, captions, step, state, models.knows_photos)
    return _learn(options, base, learning, begun, run_of)


def _learn(options: argparse.Namespace, base: Any, learning: Learning, begun: LasrSubject | None, run_of: str) -> list[Path]:
    written = []

    def keep() -> None:
        if begun is not None:
            progress.keep(learning, begun, options.out, {"made_by": "ssr-encoder learn", RUN: run_of})
        elif isinstance(vector := learning.learner.module, OneVector):
            inversion.save(vector.vector, options.out)

    total = learning.recipe.steps
    with kept_whatever_happens(keep), stopped_between_steps() as stopped, tqdm(
        total=total, initial=learning.step, desc="learning", mininterval=1
    ) as bar:  # fmt: skip
        for losses in learning.until(total):
            bar.update()
            bar.set_postfix({name: f"{value:.4f}" for name, value in losses.items()})
            if learning.step % options.save_every == 0:
                keep()
            if options.preview_every and learning.step % options.preview_every == 0 and begun is not None:
                shown = _preview(base, learned_subject(learning, begun), learning, options.model == files.MINI)
                written.append(_write(shown, options.out.with_name(f"{options.out.stem}_{learning.step:06}.png")))
            if stopped:
                raise KeyboardInterrupt
    keep()
    numbers = [(step, losses["reconstruction"]) for step, losses in learning.history]
    chart = curve(numbers, f"reconstruction loss, {len(numbers):,} steps")
    return [options.out, *written, _write(chart, options.out.with_name(f"{options.out.stem}_loss.png"))]


def _preview(base: Any, subject: LasrSubject, learning: Learning, mini: bool) -> Image.Image:
    """What a prompt with the subject draws by now, always from the same noise."""
    prompt = f"a {'picture' if mini else 'photo'} of a {subject.placeholder}"
    side = learning.views.latents.shape[-1] * 8
    latents = lasr.sample(
        generate.pipeline(base), (subject,), [prompt], generate.noise(base, [learning.recipe.seed], side, side), steps=12
    )
    return generate.decode(base, latents)[0]


def _identity(
    options: argparse.Namespace,
    recipe: Recipe,
    side: int,
    captions: tuple[str, ...],
    opened: list[Image.Image],
    masks: list[Tensor | None],
    base: str,
) -> str:
    """What makes two runs the same but for their length."""
    told = (replace(recipe, steps=1), side, options.fit, captions, base, [one.size for one in opened])
    digest = hashlib.blake2b(repr(told).encode(), digest_size=16)
    for picture, mask in zip(opened, masks, strict=True):
        digest.update(picture.convert("RGB").tobytes() + (b"" if mask is None else mask.numpy().tobytes()))
    return digest.hexdigest()


def _write(picture: Image.Image, path: Path) -> Path:
    return write_new(path, lambda part: picture.save(part, "PNG"))


def _check_out(options: argparse.Namespace, inverts: bool) -> None:
    if options.out.suffix != ".safetensors":
        raise ValueError(f"--out is {options.out}; expected a name that ends in .safetensors.")
    if inverts and options.resume:
        raise ValueError("--resume goes on with a subject of LASR; an embedding is learned in one run. Leave it out.")
    if options.resume and options.force:
        raise ValueError("--resume goes on with --out, --force begins anew in its place. Give one of them.")
    if not options.resume and not options.force and options.out.exists():
        raise ValueError(
            f"{options.out} is already there. Give another --out, --resume to go on from it, or --force to replace it."
        )
    check_writable(options.out.parent)


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}. Give one with pictures of the subject.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in pictures.SUFFIXES)
    if not found:
        raise ValueError(f"{folder} has no pictures; expected files that end in {', '.join(pictures.SUFFIXES)}.")
    return found


def _mask(folder: Path, picture: Path, opened: Image.Image) -> Tensor:
    """[H, W]."""
    named = (folder / f"{picture.stem}{suffix}" for suffix in pictures.SUFFIXES)
    path = next((one for one in named if one.is_file()), None)
    if path is None:
        raise ValueError(f"{folder} has no mask for {picture.name}. Give it one of the same name, or leave --masks out.")
    mask = pictures.open_mask(path)
    if mask.shape != (opened.height, opened.width):
        raise ValueError(
            f"The mask {path} is {mask.shape[1]} x {mask.shape[0]}, its picture {opened.width} x {opened.height}. Give one of the same "
            "size."
        )
    return mask


def _caption(picture: Path) -> str:
    return read_text(picture.with_suffix(".txt")).strip()
