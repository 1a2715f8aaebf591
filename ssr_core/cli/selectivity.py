"""`ssr-encoder evaluate selectivity`: what a method selects and draws in the drawn world, with the models that come with it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from .. import tensor_files
from ..checkpoints import alone
from ..evaluation import elite_tables, lasr_tables, mip_tables, ssr
from ..evaluation.drawn import REASON, Tables, measured_rows, report, told
from ..evaluation.learned import Lessons
from ..evaluation.rows import Row, chosen, listed
from ..evaluation.selectivity import QueryBy
from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.base import Base
from ..hosts.diffusers.learning import BaseModels
from ..hosts.diffusers.load import load_base
from ..methods.elite import formats as elite_formats
from ..methods.lasr import inversion
from ..methods.lasr.recipe import BATCH, RATE, Recipe
from ..methods.mip import formats as mip_formats
from ..methods.ssr import formats as ssr_formats
from ..methods.ssr.encoder import SSREncoder
from ..mini import files
from ..mini.scene import SIDE
from ..new_files import check_writable
from ..text_files import parse_yaml

LEARNING_STEPS = 500
"""For each subject, where none are asked for; Mini's UNet is small."""
HELP = "help"
"""In the place of a row's name: lists the rows."""
Rows = dict[str, Row]


def run(options: argparse.Namespace) -> int:
    if options.ablation and options.method != "ssr":
        raise ValueError(f"--ablation is for the SSR-Encoder; leave it out with --method {options.method}.")
    if options.method not in METHODS:
        raise ValueError(f"--method {options.method} is a row of the tables of --method lasr, which measures both. Give that.")
    if options.words is not None:
        raise ValueError("--words is for benchmarks on photographs: here a subject is learned from its class. Leave it out.")
    described, tables = METHODS[options.method](options)
    if HELP in options.rows:
        print(f"Tables of --method {options.method}, with their rows:\n{listed(described)}")
        return 0
    names = chosen(described, options.rows)
    check_writable(options.out)
    return _measure(tables(names), names, options)


def _measure(tables: Tables, names: list[str], options: argparse.Namespace) -> int:
    say(tables, names, report(tables, names, options.count, options.out, options.force))
    print(options.out / f"{tables.name}.html")
    return 0


def say(tables: Tables, names: list[str], report: Mapping[str, Any]) -> None:
    """Rows of a report, a line each."""
    found = measured_rows(report)
    for name in names:
        row = tables.rows[name]
        if (numbers := found.get(row.table, {}).get(row.title)) is None:
            continue
        columns = {column: told(numbers, column) for column in tables.columns[row.table]}
        print(f"{name}: {numbers.get(REASON) or ', '.join(f'{column} {cell}' for column, cell in columns.items())}")


def _ssr(options: argparse.Namespace) -> tuple[Rows, Callable[[list[str]], Tables]]:
    ablations = dict(_ablation(given) for given in options.ablation)
    described = ssr.rows({name: _queried_by(path) for name, path in ablations.items()})

    def tables(names: list[str]) -> Tables:
        base = load_base(files.MINI)
        encoders = {"": ssr_encoder(base, options.encoder or files.brought(files.ENCODER))}
        encoders |= {name: ssr_encoder(base, [path]) for name, path in ablations.items()}
        return ssr.tables(base, encoders, described)

    return described, tables


def _mip(options: argparse.Namespace) -> tuple[Rows, Callable[[list[str]], Tables]]:
    described = mip_tables.rows()

    def tables(names: list[str]) -> Tables:
        path = alone(options.encoder or files.brought(files.MIP_ADAPTER))
        base = load_base(files.MINI)
        adapter = mip_formats.load(path, dtype=torch.float32)
        check_unet(base.unet, adapter.config.layout)
        return mip_tables.tables(base, adapter, ssr_encoder(base, files.brought(files.ENCODER)), described)

    return described, tables


def _elite(options: argparse.Namespace) -> tuple[Rows, Callable[[list[str]], Tables]]:
    described = elite_tables.rows()

    def tables(names: list[str]) -> Tables:
        paths = options.encoder or files.brought(*files.ELITE)
        base = load_base(files.MINI)
        mappers = elite_formats.load(paths, dtype=torch.float32)
        check_unet(base.unet, mappers.config.layout)
        local = [name for name in names if elite_tables.needs_local(described[name])]
        if local and mappers.local_mapper is None:
            raise ValueError(
                f"{', '.join(local[:4])} need the local mapper, and there is the global one alone. Give both files with --encoder, or "
                '--rows "*-base" "*-global-*".'
            )
        encoder = ssr_encoder(base, files.brought(files.ENCODER))
        return elite_tables.tables(base, mappers, encoder, described)

    return described, tables


def _lasr(options: argparse.Namespace) -> tuple[Rows, Callable[[list[str]], Tables]]:
    described = lasr_tables.rows()

    def tables(names: list[str]) -> Tables:
        base = load_base(files.MINI)
        own = ssr_encoder(base, files.brought(files.ENCODER))
        return lasr_tables.tables(base, *learned_drawers(base, options), own, described)

    return described, tables


def learned_drawers(base: Base, options: argparse.Namespace) -> tuple[lasr_tables.TimedLASR, lasr_tables.TimedInversion]:
    """What learns as the options say, each with a folder of its own."""
    models = BaseModels(base, files.MINI, torch.device("cpu"), options.gradient_checkpointing)

    def lessons(kind: str, rate: float) -> Lessons:
        recipe = Recipe(
            "",
            steps=options.learning_steps or LEARNING_STEPS,
            batch=options.learning_batch or BATCH,
            rate=options.learning_rate or rate,
        )
        folder = (options.subjects or options.out / "subjects") / kind
        return Lessons(recipe, SIDE, folder, folder / "unfinished", {})

    return (
        lasr_tables.TimedLASR(base, models, lessons("lasr", RATE)),
        lasr_tables.TimedInversion(base, models, lessons("textual-inversion", inversion.RATE)),
    )


METHODS = {"ssr": _ssr, "mip": _mip, "elite": _elite, "lasr": _lasr}
"""A method's rows, and what measures those of some names, for which its models are loaded."""


def ssr_encoder(base: Base, paths: list[Path]) -> SSREncoder:
    encoder = ssr_formats.load(paths, dtype=torch.float32)
    check_unet(base.unet, encoder.config.layout)
    return encoder


def _ablation(given: str) -> tuple[str, Path]:
    name, equals, path = given.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"--ablation takes NAME=FILE, got {given!r}.")
    return name, Path(path)


def _queried_by(path: Path) -> QueryBy:
    """How an encoder is to be asked, by the training configuration that its file carries; one trained without queries knows no words."""
    training = parse_yaml(tensor_files.read_metadata(path).get("training", "{}"), f"The training configuration in {path}")
    return "nothing" if isinstance(training, dict) and training.get("whole_picture") is True else "text"
