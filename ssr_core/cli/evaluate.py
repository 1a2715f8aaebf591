"""`ssr-encoder evaluate`: the drawn world (selectivity.py, compare.py), and the field's benchmarks on photographs (benchmarks.py)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..evaluation import datasets
from ..methods.elite.framing import FRAMINGS
from ..mini import files
from ..new_files import check_writable
from . import devices, numbers
from .commands import LEARNED, Commands
from .parsing import Help

METHODS = ("ssr", "mip", "elite", "lasr", "textual-inversion")
NEEDED = {
    "mip": "an MIP-Adapter: give --encoder with its file, such as model_sdxl.bin",
    "elite": "ELITE's weights: give --encoder with its file, or the global mapper's and the local mapper's",
}
"""What methods take on photographs, where Mini brings nothing that helps."""
DRAWN = ("selectivity", "compare")
"""What is measured in the drawn world."""
OF_LEARNING = ("subjects", "words", "learning_steps", "learning_batch", "learning_rate", "gradient_checkpointing")


def add(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure: selectivity in the drawn world, the methods side by side, DreamBench, CustomConcept101",
        formatter_class=Help,
    )
    evaluate.add_argument("what", choices=(*DRAWN, *datasets.NAMES))
    evaluate.add_argument("--out", type=Path, default=Path("evaluation"), help="folder for pictures, JSON and HTML")
    evaluate.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="what is measured; selectivity of lasr has Textual Inversion beside it",
    )
    evaluate.add_argument(
        "--encoder",
        nargs="+",
        action="extend",
        type=Path,
        help="SSR-Encoder file or official pair, MIP-Adapter file, ELITE's one or two (default: Mini's; on photographs SSR only)",
    )

    selective = evaluate.add_argument_group("selectivity")
    selective.add_argument("--count", type=numbers.pictures, default=100, help="held-out cases for each row of the table")
    selective.add_argument(
        "--ablation",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="SSR: encoders trained otherwise, for more rows",
    )

    compared = evaluate.add_argument_group("compare")
    compared.add_argument("--instances", type=numbers.whole(1, 200), default=20, help="held out, to judge the methods on")
    compared.add_argument("--prompts", type=numbers.whole(1, 1000), default=10, help="for each instance")
    compared.add_argument(
        "--weights",
        nargs="+",
        action="extend",
        default=[],
        metavar="METHOD=FILE",
        help="of ssr, mip and elite, one for each file, such as elite=GLOBAL elite=LOCAL (default: Mini's)",
    )

    drawn = evaluate.add_argument_group("selectivity and compare")
    drawn.add_argument(
        "--rows",
        nargs="+",
        action="extend",
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
    photographs.add_argument(
        "--seed", type=numbers.benchmark_seed, help="of the first picture (default: 0, MIP 420, ELITE and LASR 42)"
    )
    photographs.add_argument("--per-prompt", type=numbers.pictures, help="pictures per prompt (default: 4, MIP 1)")
    photographs.add_argument("--steps", type=numbers.steps, help="of the sampler (default: 30, ELITE 100, LASR 50)")
    photographs.add_argument("--guidance", type=numbers.guidance, help="of the prompt (default: 5)")
    photographs.add_argument(
        "--strength",
        type=numbers.strength,
        help="of the subjects (default: 0.65; MIP 0.75, with a resampler 0.65; ELITE 0.8); LASR: alpha, 0 static only (0.5)",
    )
    photographs.add_argument("--size", type=numbers.side, help="side of a picture in pixels (default: 512, MIP 1024, Mini 128)")
    photographs.add_argument(
        "--shard", type=_shard, default="1/1", metavar="I/N", help="draw every N-th picture (LASR: entry) only, from I = 1 on"
    )
    photographs.add_argument("--draw-only", action="store_true", help="do not score yet; other shards still draw")

    learned = evaluate.add_argument_group("what is learned first, LASR and textual-inversion")
    learned.add_argument(
        "--subjects", type=Path, help="folder of what was learned, made or gone on with (default: OUT/subjects)"
    )
    learned.add_argument(
        "--words",
        type=Path,
        help='JSON {concept: {"words": "tabby cat", "weights": [1, 2], "class_word": "cat"}} (default: the class)',
    )
    learned.add_argument("--learning-steps", type=numbers.training_step, help="for each concept (default: 4000; on Mini 500)")
    learned.add_argument("--learning-batch", type=numbers.whole(1, 64), help="pictures in a step (default: 2)")
    learned.add_argument(
        "--learning-rate", type=numbers.real(1e-8, 1), help="for each picture (default: 1e-3, embeddings 5e-3)"
    )
    learned.add_argument("--gradient-checkpointing", action="store_true", help="less memory, and a third more time")
    evaluate.set_defaults(
        run=_run,
        selective=_defaults(selective),
        compared=_defaults(compared),
        drawn=_defaults(drawn),
        photographs=_defaults(photographs),
    )


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
    groups = (
        (options.photographs, "benchmarks on photographs", options.what not in DRAWN),
        (options.selective, "selectivity", options.what == "selectivity"),
        (options.compared, "compare", options.what == "compare"),
        (options.drawn, "selectivity and compare", options.what in DRAWN),
    )
    for group, kind, belongs in groups:
        if belongs:
            continue
        for name, default in group.items():
            if getattr(options, name) != default:
                raise ValueError(f"--{name.replace('_', '-')} is for {kind}; leave it out.")


def _run(options: argparse.Namespace) -> int:
    if options.what == "compare":
        from . import compare

        _check_belonging(options)
        return compare.run(options)
    if options.what != "selectivity" and options.method in NEEDED and not options.encoder:
        raise ValueError(f"--method {options.method} needs {NEEDED[options.method]}.")
    if options.method in LEARNED and options.encoder:
        raise ValueError(f"--method {options.method} has no encoder; what it learns is in --subjects. Leave --encoder out.")
    for option in ("masks", "framing"):
        if getattr(options, option) is not None and options.method != "elite":
            raise ValueError(f"--{option} is for ELITE; leave it out.")
    for option in OF_LEARNING:
        if getattr(options, option) not in (None, False) and options.method not in LEARNED:
            raise ValueError(f"--{option.replace('_', '-')} is for {' and '.join(LEARNED)}; leave it out.")
    if options.method == "textual-inversion" and options.strength is not None:
        raise ValueError("--strength is not for textual-inversion, whose embeddings have none; leave it out.")
    if options.what != "selectivity" and options.model != files.MINI and options.method == "ssr" and not options.encoder:
        raise ValueError(f"{options.model} needs an SSR-Encoder: give --encoder with its file, or the official pair.")
    _check_belonging(options)
    if options.what == "selectivity":
        from . import selectivity

        return selectivity.run(options)
    check_writable(options.out)
    from . import benchmarks

    return benchmarks.run(options)
