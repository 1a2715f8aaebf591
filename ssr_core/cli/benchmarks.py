"""`ssr-encoder evaluate` on photographs: a benchmark with a method's own protocol, changed by what the command line says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ..checkpoints import alone
from ..evaluation import concept101, datasets, harness, learned, scorers
from ..evaluation import elite as elite_evaluation
from ..evaluation.elite import ELITEDrawer
from ..evaluation.mip import MIPDrawer
from ..evaluation.ssr import SSRDrawer
from ..hosts.diffusers import mip
from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.learning import BaseModels
from ..hosts.diffusers.load import load_base
from ..methods.elite import formats as elite_formats
from ..methods.elite.framing import FRAMINGS
from ..methods.lasr import inversion
from ..methods.lasr.contexts import checked_alpha
from ..methods.lasr.recipe import BATCH, RATE, STEPS, Recipe
from ..methods.mip import formats as mip_formats
from ..methods.ssr import formats as ssr_formats
from ..mini import files
from ..mini.scene import SIDE, check_size
from ..mini.vocabulary import unknown_words
from ..shown import plain
from .evaluate import LEARNED

CHANGES = ("per_prompt", "steps", "guidance", "strength", "size", "seed")
"""Fields of a protocol that the command line may change."""
AUTHORS_SCHEME = "customconcept101-multi"
"""The benchmark whose references and scores MIP-Adapter's authors have in their own way."""


def run(options: argparse.Namespace) -> int:
    for name in ("data",) if options.draw_only else ("data", "clip", "dino"):
        if getattr(options, name) is None:
            raise ValueError(f"{options.what} needs --{name}; see ssr-encoder evaluate --help.")
    entries = datasets.named(options.what, options.data, options.references)
    drawer, protocol, device = _learning_drawer(options) if options.method in LEARNED else _drawer(options)
    changes = {name: getattr(options, name) for name in CHANGES if getattr(options, name) is not None}
    protocol = replace(protocol, **changes)
    if options.model == files.MINI:
        protocol = protocol if "size" in changes else replace(protocol, size=SIDE)
        check_size(protocol.size, protocol.size)
        if unknown := unknown_words(" ".join(prompt for entry in entries for prompt in entry.prompts)):
            print(
                plain(f"SSR Mini does not know {', '.join(map(repr, unknown[:12]))}; its pictures will not show that."),
                file=sys.stderr,
            )
    scheme = harness.PLAIN
    if options.method == "mip" and options.what == AUTHORS_SCHEME:
        scheme = concept101.scheme(options.data, entries)
    elif options.method == "elite":
        scheme = elite_evaluation.scheme(options.masks, entries)
    elif options.method in LEARNED:
        checked_alpha(protocol.strength)
        drawer.check(entries)
        scheme = learned.scheme(drawer.lessons)
    # Before hours of drawing, so that a folder that is none is told at once.
    judges = None if options.draw_only else (scorers.load_clip(options.clip, device), scorers.load_dino(options.dino, device))
    shard, shards = options.shard
    harness.draw(entries, drawer, options.out, protocol, shard, shards, scheme)
    if judges is None:
        return 0
    means = harness.score(entries, options.out, protocol, *judges, scheme)["means"]
    print(f"{_told(means)}; {options.out / 'report.html'}")
    if "authors" in means:
        print(f"as the benchmark's authors score: {_told(means['authors'])}")
    return 0


def _learning_drawer(options: argparse.Namespace) -> tuple[learned.LearningDrawer[Any], harness.Protocol, str]:
    """The same for methods that learn each concept first."""
    from . import devices

    device = devices.find(options.device)
    base = load_base(options.model, vision_named=None)
    base.vae.to(device)
    models = BaseModels(base, options.model, torch.device(device), options.gradient_checkpointing)
    inverts = options.method == "textual-inversion"
    recipe = Recipe(
        "",
        steps=options.learning_steps or STEPS,
        batch=options.learning_batch or BATCH,
        rate=options.learning_rate or (inversion.RATE if inverts else RATE),
    )
    shard, shards = options.shard
    folder = options.subjects or options.out / "subjects"
    lessons = learned.Lessons(
        recipe,
        options.size or (SIDE if options.model == files.MINI else learned.PROTOCOL.size),
        folder,
        folder / "unfinished" / f"{shard + 1}_of_{shards}",
        {} if options.words is None else learned.words_file(options.words),
    )
    return (learned.InversionDrawer if inverts else learned.LASRDrawer)(base, models, lessons), learned.PROTOCOL, device


def _told(means: Mapping[str, Any]) -> str:
    return f"CLIP-T {means['clip_t']:.4f}, CLIP-I {means['clip_i']:.4f}, DINO {means['dino']:.4f}"


def _drawer(options: argparse.Namespace) -> tuple[Any, harness.Protocol, str]:
    """The method with its models on their device, its protocol and the device."""
    from . import devices

    device = devices.find(options.device)
    if options.method == "mip":
        adapter = mip_formats.load(alone(options.encoder), dtype=torch.float32)
        base = load_base(options.model, options.vision_encoder, vision_named=mip.vision_named(adapter.config))
        check_unet(base.unet, adapter.config.layout)
        drawer: Any = MIPDrawer(base, adapter.to(device))
        protocol = replace(concept101.PROTOCOL, strength=mip.strength_of(adapter.config))
        if options.model == files.MINI:
            protocol = replace(protocol, negative="")  # whose words it does not know
    elif options.method == "elite":
        mappers = elite_formats.load(options.encoder, dtype=torch.float32)
        base = load_base(options.model, options.vision_encoder)
        check_unet(base.unet, mappers.config.layout)
        drawer = ELITEDrawer(base, mappers.to(device), options.framing or FRAMINGS[0])
        protocol = elite_evaluation.PROTOCOL
    else:
        base = load_base(options.model, options.vision_encoder)
        encoder = ssr_formats.load(options.encoder or [files.find(files.FOLDER, files.ENCODER)], dtype=torch.float32)
        check_unet(base.unet, encoder.config.layout)
        drawer, protocol = SSRDrawer(base, encoder.to(device)), harness.Protocol()
    for model in base.models:
        model.to(device)
    return drawer, protocol, device
