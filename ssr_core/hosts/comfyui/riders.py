"""What rides on a CONDITIONING: something that a prompt's node knows and that the MODEL's wrappers need row by row.

A rider is a small number among the host's `model_conds`, so the host itself batches, splits, repeats and orders it as it does the
text. The wrappers take it out before the UNet (taken_out). Before a sampling, conds without one get a neutral rider (settle), since the
host batches only conds with the same entries, and tensors that no longer are what a rider rode in on are told apart by the node that
changed them. Knows nothing of what rides.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import torch
from comfy.conds import CONDRegular
from torch import Tensor

from ...shown import shown

log = logging.getLogger("ssr_encoder")

NEUTRAL = 0
"""Number of what carries nothing."""

_ALIVE: WeakValueDictionary[int, Rider] = WeakValueDictionary()
_NUMBERS = itertools.count(NEUTRAL + 1)
_TOLD: WeakSet[Rider] = WeakSet()
_EXPECTED: ContextVar[frozenset[str]] = ContextVar("ssr_encoder_riders", default=frozenset())


@dataclass(frozen=True, eq=False)
class Rider:
    """kind: whose it is; made_by: the node that made it, and needs: the node on the MODEL that reads it, as users know them
    text: the prompt; base: fingerprint of the tensor that it rode in on, [1, tokens, D]
    carries: what is lost with it, in words
    """

    number: int
    kind: str
    made_by: str
    needs: str
    text: str
    base: str
    tokens: int
    content: Any
    carries: str = "its contexts for every layer"

    def __copy__(self) -> Rider:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Rider:
        return self


class RiderCond(CONDRegular):
    """The host's entry of a rider, or of none: cond, [1, 1] int64, is its number; kept on the CPU, so that reading it waits for nothing."""

    def __init__(self, cond: Tensor, rider: Rider | None = None) -> None:
        super().__init__(cond)
        self.rider = rider

    def _copy_with(self, cond: Tensor) -> RiderCond:
        return RiderCond(cond, self.rider)

    def process_cond(self, batch_size: int, **kwargs: Any) -> Any:
        rider = self.rider
        if rider is not None and rider.kind not in _EXPECTED.get() and rider not in _TOLD:
            _TOLD.add(rider)
            log.warning(
                'SSR-Encoder: the prompt "%s" comes from %s, but this MODEL has no %s, so the subject is not drawn. Put it between the '
                "checkpoint and the sampler.",
                shown(rider.text, 60),
                rider.made_by,
                rider.needs,
            )
        return super().process_cond(batch_size, **kwargs)


def ride(
    entry: Sequence[Any], kind: str, made_by: str, needs: str, text: str, content: Any, carries: str = Rider.carries
) -> list[Any]:
    """One entry of a CONDITIONING, [tensor, options], with a rider on it."""
    tensor, options = entry
    rider = Rider(next(_NUMBERS), kind, made_by, needs, text, _fingerprint(tensor), tensor.shape[1], content, carries)
    _ALIVE[rider.number] = rider
    return [tensor, _with(options, kind, RiderCond(torch.tensor([[rider.number]]), rider))]


def rider_of(cond: Mapping[str, Any], kind: str) -> Rider | None:
    """What rides on a cond of a guider, or on the options of a CONDITIONING's entry."""
    entry = cond.get("model_conds", {}).get(_name(kind))
    return None if entry is None else entry.rider


@contextmanager
def expected(kinds: frozenset[str]) -> Iterator[None]:
    """For a sampling whose wrappers take these kinds out."""
    token = _EXPECTED.set(_EXPECTED.get() | kinds)
    try:
        yield
    finally:
        _EXPECTED.reset(token)


def settle(lists: Mapping[str, list[dict[str, Any]] | None], kind: str) -> list[Rider]:
    """The riders of a guider's cond lists, before it samples. Conds that have none get a neutral one, in place: the lists are the
    guider's own for this sampling.

    Raises ValueError where a cond's text is no longer what its rider rode in on, or where it lost the rider.
    """
    found: list[Rider] = []
    conds = [cond for one in lists.values() for cond in one or ()]
    for cond in conds:
        rider, text = rider_of(cond, kind), cond.get("cross_attn")
        if rider is None:
            _check_not_lost(text, kind)
        else:
            _check_unchanged(rider, text)
            found.append(rider)
    if not found:
        return found
    neutral = RiderCond(torch.tensor([[NEUTRAL]]))
    for cond in conds:
        if _name(kind) not in cond.get("model_conds", {}):
            cond.update(_with(cond, kind, neutral))
    return found


def taken_out(arguments: dict[str, Any], kind: str, rows: int) -> tuple[Rider | None, ...] | None:
    """What rides on each row of a UNet call, taken out of its arguments; None where nothing does on any.

    Packs that draw in tiles repeat the rows without what they do not know: the riders are repeated with them.
    """
    entry = arguments.pop(_name(kind), None)
    if entry is None:
        return None
    riders = [_ALIVE.get(number) for number in entry.flatten().tolist()]
    if not any(riders) or rows % len(riders):
        return None
    return tuple(riders * (rows // len(riders)))


def _name(kind: str) -> str:
    return f"ssr_encoder_{kind}"


def _with(options: Mapping[str, Any], kind: str, entry: RiderCond) -> dict[str, Any]:
    return {**options, "model_conds": {**options.get("model_conds", {}), _name(kind): entry}}


def _fingerprint(text: Tensor) -> str:
    values = text.detach().to("cpu", torch.float32).contiguous()
    digest = hashlib.blake2b(str(tuple(values.shape)).encode(), digest_size=16)
    digest.update(values.numpy().data)
    return digest.hexdigest()


def _check_unchanged(rider: Rider, text: Tensor | None) -> None:
    if text is None or _fingerprint(text) == rider.base:
        return
    said = f'The prompt "{shown(rider.text, 60)}" of {rider.made_by}'
    if not bool(text.any()):
        raise ValueError(
            f"{said} was zeroed (Conditioning Zero Out), which does not reach {rider.carries}. Zero an ordinary prompt instead."
        )
    if text.shape[1] > rider.tokens and _fingerprint(text[:, : rider.tokens]) == rider.base:
        raise ValueError(
            f"{said} had another appended (Conditioning Concat), which does not reach {rider.carries}. Write both texts into "
            f"one {rider.made_by}."
        )
    raise ValueError(
        f"{said} was changed by another node (Conditioning Average or one like it), which does not reach {rider.carries}. "
        f"Connect {rider.made_by} without it; Conditioning Combine, areas, masks and timestep ranges are possible."
    )


def _check_not_lost(text: Tensor | None, kind: str) -> None:
    """Where a node made a new cond of a prompt and left behind what rode on it."""
    if text is None:
        return
    known = [rider for rider in _ALIVE.values() if rider.kind == kind]
    ends = {length: _fingerprint(text[:, -length:]) for length in {rider.tokens for rider in known} if length <= text.shape[1]}
    for rider in known:
        if ends.get(rider.tokens) == rider.base:
            how = "appended to another (Conditioning Concat)" if text.shape[1] > rider.tokens else "passed on by another node"
            raise ValueError(
                f'The prompt "{shown(rider.text, 60)}" of {rider.made_by} was {how}, which left {rider.carries} behind. Write '
                f"the whole text into one {rider.made_by}."
            )
