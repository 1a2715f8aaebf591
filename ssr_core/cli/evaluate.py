"""`ssr-encoder evaluate`: selectivity in the drawn world, and the field's benchmarks on photographs (benchmarks.py)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..evaluation import datasets
from ..methods.elite.framing import FRAMINGS
from ..mini import files
from ..new_files import check_writable
from . import devices, numbers
from .commands import Commands
from .parsing import Help

METHODS = ("ssr", "mip", "elite")
NEEDED = {
    "mip": "an MIP-Adapter: give --encoder with its file, such as model_sdxl.bin",
    "elite": "ELITE's weights: give --encoder with its file, or the global mapper's and the local mapper's",
}
"""What methods take on photographs, where Mini brings nothing that helps."""


def add(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure: selectivity in the drawn world, DreamBench, CustomConcept101",
        formatter_class=Help,
    )
    evaluate.add_argument("what", choices=("selectivity", *datasets.NAMES))
    evaluate.add_argument("--out", type=Path, default=Path("evaluation"), help="folder for pictures, JSON and HTML")
    evaluate.add_argument("--method", choices=METHODS, default=METHODS[0], help="what is measured")
    evaluate.add_argument(
        "--encoder",
        nargs="+",
        type=Path,
        help="SSR-Encoder file or the official pair, MIP-Adapter file, ELITE's one or two (default: Mini's own; on photographs SSR only)",
    )

    drawn = evaluate.add_argument_group("selectivity")
    drawn.add_argument("--count", type=numbers.pictures, default=100, help="held-out cases for each row of the table")
    drawn.add_argument(
        "--ablation", nargs="+", default=[], metavar="NAME=FILE", help="SSR: encoders trained otherwise, for more rows"
    )

    drawn.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="NAME",
        help='rows, whole tables or patterns such as "text-*" to measure now; what --out has of the others is kept ("help" lists them)',
    )
    drawn.add_argument("--force", action="store_true", help="replace what --out has of other weights, cases or settings")

    photographs = evaluate.add_argument_group("benchmarks on photographs")
    photographs.add_argument("--data", type=Path, help="the benchmark's folder, as its authors publish it")
    photographs.add_argument(
        "--references", type=Path, help="DreamBench: JSON {subject: file stem} of the pictures to take subjects from"
    )
    photographs.add_argument(
        "--masks",
        type=Path,
        help="ELITE: folder with <concept>/<picture>.png, white where the object is (default: all of it is)",
    )
    photographs.add_argument("--framing", choices=FRAMINGS, help=f"ELITE: what of a reference is seen (default: {FRAMINGS[0]})")
    photographs.add_argument("--model", default="mini", help='diffusers folder of Stable Diffusion 1.x or XL, or "mini"')
    photographs.add_argument("--vision-encoder", help="folder of the method's CLIP vision model")
    photographs.add_argument("--clip", help="folder of openai/clip-vit-base-patch32, for CLIP-T and CLIP-I")
    photographs.add_argument("--dino", help="folder of facebook/dino-vits16")
    photographs.add_argument("--device", type=devices.name, default="cpu", help="cuda, mps, cpu")
    photographs.add_argument("--seed", type=numbers.benchmark_seed, help="of the first picture (default: 0, MIP 420, ELITE 42)")
    photographs.add_argument("--per-prompt", type=numbers.pictures, help="pictures per prompt (default: 4, MIP 1)")
    photographs.add_argument("--steps", type=numbers.steps, help="of the sampler (default: 30, ELITE 100)")
    photographs.add_argument("--guidance", type=numbers.guidance, help="of the prompt (default: 5)")
    photographs.add_argument(
        "--strength", type=numbers.strength, help="of the subjects (default: 0.65; MIP 0.75, with a resampler 0.65; ELITE 0.8)"
    )
    photographs.add_argument("--size", type=numbers.side, help="side of a picture in pixels (default: 512, MIP 1024, Mini 128)")
    photographs.add_argument(
        "--shard", type=_shard, default="1/1", metavar="I/N", help="draw every N-th picture only, from I = 1 on"
    )
    photographs.add_argument("--draw-only", action="store_true", help="do not score yet; other shards still draw")
    evaluate.set_defaults(run=_run, drawn=_defaults(drawn), photographs=_defaults(photographs))


def _defaults(group: Any) -> dict[str, Any]:
    """What options of a group are where nobody gives them."""
    return {action.dest: _read(action) for action in group._group_actions}


def _read(action: argparse.Action) -> Any:
    """A default as it comes out of reading: argparse reads those that are texts."""
    return action.type(action.default) if callable(action.type) and isinstance(action.default, str) else action.default


def _shard(text: str) -> tuple[int, int]:
    first, slash, count = text.partition("/")
    numbered = slash and all(part.isascii() and part.isdigit() and len(part) <= 9 for part in (first, count))
    if not numbered or not 1 <= int(first) <= int(count):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; expected I/N with I from 1 to N, e.g. 2/8")
    return int(first) - 1, int(count)


def _check_belonging(options: argparse.Namespace) -> None:
    """Refuse options of the other kind of measurement, which would have no effect."""
    drawn = options.what == "selectivity"
    for group, kind in ((options.photographs, "benchmarks on photographs"), (options.drawn, "selectivity")):
        if drawn == (kind == "selectivity"):
            continue
        for name, default in group.items():
            if getattr(options, name) != default:
                raise ValueError(f"--{name.replace('_', '-')} is for {kind}; leave it out.")


def _run(options: argparse.Namespace) -> int:
    if options.what != "selectivity" and options.method in NEEDED and not options.encoder:
        raise ValueError(f"--method {options.method} needs {NEEDED[options.method]}.")
    for option in ("masks", "framing"):
        if getattr(options, option) is not None and options.method != "elite":
            raise ValueError(f"--{option} is for ELITE; leave it out.")
    if options.what != "selectivity" and options.model != files.MINI and not options.encoder:
        raise ValueError(f"{options.model} needs an SSR-Encoder: give --encoder with its file, or the official pair.")
    _check_belonging(options)
    if options.what == "selectivity":
        from . import selectivity

        return selectivity.run(options)
    check_writable(options.out)
    from . import benchmarks

    return benchmarks.run(options)
