"""Makes Mini's base again: `python -m ssr_core.pretrain --out FOLDER`, or one stage of it. The model card says how long it takes.

A stage that was interrupted goes on from its checkpoint. Afterwards `ssr-encoder train` makes the encoder.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from pathlib import Path

from ..cli import numbers
from ..mini import files
from ..text_files import read_lines
from . import autoencoder, dataset, scenes, text, unet, vision
from .steps import TimeUp

FAMILIES, SCENES, SEED = 6000, 32_000, 0
STEPS = {"autoencoder": 2500, "text": 300, "vision": 3500, "unet": 14000}
TRAINED_ON = 18_000
"""How many of the families' new scenes the encoders are trained on."""


def main() -> None:
    every = ["world", "scenes", *STEPS]
    parser = argparse.ArgumentParser(prog="python -m ssr_core.pretrain", description="Train Mini's base.")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(every)}; default: all, in this order")
    parser.add_argument("--out", type=Path, required=True, help="folder for the drawn world, checkpoints and weights")
    parser.add_argument(
        "--start", type=Path, help="folder of weights to begin with (autoencoder, text, unet); default: fresh ones"
    )
    parser.add_argument(
        "--families", type=numbers.training_step, default=FAMILIES, help="how much of the world to draw for the encoders"
    )
    parser.add_argument("--scenes", type=numbers.training_step, default=SCENES, help="how many scenes to draw for the base")
    parser.add_argument("--steps", type=numbers.training_step, help="of every stage, instead of the model card's")
    parser.add_argument("--processes", type=numbers.whole(1, 256), default=2, help="that draw the world")
    parser.add_argument("--device", default="cpu", help="to train on (cpu, cuda)")
    parser.add_argument(
        "--minutes",
        type=numbers.real(0, math.inf),
        default=math.inf,
        help="save and stop after so long; the same command goes on",
    )
    parser.add_argument("--compile", action="store_true", help="compile the UNet: minutes at first, then faster steps")
    options = parser.parse_args()
    if unknown := set(options.stages) - set(every):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; the stages are {', '.join(every)}")
    deadline = time.monotonic() + 60 * options.minutes
    try:
        run(options.stages or every, options, deadline)
    except TimeUp as stopped:
        parser.exit(3, f"{stopped}\n")


def run(stages: list[str], options: argparse.Namespace, deadline: float) -> None:
    out = options.out
    world, drawn = out / "world", out / "scenes"
    steps = {stage: options.steps or count for stage, count in STEPS.items()}
    limits = {"device": options.device, "deadline": deadline}

    def start(name: str) -> Path | None:
        return None if options.start is None else options.start / name

    if "world" in stages:
        dataset.write(world, options.families, SEED, options.processes)
        lines = itertools.islice(read_lines(world / "metadata.jsonl"), TRAINED_ON)
        (world / "train.jsonl").write_text("".join(line for _, line in lines), encoding="utf-8")
    if "scenes" in stages:
        scenes.write(drawn, options.scenes, SEED, options.processes)
    if "autoencoder" in stages:
        autoencoder.run(drawn, out, steps["autoencoder"], start=start(files.AUTOENCODER), **limits)
    if "text" in stages:
        text.run(out, steps["text"], start=start(files.TEXT_ENCODER), **limits)
    if "vision" in stages:
        vision.run(world, out, steps["vision"])
    if "unet" in stages:
        unet.run(drawn, out, steps["unet"], start=start(files.UNET), compiled=options.compile, **limits)


if __name__ == "__main__":
    main()
