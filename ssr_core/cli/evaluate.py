"""`ssr-encoder evaluate`: selectivity in the drawn world, and the field's benchmarks on photographs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from .. import tensor_files
from ..evaluation import datasets
from ..methods.ssr import formats
from ..mini import files
from ..mini.scene import SIDE, check_size
from ..mini.vocabulary import unknown_words
from ..new_files import check_writable
from ..shown import plain
from ..text_files import parse_yaml
from . import devices, numbers
from .commands import Commands
from .parsing import Help


def add(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure: selectivity in the drawn world, DreamBench, CustomConcept101",
        formatter_class=Help,
    )
    evaluate.add_argument("what", choices=("selectivity", *datasets.NAMES))
    evaluate.add_argument("--out", type=Path, default=Path("evaluation"), help="folder for pictures, JSON and HTML")
    evaluate.add_argument("--encoder", nargs="+", type=Path, help="SSR-Encoder file, or the official pair (default: Mini's)")
    evaluate.add_argument("--seed", type=numbers.benchmark_seed, default=0, help="of the first picture")

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
    photographs.add_argument("--model", default="mini", help='diffusers folder of Stable Diffusion 1.x, or "mini"')
    photographs.add_argument("--vision-encoder", help="folder of openai/clip-vit-large-patch14")
    photographs.add_argument("--clip", help="folder of openai/clip-vit-base-patch32, for CLIP-T and CLIP-I")
    photographs.add_argument("--dino", help="folder of facebook/dino-vits16")
    photographs.add_argument("--device", type=devices.name, default="cpu", help="cuda, mps, cpu")
    photographs.add_argument("--per-prompt", type=numbers.pictures, default=4, help="pictures per prompt")
    photographs.add_argument("--steps", type=numbers.steps, default=30, help="of the sampler")
    photographs.add_argument("--guidance", type=numbers.guidance, default=5.0, help="of the prompt")
    photographs.add_argument(
        "--strength",
        type=numbers.strength,
        default=0.65,
        help="of the subjects",
    )
    photographs.add_argument("--size", type=numbers.side, help="side of a picture in pixels (default: 512, Mini 128)")
    photographs.add_argument(
        "--shard", type=_shard, default="1/1", metavar="I/N", help="draw every N-th picture only, from I = 1 on"
    )
    photographs.add_argument("--draw-only", action="store_true", help="do not score yet; other shards still draw")
    evaluate.set_defaults(run=_run)


def _shard(text: str) -> tuple[int, int]:
    first, slash, count = text.partition("/")
    numbered = slash and all(part.isascii() and part.isdigit() and len(part) <= 9 for part in (first, count))
    if not numbered or not 1 <= int(first) <= int(count):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; expected I/N with I from 1 to N, e.g. 2/8")
    return int(first) - 1, int(count)


def _run(options: argparse.Namespace) -> int:
    from ..hosts.diffusers.attach import check_unet
    from ..hosts.diffusers.load import load_base

    model = files.MINI if options.what == "selectivity" else options.model
    if model != files.MINI and not options.encoder:
        raise ValueError(f"{model} needs an SSR-Encoder: give --encoder with its file, or the official pair.")
    check_writable(options.out)
    device = devices.find(options.device)
    base = load_base(model, options.vision_encoder)
    encoder = formats.load(options.encoder or [files.find(files.FOLDER, files.ENCODER)], dtype=torch.float32)
    check_unet(base.unet, encoder.config.layout)
    if options.what == "selectivity":
        from ..evaluation import drawn, ssr

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
    return _photographs(options, base, encoder, device)


def _trained_without_query(path: Path) -> bool:
    """Whether the training configuration that an encoder's file carries says so; such an encoder knows no words."""
    training = parse_yaml(tensor_files.read_metadata(path).get("training", "{}"), f"The training configuration in {path}")
    return isinstance(training, dict) and training.get("whole_picture") is True


def _photographs(options: argparse.Namespace, base: Any, encoder: Any, device: str) -> int:
    from ..evaluation import harness, scorers
    from ..evaluation.ssr import SSRDrawer

    for name in ("data",) if options.draw_only else ("data", "clip", "dino"):
        if getattr(options, name) is None:
            raise ValueError(f"{options.what} needs --{name}; see ssr-encoder evaluate --help.")
    entries = datasets.named(options.what, options.data, options.references)
    size = options.size or 512
    if options.model == files.MINI:
        size = options.size or SIDE
        check_size(size, size)
        if unknown := unknown_words(" ".join(prompt for entry in entries for prompt in entry.prompts)):
            print(
                plain(f"SSR Mini does not know {', '.join(map(repr, unknown[:12]))}; its pictures will not show that."),
                file=sys.stderr,
            )
    protocol = harness.Protocol(options.per_prompt, options.steps, options.guidance, options.strength, size, options.seed)
    for part in (base.unet, base.vae, base.text_encoder, base.vision_encoder, encoder):
        part.to(device)
    harness.draw(entries, SSRDrawer(base, encoder), options.out, protocol, *options.shard)
    if options.draw_only:
        return 0
    clip, dino = scorers.load_clip(options.clip, device), scorers.load_dino(options.dino, device)
    means = harness.score(entries, options.out, protocol, clip, dino)["means"]
    print(
        f"CLIP-T {means['clip_t']:.4f}, CLIP-I {means['clip_i']:.4f}, DINO {means['dino']:.4f}; {options.out / 'report.html'}"
    )
    return 0
