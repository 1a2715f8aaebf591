"""The command `ssr-encoder`. Each subcommand reads its arguments, calls one function, and says what it did.

What the help texts call official is Xiaojiu-z/SSR_Encoder: its code and its released pair of files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..shown import plain
from ..version import version
from . import convert, demo, evaluate, generate, learn, train
from .parsing import Parser

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""How torch says so where it has no class for it."""
NO_MEMORY = (
    "There is not enough memory. Lower the size, the batch or the number of subjects, use half precision (--dtype, precision), or "
    "another device."
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="ssr-encoder", description="Tools around the SSR-Encoder.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version()}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for command in (demo, generate, convert, learn, train, evaluate):
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        return _refused(error)
    except ImportError as error:
        return _refused(f"{error}. Install what this command needs: pip install 'ssr-encoder[{_extra(options.run)}]'")
    except MemoryError:
        return _refused(NO_MEMORY)
    except RuntimeError as error:
        if any(words in str(error) for words in OUT_OF_MEMORY):
            return _refused(NO_MEMORY)
        if str(error).startswith("DataLoader worker"):
            return _refused("A process that reads data was ended by the system, mostly for want of memory. Lower `workers`.")
        raise
    except KeyboardInterrupt:
        print("ssr-encoder: stopped", file=sys.stderr)
        return 130


def _refused(why: object) -> int:
    print(f"ssr-encoder: {plain(why)}", file=sys.stderr)
    return 2


def _extra(run: object) -> str:
    return "train" if run is train.run else "diffusers"
