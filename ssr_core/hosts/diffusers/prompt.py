"""Prompts with vectors in the place of a word's token, through transformers' CLIP text encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ... import prompt


class Encoded(NamedTuple):
    """embeds: last hidden states [texts, T, D]; places: by text and placeholder, where the first vector of each occurrence stands."""

    embeds: Tensor
    places: list[dict[str, tuple[int, ...]]]


def encode_with_words(tokenizer: Any, text_encoder: Any, texts: Sequence[str], words: Mapping[str, Tensor]) -> Encoded:
    """Texts with vectors in the place of words; gradients pass.

    words: by placeholder [texts or 1, n, D]. Raises ValueError for a placeholder that is not one token, that a text does not say, or for
    whose vectors it has no room.
    """

    def tokenize(placeholder: str) -> tuple[list[int], list[str]]:
        ids = tokenizer(placeholder, add_special_tokens=False).input_ids
        return ids, tokenizer.convert_ids_to_tokens(ids)

    def continues(token: int) -> bool:
        return not tokenizer.convert_ids_to_tokens(token).endswith("</w>") and token not in tokenizer.all_special_ids

    own = prompt.placeholder_tokens(list(words), tokenize)
    length = text_encoder.config.max_position_embeddings
    ids = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
    embedding = getattr(text_encoder, "text_model", text_encoder).embeddings.token_embedding
    plain = embedding(ids.to(embedding.weight.device))  # [texts, T, D]
    vectors = dict(zip(own, words.values(), strict=True))
    embeds, places = prompt.embeds_in_place(plain, ids, vectors, tokenizer.eos_token_id, continues)
    for text, placed in zip(texts, places, strict=True):
        prompt.check_placed(placed, own, list(words), text)
    hook = embedding.register_forward_hook(lambda *_: embeds)
    try:
        states = text_encoder(ids.to(plain.device)).last_hidden_state
    finally:
        hook.remove()
    return Encoded(states, [{name: placed[token] for name, token in zip(words, own, strict=True)} for placed in places])
