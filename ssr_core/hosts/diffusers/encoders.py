"""CLIP's text encoder and vision model, of transformers' classes, as the methods take them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

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

    config = model.config
    patches = (config.image_size // config.patch_size) ** 2
    return VisionModel(
        hidden_states, config.image_size, config.hidden_size, tokens=patches + 1, layers=config.num_hidden_layers
    )


vision_model = VisionModels(_described)
"""The VisionModel of transformers' CLIPVisionModel (or ...WithProjection): the same one, with the pictures it has seen, at every call."""


@torch.no_grad()
def embed_texts(tokenizer: Any, text_encoder: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Token ids [texts, T] and last hidden states after the final LayerNorm [texts, T, D], padded and cut to the encoder's length.

    Raises ValueError for a text with half a character in it, as arguments have that are no UTF-8.
    """
    for text in texts:
        check_characters(text, f'The text "{shown(text, 60)}"')
    length = text_encoder.config.max_position_embeddings
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
    return ids, text_encoder(ids.to(next(text_encoder.parameters()).device)).last_hidden_state


def encode_query(tokenizer: Any, text_encoder: Any, text: str) -> Query:
    """Words as a query, padded and cut as in Xiaojiu-z/SSR_Encoder, utils/pipeline_t2i.py: embeds [1, T, D] float32 on the CPU.

    What is cut is told in a warning.
    """
    ids, embeds = embed_texts(tokenizer, text_encoder, [text])
    if len(tokenizer(text, verbose=False).input_ids) > ids.shape[1]:
        log.warning(
            'SSR-Encoder: the query "%s" is longer than %d tokens; the rest is ignored.', shown(text, 40), ids.shape[1] - 2
        )
    pieces = tokenizer.convert_ids_to_tokens(ids[0])
    stop = ids[0].tolist().index(tokenizer.eos_token_id)
    return Query(text, embeds.float().cpu(), words_of(pieces[:stop]))
