"""The host's CLIP-L as a function from token embeddings to what cross-attentions read, and what tells one from another."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .managed import loaded
from .texts import check_kind

CHUNK = 77
"""Tokens that it sees at once; longer texts are several of these."""


class Identity(NamedTuple):
    """What a CLIP makes of a text depends on: its model, the patches on it, and the layer that is read (CLIP skip)."""

    model: weakref.ref[Any]
    patches: Any
    layer: tuple[str, int | None]

    def difference(self, other: Identity) -> str | None:
        if self.model() is not other.model():
            return "is another text encoder"
        if self.patches != other.patches:
            return "has other LoRAs or patches"
        return (
            None
            if self.layer == other.layer
            else f"reads layer {_named(self.layer)} instead of {_named(other.layer)} (CLIP skip)"
        )


def _named(layer: tuple[str, int | None]) -> str:
    return layer[0] if layer[1] is None else str(layer[1])


class HostText:
    """The CLIP-L of a CLIP, as a function from token embeddings to what cross-attentions read."""

    def __init__(self, clip: Any, width: int, what: str) -> None:
        """what: needs it, as in "the learned subject". Raises ValueError for a CLIP that is not SD1.x's, or whose weights change within
        a sampling."""
        check_kind(clip, width, what)
        if clip.patcher.forced_hooks is not None:
            raise ValueError(
                f"This CLIP has LoRAs that hooks exchange while a MODEL samples; {what} needs one text encoder throughout. Use Load LoRA "
                "instead of Set CLIP Hooks."
            )
        whole = clip.cond_stage_model
        whole.reset_clip_options()
        if clip.layer_idx is not None:
            whole.set_clip_options({"layer": clip.layer_idx})
        self.clip, self.patcher, self.model = clip, clip.patcher, whole.clip_l
        number = self.model.layer_idx if self.model.layer == "hidden" else None
        if number in (-1, self.model.num_layers - 1) and self.model.layer_norm_hidden_state:
            number = None  # the last one, after the final norm
        whole.reset_clip_options()
        self.layer = number
        self.identity = Identity(weakref.ref(whole), self.patcher.patches_uuid, ("last" if number is None else "layer", number))

    @property
    def table(self) -> Tensor:
        return self.model.transformer.get_input_embeddings().weight

    def encode(self, embeds: Tensor) -> Tensor:
        """Token embeddings without positions [R, T, D] -> [R, T, D] float32, where they were."""
        device = self.patcher.load_device
        places = embeds.new_zeros(embeds.shape[:2], dtype=torch.long, device=device)  # read for the pooled output only
        final, intermediate = self.model.transformer(
            places,
            None,
            embeds=embeds.to(device, torch.float32),
            intermediate_output=self.layer,
            final_layer_norm_intermediate=self.model.layer_norm_hidden_state,
            dtype=torch.float32,
        )[:2]
        return (final if self.layer is None else intermediate).float().to(embeds.device)

    def embeds(self, chunks: Sequence[Sequence[Any]]) -> Tensor:
        """Tokens of several chunks, numbers or vectors of textual inversions -> [chunks, 77, D] float32."""
        return self.model.process_tokens([list(chunk) for chunk in chunks], loaded(self.patcher))[0]

    def tokens(self, text: str) -> list[int]:
        """Without start and end."""
        return [token for token, _ in pieces_of(self.clip.tokenizer, text)]

    @property
    def empty(self) -> list[int]:
        """Tokens of one chunk without words."""
        special = self.model.special_tokens
        return [special["start"], special["end"]] + [special["pad"]] * (CHUNK - 2)


def pieces_of(tokenizer: Any, text: str) -> list[tuple[int, str]]:
    """Tokens of a text and what they spell, by a CLIP's tokenizer, without start and end."""
    inner = tokenizer.clip_l
    ids = [entry[0] for entry in tokenizer.tokenize_with_weights(text)["l"][0]]
    stop = ids.index(inner.end_token)
    return [(token, inner.inv_vocab.get(token, "")) for token in ids[1:stop]]
