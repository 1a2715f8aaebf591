"""A UNet with more layers a block out of one with fewer, drawing exactly the same until it is trained further.

What is new does nothing at first: a residual block ends in zeros, a transformer's last projection is zero, and where a block of
the upward half joins a skip, it passes on what came from below (function-preserving, as in Net2Net, arXiv 1511.05641).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_PLACE = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)")
_CLOSED = ("conv2.weight", "conv2.bias", "proj_out.weight", "proj_out.bias")


def grown(small: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the larger UNet. small: of the smaller one; fresh: of the larger as initialised, diffusers' names, equal widths.

    Upward, the new layers stand between the old ones: the first joins the deepest skip and the last the shallowest, which the old
    ones did too. Raises ValueError where the two differ in more than the number of layers.
    """
    state = {}
    for name, value in fresh.items():
        place = _PLACE.fullmatch(name)
        old = name if place is None else _old_name(place, small, fresh)
        if old is None:
            assert place is not None
            state[name] = _neutral(place.group(5), value)
        elif old not in small or small[old].shape != value.shape:
            raise ValueError(f"{name} cannot be taken over: the smaller UNet has no {old} of shape {tuple(value.shape)}.")
        else:
            state[name] = small[old].float()
    return state


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def _old_name(place: re.Match[str], small: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> str | None:
    """The smaller UNet's name of a layer; None for a new one, which stands before the last (upward) or at the end (downward)."""
    side, block, kind, number, rest = place.groups()
    prefix = f"{side}.{block}.{kind}."
    had, has, index = _count(small, prefix), _count(fresh, prefix), int(number)
    if side == "up_blocks" and index == has - 1:
        index = had - 1
    elif index >= (had - 1 if side == "up_blocks" else had):
        return None
    return f"{prefix}{index}.{rest}"


def _neutral(part: str, value: Tensor) -> Tensor:
    if part in _CLOSED:
        return torch.zeros_like(value)
    if part == "conv_shortcut.weight":  # [C, C + skip, 1, 1]
        return torch.eye(value.shape[0], value.shape[1])[:, :, None, None]
    return torch.zeros_like(value) if part == "conv_shortcut.bias" else value
