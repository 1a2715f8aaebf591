"""`ssr-encoder learn`: a subject out of a few pictures of it, for LASR, or an embedding as Textual Inversion makes it."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import devices, numbers
from .commands import Commands
from .parsing import Help

METHODS = ("lasr", "textual-inversion")
KINDS = ("auto", "person", "animal", "object")
FITS = ("crop", "stretch")


def add(commands: Commands) -> None:
    learn = commands.add_parser(
        "learn", help="learn a subject from a folder of pictures, to be named in prompts by a placeholder", formatter_class=Help
    )
    learn.add_argument("pictures", type=Path, help="folder of pictures of one subject; 3 to 10 are usual")
    learn.add_argument("--words", required=True, help='what describes it, such as "tabby cat"')
    learn.add_argument(
        "--weights", type=numbers.real(0, 100), nargs="+", action="extend", default=[], help="one for each word; without: equal"
    )
    learn.add_argument("--placeholder", default="z", help="the word that will stand for it, one token")
    learn.add_argument("--class-word", default="", help="what it is, one token (default: the word of the largest weight)")
    learn.add_argument("--kind", choices=KINDS, default="auto", help="what the phrases suit that it is learned with")
    learn.add_argument("--masks", type=Path, help="folder of masks with the pictures' names; only what they mark is learned")
    learn.add_argument("--captions", action="store_true", help="use the .txt beside each picture, which names the placeholder")
    learn.add_argument(
        "--fit", choices=FITS, default="crop", help="how a picture becomes square: its middle, or the whole of it"
    )
    learn.add_argument("--size", type=numbers.side, help="side of the square (default: 512, Mini 128)")

    how = learn.add_argument_group("how")
    how.add_argument("--method", choices=METHODS, default="lasr", help="textual-inversion makes an ordinary embedding")
    how.add_argument("--model", default="mini", help='diffusers folder of Stable Diffusion 1.x, or "mini"')
    how.add_argument("--steps", type=numbers.training_step, default=4000, help="in all")
    how.add_argument("--batch", type=numbers.whole(1, 64), default=2, help="pictures in a step")
    how.add_argument("--phrases", type=numbers.whole(1, 16), default=2, help="for each picture and step")
    how.add_argument("--rate", type=numbers.real(1e-8, 1), help="for each picture of a batch (default: 1e-3, embeddings 5e-3)")
    how.add_argument("--seed", type=numbers.seed, default=23, help="of everything that is drawn")
    how.add_argument("--gradient-checkpointing", action="store_true", help="less memory, and a third more time")
    how.add_argument("--device", type=devices.name, default="auto", help="cuda, mps, cpu")
    how.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), default="fp32", help="precision of the models")

    out = learn.add_argument_group("files")
    out.add_argument("--out", type=Path, default=Path("learned.safetensors"), help="the file; its optimizer lies beside it")
    out.add_argument("--resume", action="store_true", help="go on from --out, where a run was stopped")
    out.add_argument("--force", action="store_true", help="replace --out, if it is there, and begin anew")
    out.add_argument("--save-every", type=numbers.training_step, default=500, help="steps")
    out.add_argument("--preview-every", type=numbers.training_step, help="steps; draws the subject beside --out")
    learn.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from . import learning  # needs diffusers

    for path in learning.run(options):
        print(path)
    return 0
