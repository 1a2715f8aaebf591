"""LASR in diffusers: prompts with learned subjects, and pictures of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ...methods.lasr import contexts
from ...methods.lasr.contexts import Encode, Learned, Prompts
from ...methods.lasr.subject import LasrSubjects, active, other_text_encoder, set_alpha, table_fingerprint
from ...schedule import Manner
from ...shown import shown
from . import generate
from .attach import strength_at
from .context import Entering, contexts_attached
from .encoders import warn_of_cut

log = logging.getLogger("ssr_encoder")


def token_table(text_encoder: Any) -> torch.nn.Module:
    """The layer of transformers' CLIP text model that turns tokens into vectors."""
    return text_encoder.get_input_embeddings()


def encoding(text_encoder: Any) -> Encode:
    """transformers' CLIP text model as a function from token embeddings [R, T, D] to last hidden states after the final norm, where the
    embeddings are. Gradients pass."""
    table = token_table(text_encoder)

    def encode(embeds: Tensor) -> Tensor:
        parameter = next(text_encoder.parameters())
        rows = embeds.to(parameter.device, parameter.dtype)
        handle = table.register_forward_hook(lambda *_: rows)
        try:
            ids = torch.zeros(rows.shape[:2], dtype=torch.long, device=rows.device)
            return text_encoder(ids).last_hidden_state.to(embeds.device, embeds.dtype)
        finally:
            handle.remove()

    return encode


@torch.no_grad()
def embeds_with_vectors(tokenizer: Any, text_encoder: Any, vectors: Mapping[int, Tensor], texts: Sequence[str]) -> Tensor:
    """What the UNet gets of texts in which a vector of its own stands for a token, as in Textual Inversion: [texts, T, D], the same for
    every layer. vectors: [D] by token. Texts are cut to the encoder's length."""
    length = text_encoder.config.max_position_embeddings
    ids = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
    embeds = token_table(text_encoder)(ids.to(next(text_encoder.parameters()).device)).float()  # [texts, T, D]
    prompts = contexts.prompts_of(ids, embeds, list(vectors), length)
    rows = contexts.substituted(embeds, prompts.marks, [one.to(embeds).expand(len(ids), -1) for one in vectors.values()])
    return encoding(text_encoder)(rows)


class SubjectPrompts:
    """Texts with learned subjects, ready to be drawn.

    base: [texts, T, D], what pipelines are given as prompt_embeds, and know each row by: the mean of the layers' static contexts.
    """

    def __init__(self, tokenizer: Any, text_encoder: Any, subjects: LasrSubjects, texts: Sequence[str]) -> None:
        """Texts are cut to the encoder's length. Raises ValueError where a placeholder is another token here."""
        self.subjects = subjects = active(subjects)
        self.texts = tuple(texts)
        parameter = next(text_encoder.parameters())
        self.learned = [Learned(one.embedder().to(parameter.device), one.token, one.strength) for one in subjects]
        for one in subjects:
            if tokenizer(one.placeholder, add_special_tokens=False).input_ids != [one.token]:
                raise ValueError(
                    f'The placeholder "{shown(one.placeholder, 40)}" of the subject stands for token {one.token}, which is another word in '
                    "this text encoder. Rename it with a token of this one."
                )
        length = text_encoder.config.max_position_embeddings
        for text in texts:
            warn_of_cut(tokenizer, text, length, "prompt")
        ids = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
        table = token_table(text_encoder)
        if (warning := other_text_encoder(subjects, table_fingerprint(table.weight))) is not None:  # type: ignore[arg-type]
            log.warning("%s", warning)
        self.encode = encoding(text_encoder)
        with torch.no_grad():
            embeds = table(ids.to(parameter.device)).float()  # [texts, T, D]
            self.prompts: Prompts = contexts.prompts_of(ids, embeds, [one.token for one in subjects], length)
            self.static = contexts.static_contexts(self.encode, self.prompts, self.learned)  # [texts, L, T, D]
        self.ids = ids
        self.base = self.static.mean(dim=1)

    def check_named(self, numbers: Sequence[int]) -> None:
        """Whether texts name every subject. numbers: of the texts."""
        for number in numbers:
            names = [one.placeholder for one in self.subjects]
            contexts.check_named(self.ids[number], [one.token for one in self.subjects], names, self.texts[number])


