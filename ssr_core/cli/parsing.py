"""How the commands read their arguments: errors fit for a terminal, help that tells defaults where there are some."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from ..mini import files
from ..shown import plain


class Parser(argparse.ArgumentParser):
    """Names what is wrong in a line, not below a screen of options, and without control characters that an argument may hold."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {plain(message)}; see {self.prog} --help\n")


class Help(argparse.HelpFormatter):
    """Adds (default: ...) where there is a default that people would type, and the help does not tell it itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told, default = action.help, action.default
        silent = default is None or default is argparse.SUPPRESS or isinstance(default, bool) or default in ("", [], ())
        if silent or (told and "default" in told):
            return told
        return f"{told or ''} (default: %(default)s)".lstrip()


def one_each(options: argparse.Namespace, name: str, default: Any) -> list[Any]:
    """An option's values, one for each reference. Raises ValueError where there are others than that, or none."""
    given, count = getattr(options, name), len(options.reference)
    if given and len(given) != count:
        raise ValueError(f"{count} references, but {len(given)} of --{name}. Give one for each reference, or none.")
    return given or [default] * count


def weights_of(options: argparse.Namespace, *built_in: str) -> list[Path]:
    """The method's files: those that are named, else Mini's where Mini draws; none otherwise."""
    if options.encoder or options.model != files.MINI:
        return options.encoder or []
    return files.brought(*built_in)
