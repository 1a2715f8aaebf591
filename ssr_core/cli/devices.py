"""Devices named on the command line: refused in words where this machine, or this torch, has none."""

from __future__ import annotations

import argparse
import re

KNOWN = re.compile(r"cpu|mps|cuda(:\d{1,3})?|xpu(:\d{1,3})?")


def name(text: str) -> str:
    """What a device may be called; whether it is there is asked later, as it takes torch."""
    if text != "auto" and not KNOWN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no device; expected auto, cpu, cuda, cuda:1, mps or xpu")
    return text


def find(text: str) -> str:
    """The device of that name; auto: the best there is. Raises ValueError where it is not there."""
    import torch

    kind, _, number = text.partition(":")
    mps = torch.backends.mps.is_available()
    if kind == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    counts = {"cpu": 1, "mps": int(mps), "cuda": torch.cuda.device_count(), "xpu": torch.xpu.device_count()}
    if int(number or 0) >= counts[kind]:
        raise ValueError(
            f"There is no {text} here: torch {torch.__version__} finds {counts[kind]} of {kind}. Use --device cpu, or install a torch "
            "that is made for your card."
        )
    return text
