"""`ssr-encoder evaluate compare`: the methods side by side on SSR Mini, with the weights that come with it or others."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from ..checkpoints import alone
from ..evaluation import compare
from ..evaluation.rows import chosen, listed
from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.base import Base
from ..hosts.diffusers.load import load_base
from ..methods.elite import formats as elite_formats
from ..methods.elite.mapper import Elite
from ..methods.mip import formats as mip_formats
from ..methods.mip.adapter import MIPAdapter
from ..mini import files
from ..new_files import check_writable
from ..shown import shown
from .selectivity import HELP, learned_drawers, say, ssr_encoder

BROUGHT: dict[str, tuple[str, ...]] = {
    compare.SSR: (files.ENCODER,),
    compare.MIP: (files.MIP_ADAPTER,),
    compare.ELITE: files.ELITE,
}
"""Mini's own files, by method."""


def run(options: argparse.Namespace) -> int:
    if options.encoder or options.method != "ssr":
        raise ValueError("compare measures all methods; leave --method out, and give weights with --weights METHOD=FILE.")
    if options.words is not None:
        raise ValueError("--words is for benchmarks on photographs: here a subject is learned from its class. Leave it out.")
    described = compare.rows(options.instances, options.prompts)
    if HELP in options.rows:
        print(f"Tables of compare, with their rows:\n{listed(described)}")
        return 0
    names, given = chosen(described, options.rows), _given(options.weights)
    check_writable(options.out)
    tables, found = compare.report(_weights(given, options), described, names, options.out, options.force)
    say(tables, names, found)
    print(options.out / f"{tables.name}.html")
    return 0


def _given(texts: list[str]) -> dict[str, list[Path]]:
    """Files by method. Raises ValueError for what is not METHOD=FILE."""
    found: dict[str, list[Path]] = {}
    for text in texts:
        method, equals, path = text.partition("=")
        if not equals or not path or method not in BROUGHT:
            raise ValueError(f"--weights takes METHOD=FILE with a method of {', '.join(BROUGHT)}; got {shown(text, 80)!r}.")
        found.setdefault(method, []).append(Path(path))
    return found


def _weights(given: Mapping[str, list[Path]], options: argparse.Namespace) -> compare.Weights:
    base = load_base(files.MINI)
    own = ssr_encoder(base, files.brought(files.ENCODER))
    paths, missing = {}, {}
    for method, names in BROUGHT.items():
        here = [files.FOLDER / name for name in names]
        absent = [path.name for path in here if not path.is_file()]
        if method not in given and absent:
            example = " ".join(f"{method}=FILE" for _ in names)
            missing[method] = f"SSR Mini has no {' and no '.join(absent)}. Give weights with --weights {example}."
        else:
            paths[method] = given.get(method, here)
    lasr, inversion = learned_drawers(base, options)
    return compare.Weights(
        base,
        own,
        ssr_encoder(base, paths[compare.SSR]),
        _mip(base, paths[compare.MIP]) if compare.MIP in paths else None,
        _elite(base, paths[compare.ELITE]) if compare.ELITE in paths else None,
        lasr,
        inversion,
        missing,
    )


def _mip(base: Base, paths: list[Path]) -> MIPAdapter:
    adapter = mip_formats.load(alone(paths), dtype=torch.float32)
    check_unet(base.unet, adapter.config.layout)
    return adapter


def _elite(base: Base, paths: list[Path]) -> Elite:
    mappers = elite_formats.load(paths, dtype=torch.float32)
    check_unet(base.unet, mappers.config.layout)
    if mappers.local_mapper is None:
        raise ValueError(
            "ELITE is compared with both mappers, and there is the global one alone. Give --weights elite=GLOBAL elite=LOCAL."
        )
    return mappers
