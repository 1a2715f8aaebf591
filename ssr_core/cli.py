"""The command `ssr-encoder`. Each subcommand reads its arguments, calls one function, and says what it did."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import checkpoints


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ssr-encoder", description="Tools around the SSR-Encoder.")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_convert(commands)
    _add_train(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"ssr-encoder: {error}", file=sys.stderr)
        return 2


def _add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    convert = commands.add_parser(
        "convert", help="make one safetensors file of an encoder, from the official pair or any other known format"
    )
    convert.add_argument("files", nargs="+", type=Path, help="the pair (aligner and layers, in any order), or one file")
    convert.add_argument("--out", required=True, type=Path, help="the safetensors file to write")
    convert.add_argument("--dtype", choices=list(checkpoints.DTYPES), help="default: as in the files")
    convert.add_argument("--force", action="store_true", help="replace the file if it exists")
    convert.set_defaults(run=_convert)


def _convert(options: argparse.Namespace) -> int:
    if options.out.suffix != ".safetensors":
        raise ValueError(f"{options.out} must end in .safetensors.")
    if options.out.exists() and not options.force:
        raise ValueError(f"{options.out} exists. Choose another name, or pass --force to replace it.")
    weights = checkpoints.read(options.files)
    checkpoints.write(weights, options.out, checkpoints.DTYPES[options.dtype] if options.dtype else None)
    numbers = sum(tensor.numel() for tensor in weights.state.values())
    print(f"{options.out}: {numbers:,} parameters, encoder {weights.fingerprint[:12]}")
    return 0


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser(
        "train",
        help="train an encoder as a YAML file describes; also under `accelerate launch -m ssr_core.cli train ...`",
    )
    train.add_argument("config", type=Path, help="the YAML file; fields: ssr_core/training/config.py")
    train.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="fields to replace, e.g. --set lr=1e-5 steps=500"
    )
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in `out`")
    train.add_argument("--cpu", action="store_true", help="do not use a GPU")
    train.add_argument("--stop-after", type=int, metavar="STEP", help="save and end at this step, to go on later")
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    import yaml

    from .training import config, loop

    changes = {}
    for change in options.set:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set takes FIELD=VALUE, got {change!r}.")
        changes[name] = yaml.safe_load(value)
    described = config.read(options.config, changes)
    last = loop.train(described, options.resume, options.cpu, options.stop_after)
    print(f"{last}: checkpoint; its encoder is {last / loop.ENCODER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
