"""The SSR-Encoder in the host: its module under the host's memory management, queries out of its CLIP, subjects on its MODELs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor

from ... import schedule
from ...merge import Combine
from ...methods.ssr import formats
from ...methods.ssr.aligner import Aligned
from ...methods.ssr.encode import Encoder
from ...methods.ssr.encoder import EncoderConfig, SSREncoder
from ...methods.ssr.subject import BranchInput, Scaling, SubjectSet, active, branch_inputs, check_encoder, check_representable
from ...schedule import Manner
from ...words import Query, words_of
from .applied import Applied, Part
from .apply import compute_dtype, hang
from .layout import check_model
from .managed import patcher_class

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
        comfy.model_management.throw_exception_if_processing_interrupted()  # asked for each picture of a batch
        comfy.model_management.load_models_gpu([self.patcher])
        device = self.patcher.load_device
        mask = None if mask is None else mask.to(device)
        return self.module(query.float().to(device), features.float().to(device), mask, mask_weight)

    def keys_values(self, branch: BranchInput, dtype: torch.dtype) -> tuple[tuple[Tensor, Tensor], ...]:
        """K and V of every layer, each [2, N, C] of dtype on the host's intermediate device. Computed in float32."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        comfy.model_management.load_models_gpu([self.patcher])
        device, keep = self.patcher.load_device, comfy.model_management.intermediate_device()
        rows = (tensor.float().to(device) for tensor in branch.rows)
        made = tuple((key.to(keep, dtype), value.to(keep, dtype)) for key, value in self.module.project(*rows))
        check_representable(made, dtype)
        return made


def load_encoder(paths: Sequence[str]) -> HostEncoder:
    """Read checkpoint files into a module that the host manages."""
    weights = formats.read([Path(path) for path in paths])
    offload = comfy.model_management.text_encoder_offload_device()
    dtype = next(iter(weights.state.values())).dtype
    module = SSREncoder(weights.config, operations=comfy.ops.manual_cast, device=offload, dtype=dtype)
    module.requires_grad_(False).train(False)
    patcher = patcher_class()(module, load_device=comfy.model_management.get_torch_device(), offload_device=offload)
    dynamic = getattr(patcher, "is_dynamic", lambda: False)()
    module.load_state_dict(weights.state, assign=dynamic)
    module.fingerprint = weights.fingerprint
    return HostEncoder(module, patcher)


def encode_query(clip: Any, text: str, width: int) -> Query:
    """The text encoder's LAST layer, whatever CLIPSetLastLayer did upstream, with every prompt weight at 1.

    A text of more than 75 tokens is cut, as in Xiaojiu-z/SSR_Encoder, utils/pipeline_t2i.py, with a warning.
    """
    if clip is None:
        raise ValueError("CLIP is missing: this checkpoint has no text encoder. Load an SD1.5 checkpoint or its CLIP.")
    encoder = clip.clone()
    encoder.clip_layer(None)
    tokens = encoder.tokenize(text)
    if set(tokens) != {"l"}:
        raise ValueError(
            f"This CLIP has the text encoders {', '.join(sorted(tokens))}; the SSR-Encoder needs SD1.5's own CLIP-L alone. "
            "Connect the CLIP of an SD1.5 checkpoint (the MODEL it is applied to must be SD1.5 too)."
        )
    if len(tokens["l"]) > 1:
        log.warning('SSR-Encoder: the query "%s..." is longer than 75 tokens; the rest is ignored.', text[:40])
    first = [(entry[0], 1.0) for entry in tokens["l"][0]]
    # The host drops an embedding of another width, and every word behind it would move up by one.
    widths = {token.shape[-1] for token, _ in first if isinstance(token, Tensor)} - {width}
    if widths:
        raise ValueError(
            f'The query "{text[:80]}" names an embedding of width {widths.pop()}; the SSR-Encoder needs {width}. Choose one that was '
            "made for SD1.5, or leave it out."
        )
    embeds = encoder.encode_from_tokens({"l": [first]}).float().cpu()  # [1, T, D]
    if embeds.shape[-1] != width:
        raise ValueError(
            f"This CLIP encodes text with width {embeds.shape[-1]}; the SSR-Encoder needs {width}. Connect SD1.5's CLIP."
        )
    inner = encoder.tokenizer.clip_l
    ids = [token for token, _ in first]
    # Textual inversions sit among the ids as tensors, which must not be compared.
    stop = next((i for i, token in enumerate(ids) if isinstance(token, int) and token == inner.end_token), len(ids))
    pieces = [inner.inv_vocab[token] if isinstance(token, int) else "embedding</w>" for token in ids[:stop]]
    return Query(text, embeds, words_of(pieces))


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
    check_model(model, encoder.config)
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
        parts=_parts(active(subjects), combine),
        pictures=_one_each(subjects, manner) if one_each else (),
    )
    return hang(model, applied)


def _one_each(subjects: SubjectSet, manner: Manner) -> tuple[tuple[float, ...], ...]:
    """Strengths per picture of every active subject. One of strength zero still has its picture, which then has none."""
    pictures = schedule.one_each(len(subjects), manner.pictures)
    return tuple(own for own, subject in zip(pictures, subjects, strict=True) if subject.strength != 0.0)


def _parts(subjects: SubjectSet, combine: Combine) -> tuple[Part, ...]:
    parts, first = [], 0
    for number, subject in enumerate(subjects):
        count = subject.tokens.shape[0]
        if combine == "joint":
            parts.append(Part(subject.query, 0, first, first + count))
            first += count
        else:
            parts.append(Part(subject.query, number, 0, count))
    return tuple(parts)
