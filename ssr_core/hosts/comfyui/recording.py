"""Footprints in the host: a Recorder on a MODEL keeps where each subject acted in the last sampling. Nobody records, nothing runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ...attention import SUBJECT, Branch, add_branches, plan_spans
from ...footprint import Footprint, magnitude
from ...layout import CrossAttention
from .options import anchor_of, attention_of, frame_indices, labels_of

if TYPE_CHECKING:
    from .run import Call

RECORDER = "ssr_encoder_recorder"


class Recorder:
    """Attached to a MODEL under RECORDER. The one mutable thing that travels with a MODEL: written when a sampling ends."""

    def __init__(self) -> None:
        self.footprint: Footprint | None = None
        self._of = WeakTensorKeyDictionary()

    def of(self, pictures: Tensor) -> Footprint | None:
        """The last sampling's footprint; of pictures that were asked about before, the one that they had then, as the host's cache
        may bring back older pictures without a sampling."""
        return None if self.footprint is None else self._of.setdefault(pictures, self.footprint)


def recording(model: Any) -> tuple[Any, Recorder]:
    """A clone of MODEL whose samplings are recorded, and where."""
    clone, recorder = model.clone(), Recorder()
    clone.set_attachments(RECORDER, recorder)
    return clone, recorder


def record(
    call: Call,
    layer: CrossAttention,
    text: Tensor,
    query: Tensor,
    branches: Sequence[Branch],
    rows: Sequence[int],
    options: dict[str, Any],
) -> None:
    """Note how much each subject adds at every position of the conditional chunks."""
    run, labels, frames, skipped = call.run, labels_of(options), frame_indices(options), len(anchor_of(options))
    assert run.footprint is not None
    grid, areas = run.grid(call, query, options), call.areas(labels, options.get("uuids", ()))
    if grid is None or areas is None:
        return
    alone = _alone(call, layer, branches)
    chunks = zip(rows, query.chunk(len(labels)), text.chunk(len(labels)), areas, strict=True)
    for chunk, (row, own_query, own_text, area) in enumerate(chunks):
        if row != SUBJECT:
            continue
        found = own_text.new_zeros(len(run.footprint.queries), *own_query.shape[:2], dtype=torch.float32)  # [subjects, n, L]
        for subject, branch in alone:
            weight = None if branch.weight is None else branch.weight[chunk : chunk + 1]
            delta = add_branches(
                torch.zeros_like(own_query),
                own_query,
                [replace(branch, weight=weight)],
                plan_spans([row]),
                1,
                options["n_heads"],
                attention_of(options),
            )
            found[subject] = magnitude(delta, own_text)
        found = found[:, skipped:].unflatten(2, grid)  # [subjects, n, h, w]
        run.footprint.add(found, call.canvas, area, None if frames is None else frames[skipped:])


def _alone(call: Call, layer: CrossAttention, branches: Sequence[Branch]) -> list[tuple[int, Branch]]:
    """Every acting subject's number among all, and its branch with nobody else's values: a shared softmax stays as it is."""
    alone, first_branch = [], 0
    first = [0]
    for applied in call.run.subjects:
        first.append(first[-1] + len(applied.parts))
    for number, applied, _ in call.run.acting(call, layer):
        for index, part in enumerate(applied.parts):
            branch = branches[first_branch + part.branch]
            value = torch.zeros_like(branch.value)
            value[:, part.first : part.stop] = branch.value[:, part.first : part.stop]
            alone.append((first[number] + index, replace(branch, value=value)))
        first_branch += len(applied.branches)
    return alone
