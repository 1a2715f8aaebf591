"""What files of a method's weights have in common: their identity, their types, and whether they hold what was expected.

Knows tensors by name. Which names there are, and what they mean, is for a method's formats.py.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Annotated, NamedTuple

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from . import finite
from .layout import UNetLayout
from .shown import shown
from .tensor_files import State, listed

log = logging.getLogger("ssr_encoder")

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

MOST_LEVELS = 16
MOST_RESNETS = 64
"""Of a UNet that a file's metadata describes; real ones have 4 and 2. How many layers there are is bounded by the file's tensors."""
SPARE = 16

IDENTITY = "fingerprint"
"""Metadata: what subjects know the weights by. Of full-precision weights it is computed; a copy in half precision keeps the original's."""
OWN_IDENTITY = "own_fingerprint"
"""Metadata: fingerprint of the weights in the file, half precision and all. Files written before there was this do not have it."""
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")

Size = Annotated[int, Field(le=1 << 31)]
"""A number in a configuration: of what a file can hold, none is larger."""


class WrittenLayout(BaseModel):
    """UNetLayout in a file's metadata. heads: one number for all levels, or one for each."""

    channels: tuple[Size, ...]
    depths: tuple[Size, ...]
    resnets: Size
    heads: Size | tuple[Size, ...]
    mid_depth: Size = 1

    def layout(self) -> UNetLayout:
        return UNetLayout(**dict(self))


class Kind(NamedTuple):
    """How messages name weights. what: "an SSR-Encoder"; remedy: what to do where a file is damaged."""

    what: str
    remedy: str


def fingerprint(state: Mapping[str, Tensor], identity: str) -> str:
    """Identity of weights: their shapes as `identity` spells them, and names and float32 values, whatever file they were in."""
    digest = hashlib.blake2b(identity.encode(), digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy())  # type: ignore[arg-type]  # a contiguous array is a buffer
    return digest.hexdigest()


def is_half(state: Mapping[str, Tensor]) -> bool:
    return all(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in state.values())


def identity_of(state: Mapping[str, Tensor], metadata: Mapping[str, str], own: str, named: str, kind: Kind) -> str:
    """The identity of weights read from a file. own: that of the weights themselves.

    A half-precision copy keeps the identity of what it was converted from, which rounded weights cannot prove. What can be checked is
    that they are the weights the claim was written for; files of earlier versions lack even that.
    """
    if not is_half(state):
        return own
    claimed, written = metadata.get(IDENTITY, own), metadata.get(OWN_IDENTITY)
    if not _FINGERPRINT.fullmatch(claimed):
        raise ValueError(f'{named}: its fingerprint is "{shown(claimed, 40)}", expected 32 hexadecimal digits. {kind.remedy}')
    if written not in (None, own):
        raise ValueError(
            f"{named}: its weights are not those that its fingerprint was written for (found {own[:12]}, written for "
            f"{shown(written, 12)}). They were changed afterwards, so subjects of encoder {claimed[:12]} may mean nothing to them. "
            f"{kind.remedy}"
        )
    if written is None and claimed != own:
        log.info(
            "SSR-Encoder: %s is a half-precision copy that says it is encoder %s; a file of an earlier version, of which that cannot be "
            "checked. Convert the original again to have it checked.",
            named,
            claimed[:12],
        )
    return claimed


def of_one_type(state: State, named: str) -> State:
    """All tensors in the widest of their types, which holds every number of the others."""
    types = {tensor.dtype for tensor in state.values()}
    if len(types) < 2:
        return state
    widest = reduce(torch.promote_types, types)
    log.warning("SSR-Encoder: %s holds %s; used as %s.", named, " and ".join(sorted(map(str, types))), widest)
    return {name: tensor.to(widest) for name, tensor in state.items()}


def check_extent(
    state: Mapping[str, Tensor],
    layout: UNetLayout,
    counts: Mapping[str, int],
    widths: Sequence[int],
    named: str,
    kind: Kind,
) -> None:
    """Whether a description is of no more than a file can hold: how many of something by its tensors' number, widths by their sides.

    counts: what the description has besides layers, by its name in the plural.
    """
    sides = [side for tensor in state.values() if tensor.numel() for side in tensor.shape]
    # A spare lets a file that lacks tensors be told which.
    most, widest = len(state) + SPARE, max(sides, default=0)
    described = {
        "levels": (len(layout.channels), MOST_LEVELS),
        "resnets": (layout.resnets, MOST_RESNETS),
        "layers": (sum(layout.depths) * (2 * layout.resnets + 1) + layout.mid_depth, most),
        **{what: (count, most) for what, count in counts.items()},
    }
    for what, (number, limit) in described.items():
        if number > limit:
            raise ValueError(
                f"{named} does not fit its description of {shown(number)} {what}; a file of {len(state)} tensors has at most {limit}. "
                f"{kind.remedy}"
            )
    own = max(*layout.channels, *widths)
    if own > max(widest, 1 << 16):
        raise ValueError(
            f"{named} does not fit its description with a width of {shown(own)}; its tensors are at most {widest} wide. {kind.remedy}"
        )
    for width, heads in zip(layout.channels, layout.heads, strict=True):
        if width % heads:
            raise ValueError(f"{named}: its configuration divides a width of {width} among {shown(heads)} heads. {kind.remedy}")


def check_state(
    state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], named: str, described: str, kind: Kind
) -> None:
    """Names, shapes, types and numbers. described: what the weights should be, as in "an encoder of 16 layers"."""
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise ValueError(
            f"{named} does not fit {described}"
            + (f"; missing {listed(missing)}" if missing else "")
            + (f"; not expected {listed(extra)}" if extra else "")
            + ". A part of the file is missing, or it is made for another model."
        )
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{named}: {name} has shape {shown(tuple(state[name].shape))}, expected {shape}. "
                "The file was made for another UNet, text encoder or vision model."
            )
        if state[name].dtype not in DTYPES.values():
            raise ValueError(f"{named}: {name} has type {state[name].dtype}; expected fp32, fp16 or bf16.")
    finite.check({name: state[name] for name in expected}, named, f"The weights are damaged. {kind.remedy}")
