"""`ssr-encoder convert`: one safetensors file of an encoder, adapter or learned subject, or the files that its authors publish."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import torch

from .. import checkpoints, weight_files
from ..methods.elite import formats as elite
from ..methods.lasr import formats as lasr
from ..methods.lasr import subject_file
from ..methods.mip import formats as mip
from ..methods.ssr import formats as ssr
from ..new_files import check_writable
from ..shown import shown
from ..tensor_files import State
from .commands import Commands


def add(commands: Commands) -> None:
    convert = commands.add_parser(
        "convert",
        help="make one safetensors file of an encoder, adapter or learned subject, from the official files or any other known format",
    )
    convert.add_argument(
        "files", nargs="+", type=Path, help="the official pair (in any order; ELITE's global mapper first), or one file"
    )
    convert.add_argument("--method", choices=list(checkpoints.NAMES), help="what the files are of (default: they tell)")
    convert.add_argument("--out", required=True, type=Path, help="the file to write")
    convert.add_argument("--dtype", choices=list(weight_files.DTYPES), help="default: as in the files")
    convert.add_argument(
        "--official",
        action="store_true",
        help="of an MIP-Adapter: the names that its authors and other packs read, instead of ours",
    )
    convert.add_argument(
        "--stage",
        choices=elite.STAGES,
        help="of ELITE: this mapper alone, under the names that its authors publish, and where --out ends in .pt as they write it",
    )
    convert.add_argument("--force", action="store_true", help="replace the file if it exists")
    convert.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    pickled = options.stage is not None and options.out.suffix.lower() in elite.PICKLES
    if options.out.suffix != ".safetensors" and not pickled:
        ends = f".safetensors or {', '.join(elite.PICKLES)}" if options.stage else ".safetensors"
        raise ValueError(f"{options.out} must end in {ends}.")
    if options.out.exists() and not options.force:
        raise ValueError(f"{options.out} exists. Choose another name, or pass --force to replace it.")
    check_writable(options.out.parent)
    kind = options.method or checkpoints.kind(options.files)
    if options.official and kind != "mip":
        raise ValueError(f"--official is for MIP-Adapters; these files are of {checkpoints.NAMES[kind]}. Leave it out.")
    if options.stage and kind != "elite":
        raise ValueError(f"--stage is for ELITE; these files are of {checkpoints.NAMES[kind]}. Leave it out.")
    written = _converted(kind, options, weight_files.DTYPES[options.dtype] if options.dtype else None)
    numbers = sum(tensor.numel() for tensor in written.state.values())
    print(f"{options.out}: {numbers:,} parameters, {written.what} {written.fingerprint[:12]}")
    return 0


class _Written(NamedTuple):
    """What was read and written, and what messages call it."""

    state: State
    fingerprint: str
    what: str


def _converted(kind: str, options: argparse.Namespace, dtype: torch.dtype | None) -> _Written:
    if kind == "lasr":
        return _converted_subject(options)
    if kind == "mip":
        adapter = mip.read(checkpoints.alone(options.files))
        (mip.write_official if options.official else mip.write)(adapter, options.out, dtype)
        return _Written(adapter.state, adapter.fingerprint, "adapter")
    if kind == "elite":
        mappers = elite.read(options.files)
        if options.stage:
            elite.write_stage(mappers, options.stage, options.out, dtype)
            mappers = mappers.of(options.stage)
        else:
            elite.write(mappers, options.out, dtype)
        return _Written(mappers.state, mappers.fingerprint, "mappers")
    encoder = ssr.read(options.files)
    ssr.write(encoder, options.out, dtype)
    return _Written(encoder.state, encoder.fingerprint, "encoder")


def _converted_subject(options: argparse.Namespace) -> _Written:
    path = checkpoints.alone(options.files, "lasr")
    if options.dtype:
        raise ValueError("--dtype is not for subjects of LASR, whose files hold float32. Leave it out.")
    subjects = lasr.load(path)
    if len(subjects) != 1:
        raise ValueError(
            f"{shown(path)} holds {len(subjects)} subjects, and a file of ours one. Load it in Load Subject (LASR); Save Subject (LASR) "
            "writes a file for each."
        )
    subject_file.save(subjects[0], options.out, {"made_by": "ssr-encoder convert"})
    return _Written(dict(subjects[0].weights), subjects[0].fingerprint, f'subject "{shown(subjects[0].placeholder, 40)}"')