class LayerContexts:
    """The contexts of prompts' rows, as context.py asks for them. A row that is none of the prompts keeps its text."""

    def __init__(self, prompts: SubjectPrompts, manner: Manner) -> None:
        self.prompts, self.manner = prompts, manner
        self.layers = prompts.subjects[0].shapes.layers
        self.strength = 0.0
        self._last: tuple[Tensor, tuple[int, ...]] | None = None
        self._kept: dict[Any, Any] = {}

    def begin(self, timestep: Any, text: Tensor) -> None:
        self.strength = strength_at(self.manner, timestep)
        # The batch is looked at once a sampling, since that waits for the device: pipelines hand over the same text at every step.
        if self._last is None or self._last[0] is not text:
            self._last = text, self._rows_of(text)

    def _rows_of(self, text: Tensor) -> tuple[int, ...]:
        """Which prompt each row is, -1 for none."""
        known = self.prompts.base.to(text.device, text.dtype)
        rows = tuple(
            next((number for number, base in enumerate(known) if base.shape == row.shape and torch.equal(base, row)), -1)
            for row in text
        )
        if set(rows) == {-1}:
            raise ValueError(
                "No row of the UNet's text is one of the prompts with learned subjects. Give the pipeline their `base` as prompt_embeds "
                "and negative_prompt_embeds, or use lasr.sample."
            )
        return rows

    def make(self, number: int, text: Tensor, entering: Entering) -> Tensor:
        assert self._last is not None
        own = self._last[1]
        rows = tuple(row for row in own for _ in range(len(text) // len(own)))  # a video's frames lie behind each other
        riding, prompts, static = self._once((rows, text.device), lambda: self._chosen(rows, text.device))
        strength = self.strength * self.manner.in_layer(self.layers[number].index)
        features, time = (part if len(riding) == len(rows) else part[riding] for part in entering)
        made = contexts.layer_context(
            self.prompts.encode,
            prompts,
            contexts.of_layer(static, number),
            self._learned(text.device),
            number,
            features,
            time,
            strength,
        ).to(text.dtype)
        return made if len(riding) == len(rows) else text.index_copy(0, riding, made)

    def _chosen(self, rows: tuple[int, ...], device: torch.device) -> tuple[Tensor, Prompts, Tensor]:
        """Places of the rows that are prompts, and the prompts and static contexts of those."""
        places = torch.tensor([place for place, row in enumerate(rows) if row >= 0], device=device)
        numbers = torch.tensor([row for row in rows if row >= 0])
        chosen = self.prompts.prompts.rows(numbers).to(device)
        return places, chosen, self.prompts.static.to(device)[numbers.to(device)]

    def _learned(self, device: torch.device) -> list[Learned]:
        def placed() -> list[Learned]:
            return [Learned(one.embedder.to(device), one.token, one.strength) for one in self.prompts.learned]

        return self._once(("learned", device), placed)

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


@contextmanager
def subjects_attached(unet: Any, prompts: SubjectPrompts, manner: Manner | float | None = None) -> Iterator[None]:
    """Draw rows whose text is one of the prompts' `base` with a context of its own for every layer, for the length of a with-block.

    manner: how its adaptive part acts, or alpha alone, its share; None for that which the last subject was learned for. Raises ValueError
    for a UNet that the subjects were not learned on.
    """
    if not prompts.subjects:
        yield
        return
    how = manner if isinstance(manner, Manner) else Manner(set_alpha(prompts.subjects) if manner is None else manner)
    with contexts_attached(unet, prompts.subjects[0].shapes.layout, LayerContexts(prompts, how)):
        yield


def sample(
    pipe: Any,
    subjects: LasrSubjects,
    prompts: Sequence[str],
    latents: Tensor,
    manner: Manner | float | None = None,
    negative: str = "",
    **sampling: Any,
) -> Tensor:
    """Latents of one picture per prompt, each of which names all subjects. manner: as subjects_attached takes it; sampling: as
    generate.sample does."""
    texts = list(dict.fromkeys([negative, *prompts]))
    made = SubjectPrompts(pipe.tokenizer, pipe.text_encoder, subjects, texts)
    made.check_named([texts.index(prompt) for prompt in prompts])
    own = next(pipe.unet.parameters())
    base = made.base.to(own.device, own.dtype)
    given: dict[str, Any] = {
        "prompt": None,
        "negative_prompt": None,
        "prompt_embeds": base[[texts.index(prompt) for prompt in prompts]],
        "negative_prompt_embeds": base[[texts.index(negative)] * len(prompts)],
    }
    with subjects_attached(pipe.unet, made, manner):
        return generate.sample(pipe, prompts, latents, **sampling, **given)
