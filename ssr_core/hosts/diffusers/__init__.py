"""diffusers and transformers as host: the same encoder and the same attention in plain Python.

For training, evaluation and scripts. Attaching replaces the processors of the UNet's spatial cross-attentions for as long as a
with-block lasts; leaving it puts back exactly the ones that stood there.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from ...attention import Branch, add_branches, plan_spans, scaled_dot_product
from ...encode import Encoder, Query, VisionModel
from ...encoder import SSREncoder
from ...layout import CrossAttention, Found, UNetLayout
from ...merge import Combine, word_shares
from ...subject import Scaling, Subject, SubjectSet, active, branch_inputs, check_encoder, joint_tokens
from ...words import words_of

KeysValues = Sequence[tuple[Tensor, Tensor]]

_SPATIAL = re.compile(r"(down_blocks|up_blocks|mid_block)\.(\d+\.)?attentions\.\d+\.transformer_blocks\.\d+\.attn2")


def check_unet(unet: Any, layout: UNetLayout) -> dict[str, Any]:
    """The UNet's spatial cross-attentions by name, motion modules not among them. Refuses those that are not the layout's."""
    found = {name: module for name, module in unet.named_modules() if _SPATIAL.fullmatch(name)}
    difference = layout.mismatch([Found(name, module.to_q.out_features, module.heads) for name, module in found.items()])
    if difference is not None:
        raise ValueError(
            f"This {type(unet).__name__} does not fit the encoder: {difference}. "
            "The released SSR-Encoder works with Stable Diffusion 1.x UNets."
        )
    return found


class SubjectProcessor:
    """Attention processor of one cross-attention: text attention plus branches, before the output projection.

    rows: which branch row each chunk of the batch attends to; words: per chunk the branches' word embeddings, [W, D] each, if
    positions are shared out by word, else ().
    """

    def __init__(
        self,
        layer: CrossAttention,
        branches: Sequence[Branch],
        rows: Sequence[int | None],
        words: Sequence[Sequence[Tensor]] = (),
    ) -> None:
        self.layer = layer
        self.words = words
        self.branches = tuple(branches)
        self.chunks = len(rows)
        self.spans = plan_spans(rows)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """hidden_states: [B, L, C], encoder_hidden_states: [B, T, D] -> [B, L, C]."""
        if encoder_hidden_states is None or attention_mask is not None or hidden_states.ndim != 3:
            raise ValueError(
                f"{self.layer.diffusers_name}: expected [batch, tokens, width] with text and without an attention mask."
            )
        if hidden_states.shape[0] % self.chunks:
            raise ValueError(
                f"The UNet got a batch of {hidden_states.shape[0]}, which does not split into {self.chunks} conditions. "
                "Pass guidance=False where the pipeline runs without classifier-free guidance."
            )
        query = attn.to_q(hidden_states)  # [B, L, C]
        text = scaled_dot_product(query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states), attn.heads)
        branches = self._shared_out(attn, query) if self.words else self.branches
        out = add_branches(text, query, branches, self.spans, self.chunks, attn.heads)
        return attn.to_out[1](attn.to_out[0](out))

    def _shared_out(self, attn: Any, query: Tensor) -> list[Branch]:
        """The branches, each with its share of every position."""
        shares = torch.stack(
            [
                word_shares(part, [attn.to_k(embeds.to(query.device, query.dtype)) for embeds in words], attn.heads)
                for part, words in zip(query.chunk(self.chunks), self.words, strict=True)
            ],
            dim=1,
        )  # [branches, chunks, pictures, L, 1]
        return [replace(branch, weight=share) for branch, share in zip(self.branches, shares.to(query.dtype), strict=True)]


@contextmanager
def branches_attached(
    unet: Any,
    layout: UNetLayout,
    branches: Sequence[KeysValues],
    rows: Sequence[int | None],
    strength: float = 1.0,
    layer_strengths: Sequence[float] | None = None,
    words: Sequence[Sequence[Tensor]] = (),
) -> Iterator[None]:
    """Attach branches to a UNet for the length of a with-block.

    branches: per branch and layer (checkpoint order) K and V, each [R, N, C]; rows: per chunk of the batch its row in 0..R-1; words:
    as SubjectProcessor takes them.
    """
    modules = check_unet(unet, layout)
    before = {name: module.processor for name, module in modules.items()}
    try:
        for layer in layout.layers:
            weight = strength * (layer_strengths[layer.index] if layer_strengths is not None else 1.0)
            if weight == 0.0:
                continue
            attended = [Branch(*layers[layer.index], strength=weight) for layers in branches]
            modules[layer.diffusers_name].processor = SubjectProcessor(layer, attended, rows, words)
        yield
    finally:
        for name, module in modules.items():
            module.processor = before[name]


@contextmanager
def subjects_attached(
    unet: Any,
    encoder: SSREncoder,
    subjects: SubjectSet | Sequence[SubjectSet],
    strength: float = 0.65,
    combine: Combine = "joint",
    scaling: Scaling = "official",
    layer_strengths: Sequence[float] | None = None,
    guidance: bool = True,
) -> Iterator[None]:
    """Attach subjects to a UNet for the length of a with-block.

    subjects: one set that all pictures share, or a list with one set per picture, all of the same size.
    guidance: the batch is [unconditional | conditional], as pipelines with classifier-free guidance arrange it; else all of it is
    conditional. strength 0.65 is the official text-query script's.
    """
    shared = all(isinstance(one, Subject) for one in subjects)
    sets: list[SubjectSet] = [cast(SubjectSet, tuple(subjects))] if shared else list(cast(Sequence[SubjectSet], subjects))
    for one in sets:
        check_encoder(one, encoder.fingerprint)
    inputs = [branch_inputs(one, combine, scaling) for one in sets]
    if len({tuple(branch.tokens.shape for branch in branches) for branches in inputs}) > 1:
        raise ValueError("The pictures of a batch have different numbers of subjects; give every picture as many.")
    parameter, home = next(unet.parameters()), next(encoder.parameters())
    attached = []
    for parts in zip(*inputs, strict=True):  # one branch, every picture's
        # [2, N, D] each -> [unconditional rows of all pictures, then conditional ones]
        tokens, key_scale, value_scale = (
            torch.stack(part, dim=1).flatten(0, 1).to(home.device, home.dtype)
            for part in zip(*(one.rows for one in parts), strict=True)
        )
        attached.append(
            tuple(
                (
                    (key * key_scale).to(parameter.device, parameter.dtype),
                    (value * value_scale).to(parameter.device, parameter.dtype),
                )
                for key, value in encoder.project(tokens)
            )
        )
    words = [[branch.word_embeds for branch in branches if branch.word_embeds is not None] for branches in inputs]
    if all(len(of_picture) < 2 for of_picture in words):
        words = []  # a single subject has every position whole
    null, chosen = range(len(sets)), range(len(sets), 2 * len(sets))
    rows = [*null, *chosen] if guidance else list(chosen)
    with branches_attached(
        unet, encoder.config.layout, attached, rows, strength, layer_strengths, words * (2 if guidance else 1)
    ):
        yield


@contextmanager
def shown_to_controlnet(controlnet: Any, subjects: SubjectSet, guidance: bool = True) -> Iterator[None]:
    """Let a ControlNet see the subjects' tokens behind the prompt for the length of a with-block, as the official code does.

    guidance: as for subjects_attached. Not for guess_mode, in which the ControlNet sees one side only.
    """
    if not active(subjects):
        yield
        return
    tokens = joint_tokens(subjects) if guidance else joint_tokens(subjects)[1:]  # [2 or 1, N, D]

    def show(_network: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        prompt = named["encoder_hidden_states"]  # [B, T, D]
        if prompt.shape[0] % len(tokens):
            raise ValueError(
                f"The ControlNet got a batch of {prompt.shape[0]}, expected both sides of the guidance: no guess_mode."
            )
        behind = tokens.to(prompt.device, prompt.dtype).repeat_interleave(prompt.shape[0] // len(tokens), dim=0)
        return arguments, {**named, "encoder_hidden_states": torch.cat([prompt, behind], dim=1)}

    hook = controlnet.register_forward_pre_hook(show, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def for_encoding(encoder: SSREncoder) -> Encoder:
    """An SSREncoder as encode.encode_subjects takes it."""

    @torch.no_grad()
    def align(query: Tensor, features: Tensor, mask: Tensor | None, weight: float) -> Any:
        home = next(encoder.parameters())
        mask = None if mask is None else mask.to(home.device)
        return encoder(query.to(home.device, home.dtype), features.to(home.device, home.dtype), mask, weight)

    return Encoder(encoder.config, encoder.fingerprint, align)


_VISION_MODELS: weakref.WeakKeyDictionary[Any, VisionModel] = weakref.WeakKeyDictionary()


def vision_model(model: Any) -> VisionModel:
    """A transformers CLIPVisionModel (or ...WithProjection) with its memory of pictures."""
    if model not in _VISION_MODELS:
        reference = weakref.ref(model)

        @torch.no_grad()
        def hidden_states(pixels: Tensor) -> tuple[Tensor, ...]:
            tower = reference()
            assert tower is not None  # its features are asked for through it
            parameter = next(tower.parameters())
            states = tower(pixel_values=pixels.to(parameter.device, parameter.dtype), output_hidden_states=True)
            return states.hidden_states[1:]  # entry 0 is the embedding

        config = model.config
        patches = (config.image_size // config.patch_size) ** 2
        _VISION_MODELS[model] = VisionModel(
            hidden_states, config.image_size, config.hidden_size, tokens=patches + 1, layers=config.num_hidden_layers
        )
    return _VISION_MODELS[model]


@torch.no_grad()
def embed_texts(tokenizer: Any, text_encoder: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Token ids [texts, T] and last hidden states after the final LayerNorm [texts, T, D], padded and cut to the encoder's length."""
    length = text_encoder.config.max_position_embeddings
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
    return ids, text_encoder(ids.to(next(text_encoder.parameters()).device)).last_hidden_state


def encode_query(tokenizer: Any, text_encoder: Any, text: str) -> Query:
    """A query as the official code encodes it: embeds [1, T, D] float32 on the CPU."""
    ids, embeds = embed_texts(tokenizer, text_encoder, [text])
    pieces = tokenizer.convert_ids_to_tokens(ids[0])
    stop = ids[0].tolist().index(tokenizer.eos_token_id)
    return Query(text, embeds.float().cpu(), words_of(pieces[:stop]))
