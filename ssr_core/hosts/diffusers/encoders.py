"""CLIP's text encoder and vision model, of transformers' classes, as the methods take them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...shown import shown
from ...text_files import check_characters
from ...vision_model import VisionModel, VisionModels
from ...words import Query, words_of

log = logging.getLogger("ssr_encoder")


def _described(model: Any, held: Callable[[], Any]) -> VisionModel:
    @torch.no_grad()
    def hidden_states(pixels: Tensor) -> tuple[Tensor, ...]:
        tower = held()
        parameter = next(tower.parameters())
        states = tower(pixel_values=pixels.to(parameter.device, parameter.dtype), output_hidden_states=True)
        return states.hidden_states[1:]  # entry 0 is the embedding

    @torch.no_grad()
    def pooled(pixels: Tensor) -> Tensor:
        tower = held()
        parameter = next(tower.parameters())
        return tower(pixel_values=pixels.to(parameter.device, parameter.dtype)).image_embeds

    config = model.config
    projects = hasattr(model, "visual_projection")
    patches = (config.image_size // config.patch_size) ** 2
    return VisionModel(
        hidden_states,
        config.image_size,
        config.hidden_size,
        tokens=patches + 1,
        layers=config.num_hidden_layers,
        pooled=pooled if projects else None,
        embedding_width=config.projection_dim if projects else 0,
    )


vision_model = VisionModels(_described)
"""The VisionModel of transformers' CLIPVisionModel (or ...WithProjection): the same one, with the pictures it has seen, at every call."""


class Embedded(NamedTuple):
    """ids: [texts, T]; last: hidden states after the final LayerNorm; penultimate: those before the last layer, [texts, T, D] each;
    pooled: [texts, P] of an encoder with a projection, else None."""

    ids: Tensor
    last: Tensor
    penultimate: Tensor
    pooled: Tensor | None


@torch.no_grad()
def embed_texts(tokenizer: Any, text_encoder: Any, texts: list[str]) -> Embedded:
    """Texts padded and cut to the encoder's length.

    Raises ValueError for a text with half a character in it, as arguments have that are no UTF-8.
    """
    for text in texts:
        check_characters(text, f'The text "{shown(text, 60)}"')
    length = text_encoder.config.max_position_embeddings
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
    states = text_encoder(ids.to(next(text_encoder.parameters()).device), output_hidden_states=True)
    return Embedded(ids, states.last_hidden_state, states.hidden_states[-2], getattr(states, "text_embeds", None))


def encode_query(tokenizer: Any, text_encoder: Any, text: str) -> Query:
    """Words as a query, padded and cut as in Xiaojiu-z/SSR_Encoder, utils/pipeline_t2i.py: embeds [1, T, D] float32 on the CPU.

    What is cut is told in a warning.
    """
    embedded = embed_texts(tokenizer, text_encoder, [text])
    warn_of_cut(tokenizer, text, embedded.ids.shape[1])
    return Query(text, embedded.last.float().cpu(), words_of(pieces_of(tokenizer, embedded.ids[0])))


def warn_of_cut(tokenizer: Any, text: str, length: int, what: str = "query") -> None:
    if len(tokenizer(text, verbose=False).input_ids) > length:
        log.warning(
            'SSR-Encoder: the %s "%s" is longer than %d tokens; the rest is ignored.', what, shown(text, 40), length - 2
        )


def pieces_of(tokenizer: Any, ids: Tensor) -> list[str]:
    """The byte pairs of one text, the start token first, without the end. ids: [T]"""
    pieces = tokenizer.convert_ids_to_tokens(ids)
    return pieces[: ids.tolist().index(tokenizer.eos_token_id)]
