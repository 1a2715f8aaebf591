"""`ssr-encoder demo`: the built-in models at work."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from .. import pictures
from ..new_files import check_new, write_new
from . import numbers
from .commands import Commands


def add(commands: Commands) -> None:
    demo = commands.add_parser("demo", help="the built-in models at work: heat maps and new pictures on one sheet, in a minute")
    demo.add_argument("--out", type=Path, default=Path("ssr_demo.png"), help="the sheet to write (default: %(default)s)")
    demo.add_argument("--seed", type=numbers.seed, default=0, help="another seed, another scene and other pictures")
    demo.add_argument("--picture", type=Path, help="a picture of the drawn world instead of a new one; needs --query")
    demo.add_argument(
        "--query", nargs="+", action="extend", help="what to select in it, e.g. star fish (default: every object of the scene)"
    )
    demo.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.picture is not None and not options.query:
        raise ValueError("--picture needs --query: the words of what to select in it.")
    if options.out.suffix.lower() not in pictures.SUFFIXES:
        raise ValueError(f"--out must name a picture ({', '.join(pictures.SUFFIXES)}), got {options.out}.")
    check_new(options.out)
    from .. import demo  # needs diffusers

    scene = demo.scene(options.seed)
    picture = pictures.open_picture(options.picture) if options.picture is not None else scene.drawn.picture
    queries = options.query or [thing.instance.kind for thing in scene.things]
    sheet = demo.run(picture, queries, options.seed)
    kind = Image.registered_extensions()[options.out.suffix.lower()]
    written = write_new(options.out, lambda part: sheet.save(part, kind))
    print(f"{written}: one row a query; the reference, what the query selects, and that subject under two prompts")
    return 0
