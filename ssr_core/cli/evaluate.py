"""`ssr-encoder evaluate`: selectivity in the drawn world, and the field's benchmarks on photographs (benchmarks.py)."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from .. import tensor_files
from ..evaluation import datasets
from ..methods.elite.framing import FRAMINGS
from ..methods.ssr import formats
from ..mini import files
from ..new_files import check_writable
from ..text_files import parse_yaml
from . import devices, numbers
from .commands import Commands
from .parsing import Help

METHODS = ("ssr", "mip", "elite", "lasr", "textual-inversion")
LEARNED = ("lasr", "textual-inversion")
"""Methods that learn each concept first."""
PHOTOGRAPHS_ONLY = {
    "mip": ("an MIP-Adapter", "an MIP-Adapter: give --encoder with its file, such as model_sdxl.bin"),
    "elite": ("ELITE", "ELITE's weights: give --encoder with its file, or the global mapper's and the local mapper's"),
    "lasr": ("LASR", ""),
    "textual-inversion": ("Textual Inversion", ""),
}
"""Methods that no query asks, by what they are called and what they need."""
OF_LEARNING = ("subjects", "words", "learning_steps", "learning_batch", "learning_rate", "gradient_checkpointing")


def add(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure: selectivity in the drawn world, DreamBench, CustomConcept101",
        formatter_class=Help,
    )
    evaluate.add_argument("what", choices=("selectivity", *datasets.NAMES))
    evaluate.add_argument("--out", type=Path, default=Path("evaluation"), help="folder for pictures, JSON and HTML")
    evaluate.add_argument(
        "--method", choices=METHODS, default=METHODS[0], help="what is measured; all but ssr: on photographs only"
    )
    evaluate.add_argument(
        "--encoder",
        nargs="+",
        type=Path,
        help="SSR-Encoder file, or the official pair (default: Mini's); MIP-Adapter file; ELITE's one or two; none for what is learned",
    )
    evaluate.add_argument(
        "--seed", type=numbers.benchmark_seed, help="of the first picture (default: 0, MIP 420, ELITE and LASR 42)"
    )

    drawn = evaluate.add_argument_group("selectivity")
    drawn.add_argument("--count", type=numbers.pictures, default=100, help="held-out cases for each row of the table")
    drawn.add_argument(
        "--ablation", nargs="+", default=[], metavar="NAME=FILE", help="encoders trained otherwise, for more rows"
    )

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
    learned.add_argument("--learning-steps", type=numbers.training_step, help="for each concept (default: 4000)")
    learned.add_argument("--learning-batch", type=numbers.whole(1, 64), help="pictures in a step (default: 2)")
    learned.add_argument(
        "--learning-rate", type=numbers.real(1e-8, 1), help="for each picture (default: 1e-3, embeddings 5e-3)"
    )
    learned.add_argument("--gradient-checkpointing", action="store_true", help="less memory, and a third more time")
    evaluate.set_defaults(run=_run)


def _shard(text: str) -> tuple[int, int]:
    first, slash, count = text.partition("/")
    numbered = slash and all(part.isascii() and part.isdigit() and len(part) <= 9 for part in (first, count))
    if not numbered or not 1 <= int(first) <= int(count):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; expected I/N with I from 1 to N, e.g. 2/8")
    return int(first) - 1, int(count)


def _run(options: argparse.Namespace) -> int:
    if options.method in PHOTOGRAPHS_ONLY:
        name, needed = PHOTOGRAPHS_ONLY[options.method]
        if options.what == "selectivity":
            raise ValueError(
                f"selectivity measures what queries select, which {name} has none of; --method {options.method} goes with the others."
            )
        if needed and not options.encoder:
            raise ValueError(f"--method {options.method} needs {needed}.")
        if not needed and options.encoder:
            raise ValueError(f"{name} has no encoder; what it learns is in --subjects. Leave --encoder out.")
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
    check_writable(options.out)
    if options.what != "selectivity":
        from . import benchmarks

        return benchmarks.run(options)
    return _selectivity(options)


def _selectivity(options: argparse.Namespace) -> int:
    from ..evaluation import drawn, ssr
    from ..hosts.diffusers.attach import check_unet
    from ..hosts.diffusers.load import load_base

    base = load_base(files.MINI)
    encoder = formats.load(options.encoder or [files.find(files.FOLDER, files.ENCODER)], dtype=torch.float32)
    check_unet(base.unet, encoder.config.layout)
    others = {}
    for given in options.ablation:
        name, equals, path = given.partition("=")
        if not equals:
            raise ValueError(f"--ablation takes NAME=FILE, got {given!r}.")
        other = formats.load([Path(path)], dtype=torch.float32)
        others[name] = ssr.Ablation(other, "nothing" if _trained_without_query(Path(path)) else "text")
    found = drawn.report(ssr.tables(base, encoder, others, options.count), options.out)
    for name, row in found["rows"].items():
        print(f"{name}: look {row['look']:.1%}, prompt {row['prompt']:.1%}, map {row['map_mass']:.1%}")
    print(options.out / "selectivity.html")
    return 0


def _trained_without_query(path: Path) -> bool:
    """Whether the training configuration that an encoder's file carries says so; such an encoder knows no words."""
    training = parse_yaml(tensor_files.read_metadata(path).get("training", "{}"), f"The training configuration in {path}")
    return isinstance(training, dict) and training.get("whole_picture") is True
