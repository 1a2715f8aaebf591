"""ELITE in the host: its mappers under the host's memory management, prompts that say subjects out of its CLIP, subjects on its MODELs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ... import prompt
from ...branches import check_representable
from ...methods.elite import formats
from ...methods.elite.encode import Encoder
from ...methods.elite.mapper import Elite, EliteConfig, stem
from ...methods.elite.subject import DEFAULT_WORDS, EliteSubject, EliteSubjects, acting, check_encoder
from ...schedule import Manner
from .applied import Applied, parts_of
from .apply import compute_dtype, hang
from .layout import check_model
from .managed import KeysValues, loaded, managed
from .riders import ride
from .text_weights import replaced
from .texts import check_embeddings, check_kind
from .words import APPLY, KIND, PROMPT, Words

log = logging.getLogger("ssr_encoder")

WHAT = "ELITE"


@dataclass(frozen=True, eq=False)
class HostElite:
    """SSR_ELITE on the wire: the mappers under a ModelPatcher. The host finds .patcher when it accounts for memory.

    text: of every layer in checkpoint order what takes the place of the UNet's own text projections, for keys and values, [C, D] each.
    """

    module: Elite
    patcher: Any
    text: tuple[tuple[Tensor, Tensor], ...]

    @property
    def config(self) -> EliteConfig:
        return self.module.config

    @property
    def fingerprint(self) -> str:
        return self.module.fingerprint

    def for_encoding(self) -> Encoder:
        return Encoder(self.config, self.fingerprint, self.words, None if self.module.local_mapper is None else self.tokens)

    def words(self, features: Tensor) -> Tensor:
        return self.module.global_mapper(features.float().to(loaded(self.patcher)))

    def tokens(self, features: Tensor, mask: Tensor) -> Tensor:
        assert self.module.local_mapper is not None
        device = loaded(self.patcher)
        return self.module.local_mapper(features.float().to(device), mask.to(device))

    def keys_values(self, subject: EliteSubject, dtype: torch.dtype) -> KeysValues:
        """K and V of a subject's tokens in every layer, [1, N, C] of dtype each, on the host's intermediate device. The subject's strength
        scales the values."""
        assert self.module.local_mapper is not None
        assert subject.tokens is not None
        device, keep = loaded(self.patcher), comfy.model_management.intermediate_device()
        projected = self.module.local_mapper.project(subject.tokens.float().to(device)[None])
        made = tuple((key.to(keep, dtype), (subject.strength * value).to(keep, dtype)) for key, value in projected)
        check_representable(made, dtype)
        return made


def load_elite(paths: Sequence[str]) -> HostElite:
    """Read ELITE's file, or both, into a module that the host manages."""
    weights = formats.read([Path(path) for path in paths])
    module, patcher = managed(partial(Elite, weights.config, local="local" in weights.states), weights.state)
    module.fingerprint = weights.fingerprint
    own = weights.states["global"]
    text = tuple(
        (own[f"{stem(layer)}_to_k.weight"], own[f"{stem(layer)}_to_v.weight"]) for layer in weights.config.layout.layers
    )
    return HostElite(module, patcher, text)


def encode_prompt(
    clip: Any, subjects: EliteSubjects, text: str, placeholders: Sequence[str], words: int = DEFAULT_WORDS
) -> list[list[Any]]:
    """CONDITIONING of a text in which subjects stand in the place of their placeholders, wherever it says them.

    words: how many of each subject's words stand there. Prompt weights, embeddings, CLIP skip and LoRAs act as in the host's own node.
    Raises ValueError for a placeholder that the text does not say, or that is not one token.
    """
    if len(placeholders) != len(subjects):
        raise ValueError(
            f"There are {len(placeholders)} placeholders for {len(subjects)} subjects; expected one for each, in the subjects' order, "
            'such as "S" for one and "S T" for two.'
        )
    check_kind(clip, subjects[0].words.shape[1], WHAT)
    makers = {subject.encoder for subject in subjects}
    if len(makers) > 1:
        raise ValueError(
            f"The subjects were made by different ELITEs ({', '.join(sorted(maker[:12] for maker in makers))}), and a MODEL reads "
            "prompts with one. Encode them with the same."
        )
    inner = clip.tokenizer.clip_l

    def tokenize(placeholder: str) -> tuple[list[int], list[str]]:
        ids = inner.tokenizer(placeholder)["input_ids"][inner.tokens_start :]
        ids = [token for token in ids if token != inner.end_token]
        return ids, [inner.inv_vocab[token] for token in ids]

    own = prompt.placeholder_tokens(placeholders, tokenize)
    vectors = {token: subject.first_words(words) for token, subject in zip(own, subjects, strict=True)}
    tokens = clip.tokenize(text)["l"]
    check_embeddings(clip, "l", [entry for chunk in tokens for entry in chunk], text, WHAT, "prompt")
    placed = prompt.put_in_place(
        [[tuple(entry[:2]) for entry in chunk] for chunk in tokens],
        dict.fromkeys(own, words),
        lambda entry: entry[0] if isinstance(entry[0], int) else None,
        lambda entry, number: (vectors[entry[0]][number], entry[1]),
        inner.end_token,
        (inner.pad_token, 1.0),
        lambda token: not inner.inv_vocab.get(token, "</w>").endswith("</w>"),
    )
    prompt.check_placed(placed.places, own, placeholders, text)
    content = Words(_by_subject(subjects, own, placed.places), makers.pop())
    encoded = clip.encode_from_tokens_scheduled({"l": placed.chunks})
    return [ride(entry, KIND, PROMPT, APPLY, text, content, "the places of its subjects") for entry in encoded]


def _by_subject(
    subjects: EliteSubjects, tokens: Sequence[int], places: dict[int, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The same subject may have several placeholders."""
    found: dict[str, tuple[int, ...]] = {}
    for token, subject in zip(tokens, subjects, strict=True):
        found[subject.identity] = (*found.get(subject.identity, ()), *places[token])
    return found


def apply_subjects(model: Any, elite: HostElite, subjects: EliteSubjects, manner: Manner) -> Any:
    """A clone of MODEL that reads texts as ELITE does and attends to the subjects' tokens besides, where heads attend to their words.

    manner: of the tokens alone; its strength is lambda. K and V of all layers are projected here, once, in the type that the MODEL
    computes in.
    """
    check_model(model, elite.config.layout, elite.config.text_width, WHAT)
    check_encoder(subjects, elite.fingerprint)
    clone = replaced(model, elite.config.layout, elite.text, elite.fingerprint, WHAT)
    acts = acting(subjects) if manner.acts else ()
    dtype = compute_dtype(model)
    applied = Applied(
        layout=elite.config.layout,
        branches=tuple(elite.keys_values(subject, dtype) for _, subject in acts),
        manner=manner if acts else Manner(0.0),
        words=tuple(subject.identity for _, subject in acts),
        parts=parts_of([(f"subject {place + 1}", len(subject.patches)) for place, subject in acts], joint=False),
        maker=elite.fingerprint,
    )
    return hang(clone, applied)
