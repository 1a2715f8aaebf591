"""`ssr-encoder convert`: one safetensors file of an encoder."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import weight_files
from ..methods.ssr import formats
from ..new_files import check_writable
from .commands import Commands


def add(commands: Commands) -> None:
    convert = commands.add_parser(
        "convert", help="make one safetensors file of an encoder, from the official pair or any other known format"
    )
    convert.add_argument("files", nargs="+", type=Path, help="the pair (aligner and layers, in any order), or one file")
    convert.add_argument("--out", required=True, type=Path, help="the safetensors file to write")
    convert.add_argument("--dtype", choices=list(weight_files.DTYPES), help="default: as in the files")
    convert.add_argument("--force", action="store_true", help="replace the file if it exists")
    convert.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.out.suffix != ".safetensors":
        raise ValueError(f"{options.out} must end in .safetensors.")
    if options.out.exists() and not options.force:
        raise ValueError(f"{options.out} exists. Choose another name, or pass --force to replace it.")
    check_writable(options.out.parent)
    weights = formats.read(options.files)
    formats.write(weights, options.out, weight_files.DTYPES[options.dtype] if options.dtype else None)
    numbers = sum(tensor.numel() for tensor in weights.state.values())
    print(f"{options.out}: {numbers:,} parameters, encoder {weights.fingerprint[:12]}")
    return 0
