"""The SSR-Encoder in the host: its module under the host's memory management, queries out of its CLIP, subjects on its MODELs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import schedule
from ...branches import BranchInput
from ...merge import Combine
from ...methods.ssr import formats
from ...methods.ssr.aligner import Aligned
from ...methods.ssr.encode import Encoder
from ...methods.ssr.encoder import EncoderConfig, SSREncoder
from ...methods.ssr.subject import Scaling, SubjectSet, active, branch_inputs, check_encoder
from ...schedule import Manner
from ...words import Query, words_of
from .applied import Applied, parts_of
from .apply import compute_dtype, hang
from .layout import check_model
from .managed import KeysValues, keys_values, loaded, managed
from .texts import encode_plain

log = logging.getLogger("ssr_encoder")


@dataclass(frozen=True, eq=False)
class HostEncoder:
    """SSR_ENCODER on the wire: the module under a ModelPatcher. The host finds .patcher when it accounts for memory."""

    module: SSREncoder
    patcher: Any

    @property
    def config(self) -> EncoderConfig:
        return self.module.config

    @property
    def fingerprint(self) -> str:
        return self.module.fingerprint

    def for_encoding(self) -> Encoder:
        return Encoder(self.config, self.fingerprint, self.align)

    def align(self, query: Tensor, features: Tensor, mask: Tensor | None, mask_weight: float) -> Aligned:
        device = loaded(self.patcher)  # asked for each picture of a batch
        mask = None if mask is None else mask.to(device)
        return self.module(query.float().to(device), features.float().to(device), mask, mask_weight)

    def keys_values(self, branch: BranchInput, dtype: torch.dtype) -> KeysValues:
        return keys_values(self.patcher, self.module.project, branch, dtype)


def load_encoder(paths: Sequence[str]) -> HostEncoder:
    """Read checkpoint files into a module that the host manages."""
    weights = formats.read([Path(path) for path in paths])
    module, patcher = managed(partial(SSREncoder, weights.config), weights.state)
    module.fingerprint = weights.fingerprint
    return HostEncoder(module, patcher)


def encode_query(clip: Any, text: str, width: int) -> Query:
    """A query as the text encoder sees it (texts.encode_plain), in full length.

    A text of more than 75 tokens is cut, as in Xiaojiu-z/SSR_Encoder, utils/pipeline_t2i.py, with a warning.
    """
    encoded = encode_plain(clip, text, width, "the SSR-Encoder", "query")
    if encoded.cut:
        log.warning('SSR-Encoder: the query "%s..." is longer than 75 tokens; the rest is ignored.', text[:40])
    return Query(text, encoded.embeds, words_of(encoded.pieces))


def apply_subjects(
    model: Any,
    encoder: HostEncoder,
    subjects: SubjectSet,
    manner: Manner,
    combine: Combine = "joint",
    scaling: Scaling = "official",
    one_each: bool = False,
) -> Any:
    """A clone of MODEL that also attends to the subjects, or MODEL itself where nothing would act.

    K and V of all layers are projected here, once, in the type the MODEL computes in. one_each: picture i of the batch has subject i
    alone, and the pictures after them the last one, so that there is nothing to combine.
    """
    check_model(model, encoder.config.layout, encoder.config.text_width, "the SSR-Encoder")
    check_encoder(subjects, encoder.fingerprint)
    manner.check_layers(encoder.config.layout)
    if not manner.acts or not active(subjects):
        return model
    dtype = compute_dtype(model)
    if one_each:
        combine = "separate"
    inputs = branch_inputs(subjects, combine, scaling)
    applied = Applied(
        layout=encoder.config.layout,
        branches=tuple(encoder.keys_values(branch, dtype) for branch in inputs),
        manner=manner,
        word_embeds=tuple(branch.word_embeds for branch in inputs if branch.word_embeds is not None),
        parts=parts_of([(one.query, one.tokens.shape[0]) for one in active(subjects)], combine == "joint"),
        places=_one_each(subjects, manner) if one_each else (),
    )
    return hang(model, applied)


def _one_each(subjects: SubjectSet, manner: Manner) -> tuple[Manner, ...]:
    """Where every active subject acts. One of strength zero still has its picture, which then has none."""
    pictures = schedule.one_each(len(subjects), manner.pictures)
    own = zip(pictures, subjects, strict=True)
    return tuple(replace(manner, pictures=strengths) for strengths, subject in own if subject.strength != 0.0)
