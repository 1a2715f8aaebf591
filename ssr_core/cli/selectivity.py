"""`ssr-encoder evaluate selectivity`: what a method selects and draws in the drawn world, with the models that come with it."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .. import tensor_files
from ..evaluation import ssr
from ..evaluation.drawn import Tables, measured_rows, report
from ..evaluation.rows import chosen, listed
from ..evaluation.selectivity import QueryBy
from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.load import load_base
from ..methods.ssr import formats
from ..mini import files
from ..new_files import check_writable
from ..shown import percent
from ..text_files import parse_yaml

HELP = "help"
"""In the place of a row's name: lists the rows."""


def run(options: argparse.Namespace) -> int:
    ablations = dict(_ablation(given) for given in options.ablation)
    rows = ssr.rows({name: _queried_by(path) for name, path in ablations.items()})
    if HELP in options.rows:
        print(f"Tables of --method {options.method}, with their rows:\n{listed(rows)}")
        return 0
    names = chosen(rows, options.rows)
    check_writable(options.out)
    base = load_base(files.MINI)
    named = {"": options.encoder or [files.find(files.FOLDER, files.ENCODER)]} | {
        name: [path] for name, path in ablations.items()
    }
    encoders = {name: formats.load(paths, dtype=torch.float32) for name, paths in named.items()}
    for encoder in encoders.values():
        check_unet(base.unet, encoder.config.layout)
    return measure(ssr.tables(base, encoders, rows), names, options)


def measure(tables: Tables, names: list[str], options: argparse.Namespace) -> int:
    """The rows of these names, and what came of them."""
    found = measured_rows(report(tables, names, options.count, options.out, options.force))
    for name in names:
        row = tables.rows[name]
        if (numbers := found.get(row.table, {}).get(row.title)) is not None:
            print(f"{name}: {', '.join(f'{column} {percent(numbers[column])}' for column in tables.columns)}")
    print(options.out / "selectivity.html")
    return 0


def _ablation(given: str) -> tuple[str, Path]:
    name, equals, path = given.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"--ablation takes NAME=FILE, got {given!r}.")
    return name, Path(path)


def _queried_by(path: Path) -> QueryBy:
    """How an encoder is to be asked, by the training configuration that its file carries; one trained without queries knows no words."""
    training = parse_yaml(tensor_files.read_metadata(path).get("training", "{}"), f"The training configuration in {path}")
    return "nothing" if isinstance(training, dict) and training.get("whole_picture") is True else "text"
