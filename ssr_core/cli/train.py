"""`ssr-encoder train`: train an encoder."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..text_files import parse_yaml
from . import numbers
from .commands import Commands


def add(commands: Commands) -> None:
    train = commands.add_parser(
        "train",
        help="train an encoder as a YAML file describes; also under `accelerate launch -m ssr_core.cli train ...`",
    )
    train.add_argument("config", type=Path, help="the YAML file; fields: ssr_core/training/config.py and ssr.py beside it")
    train.add_argument(
        "--set",
        nargs="*",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="fields to replace, e.g. --set lr=1e-5 steps=500",
    )
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in `out`")
    train.add_argument("--cpu", action="store_true", help="do not use a GPU")
    train.add_argument(
        "--stop-after", type=numbers.training_step, metavar="STEP", help="save and end at this step, to go on later"
    )
    train.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from ..training import loop, methods

    changes = {}
    for change in options.set:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE, got {change!r}.")
        changes[name] = parse_yaml(value, f"--set {name}")
    described = methods.read_config(options.config, changes)
    last = loop.train(described, options.resume, options.cpu, options.stop_after)
    method = methods.METHODS[described.method]
    print(f"{last}: checkpoint; its {method.file} is {last / loop.trained_file(method)}")
    return 0
