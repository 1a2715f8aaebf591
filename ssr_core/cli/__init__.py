"""The command `ssr-encoder`. Each subcommand reads its arguments, calls one function, and says what it did.

What the help texts call official is Xiaojiu-z/SSR_Encoder: its code and its released pair of files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import convert, demo, evaluate, generate, train


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="ssr-encoder", description="Tools around the SSR-Encoder.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (demo, generate, convert, train, evaluate):
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"ssr-encoder: {error}", file=sys.stderr)
        return 2
