"""Inputs that several nodes have, so that they look and mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ..ssr_core.methods.ssr.subject import MOST_SUBJECTS
from ..ssr_core.vision import FITS
from . import checks
from .compat import RARE

SEARCHED = ["ipadapter", "ip-adapter", "reference", "consistent character", "subject", "style"]
"""What people type who look for such a pack. Only nodes that encode are found by these, so that a graph begins with them."""


NONE_SAVED = "none saved yet"


def published(name: str, files: list[str], default: str, tooltip: str) -> io.Input:
    """A file of a method's weights. Without any, the name under which they are published is preset, which tells the frontend that it
    is missing."""
    preset = files[0] if files and default not in files else default
    return io.Combo.Input(name, options=files, default=preset, tooltip=tooltip)


def saved(name: str, files: list[str], tooltip: str) -> io.Input:
    """A file that a Save node wrote."""
    return io.Combo.Input(name, options=files or [NONE_SAVED], tooltip=tooltip)


def check_saved(name: Any, find: Callable[[str], Any], node: str) -> bool | str:
    """For validate_inputs. node: that writes such files."""
    if name == NONE_SAVED:
        return f"Nothing was saved yet that could be loaded. Save something with {node}, press R and choose its file."
    return name is None or checks.found(lambda: find(name))  # None: linked, known when the node runs


def fit(tooltip: str, rare: bool = False) -> io.Input:
    return io.Combo.Input("fit", options=list(FITS), default=FITS[0], optional=True, tooltip=tooltip, **(RARE if rare else {}))


def crop(instead: str = "") -> io.Input:
    """instead: what else the node says of it."""
    return io.String.Input(
        "crop",
        default="",
        optional=True,
        tooltip="The part of the reference that is seen: drag the dashed frame in the picture below, or write left, top, right and bottom "
        f'in pixels: "40, 20, 300, 280". Empty: the whole picture.{instead}',
        **RARE,
    )


def index(tooltip: str) -> io.Input:
    """Of a subject among several, counted from 1."""
    return io.Int.Input("index", default=1, min=1, max=MOST_SUBJECTS, optional=True, tooltip=tooltip)


def opacity() -> io.Input:
    return io.Float.Input(
        "opacity", default=0.6, min=0.0, max=1.0, step=0.05, optional=True, tooltip="How strongly the map covers the picture."
    )
