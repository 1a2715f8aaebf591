"""Footprints in the host: a Recorder on a MODEL keeps where each subject acted in the last sampling.

Without a Recorder nothing is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ...attention import SUBJECT, Branch, add_branches, plan_spans
from ...footprint import Footprint, magnitude
from .applied import Attended
from .layer import Layer
from .place import Place

RECORDER = "ssr_encoder_recorder"


class Recorder:
    """Attached to a MODEL under RECORDER. The one mutable thing that travels with a MODEL: written when a sampling ends."""

    def __init__(self) -> None:
        self.footprint: Footprint | None = None
        self._of = WeakTensorKeyDictionary()

    def of(self, pictures: Tensor) -> Footprint | None:
        """The last sampling's footprint. For pictures that were asked about before it is the one they had then: the host's cache may
        return older pictures without sampling again."""
        return None if self.footprint is None else self._of.setdefault(pictures, self.footprint)


def recording(model: Any) -> tuple[Any, Recorder]:
    """A clone of MODEL whose samplings are recorded, and where. A MODEL that is recorded already goes on telling its recorders."""
    clone, recorder = model.clone(), Recorder()
    clone.set_attachments(RECORDER, (*recorders(model), recorder))
    return clone, recorder


def recorders(model: Any) -> tuple[Recorder, ...]:
    return model.get_attachment(RECORDER) or ()


def record(footprint: Footprint, layer: Layer, attended: Sequence[Attended], sides: Sequence[int], place: Place) -> None:
    """Note how much each subject adds at every position of the conditional chunks."""
    grid, areas = place.grid(layer), place.areas(layer)
    if grid is None or areas is None:
        return
    count, frames = len(layer.labels), layer.frames
    alone = [pair for one in attended for pair in _alone(one)]
    chunks = zip(sides, layer.query.chunk(count), layer.text.chunk(count), areas, strict=True)
    for chunk, (side, query, text, area) in enumerate(chunks):
        if side != SUBJECT:
            continue
        found = text.new_zeros(len(footprint.queries), *query.shape[:2], dtype=torch.float32)  # [subjects, n, L]
        for subject, branch, rows in alone:
            own = replace(branch, weight=None if branch.weight is None else branch.weight[chunk : chunk + 1])
            spans = plan_spans(rows[chunk : chunk + 1])
            delta = add_branches(torch.zeros_like(query), query, [own], spans, 1, layer.heads, layer.attention)
            found[subject] = magnitude(delta, text)
        found = found[:, layer.ahead :].unflatten(2, grid)  # [subjects, n, h, w]
        footprint.add(found, place.canvas, area, None if frames is None else frames[layer.ahead :])


def _alone(attended: Attended) -> list[tuple[int, Branch, tuple[int | None, ...]]]:
    """Every subject's number among all, its branch with the others' values set to zero, so that a shared softmax stays as it is, and the
    branch's rows."""
    alone = []
    for index, part in enumerate(attended.applied.parts):
        branch = attended.branches[part.branch]
        value = torch.zeros_like(branch.value)
        value[:, part.first : part.stop] = branch.value[:, part.first : part.stop]
        alone.append((attended.first + index, replace(branch, value=value), attended.rows[part.branch]))
    return alone
