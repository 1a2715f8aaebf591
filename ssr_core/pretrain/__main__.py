"""Makes Mini's base again: `python -m ssr_core.pretrain --out FOLDER`, or one stage of it. The model card says how long it takes.

A stage that was interrupted goes on from its checkpoint. Afterwards `ssr-encoder train` makes the encoder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import autoencoder, dataset, text, unet, vision

FAMILIES, SEED = 6000, 0
STEPS = {"autoencoder": 3000, "text": 500, "vision": 3500, "unet": 12500}
TRAINED_ON = 18_000
"""How many of the new scenes the UNet and the encoder are trained on."""


def main() -> None:
    every = ["world", *STEPS]
    parser = argparse.ArgumentParser(prog="python -m ssr_core.pretrain", description="Train Mini's base.")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(every)}; default: all, in this order")
    parser.add_argument("--out", type=Path, required=True, help="folder for the drawn world, checkpoints and weights")
    parser.add_argument("--families", type=int, default=FAMILIES, help="how much of the world to draw")
    parser.add_argument("--steps", type=int, help="of every stage, instead of the model card's")
    parser.add_argument("--processes", type=int, default=2, help="that draw the world")
    options = parser.parse_args()
    if unknown := set(options.stages) - set(every):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; the stages are {', '.join(every)}")
    stages = options.stages or every
    world, out = options.out / "world", options.out
    steps = {stage: options.steps or count for stage, count in STEPS.items()}
    if "world" in stages:
        dataset.write(world, options.families, SEED, options.processes)
        lines = (world / "metadata.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (world / "train.jsonl").write_text("".join(lines[:TRAINED_ON]), encoding="utf-8")
    if "autoencoder" in stages:
        autoencoder.run(world, out, steps["autoencoder"])
    if "text" in stages:
        text.run(out, steps["text"])
    if "vision" in stages:
        vision.run(world, out, steps["vision"])
    if "unet" in stages:
        unet.run(world, out, steps["unet"])


if __name__ == "__main__":
    main()
