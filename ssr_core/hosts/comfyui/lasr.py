"""LASR in the host: prompts with learned subjects out of its CLIP, and what makes every layer's context of them while a MODEL samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...layout import UNetLayout
from ...methods.lasr import contexts
from ...methods.lasr.contexts import Learned, Prompts
from ...methods.lasr.embedder import pooled_features
from ...methods.lasr.from_words import one_token
from ...methods.lasr.subject import LasrSubjects, active, other_text_encoder, table_fingerprint
from ...schedule import Manner
from ...shown import shown
from .clip_text import HostText, Identity, pieces_of
from .context import ContextCall, Entering, Layer, hang, hung_on
from .layout import check_model
from .riders import Rider, ride
from .texts import check_embeddings

log = logging.getLogger("ssr_encoder")

KIND = "lasr"
WHAT = "the learned subject"
PROMPT, APPLY = "Prompt with Subject (LASR)", "Apply Subject (LASR)"


@dataclass(frozen=True, eq=False)
class SubjectPrompt:
    """A prompt with learned subjects, as it rides on its CONDITIONING.

    encoder: that encoded it; prompts: of one row, [1, T, ...]; static: [L, T, D], its static context of every layer; on the CPU.
    """

    subjects: LasrSubjects
    encoder: Identity
    prompts: Prompts
    static: Tensor

    @property
    def length(self) -> int:
        return self.static.shape[1]


def placeholder_token(clip: Any, placeholder: str) -> int:
    """The single token of a placeholder: of this CLIP, or of SD1.x's for None."""
    tokenizer = _tokenizer() if clip is None else clip.tokenizer
    return one_token(placeholder.strip(), lambda text: pieces_of(tokenizer, text), "placeholder", "z")


@cache
def _tokenizer() -> Any:
    import comfy.sd1_clip  # here, since it reads the vocabulary

    return comfy.sd1_clip.SD1Tokenizer()


@torch.no_grad()
def encode_prompt(clip: Any, subjects: LasrSubjects, text: str) -> list[list[Any]]:
    """CONDITIONING of a text in which every subject's placeholder stands.

    Its tensor, which ControlNets and other nodes see, is the mean of the layers' static contexts. Prompt weights act on each context as
    the host's do. Raises ValueError where a placeholder is missing, or is another token in this CLIP; warns where one may be meant as a
    word.
    """
    host = HostText(clip, subjects[0].shapes.text_width, WHAT)
    subjects = active(subjects)
    tokens = clip.tokenize(text)
    if not subjects:
        return clip.encode_from_tokens_scheduled(tokens)
    check_embeddings(clip, "l", [entry for chunk in tokens["l"] for entry in chunk], text, WHAT, "prompt")
    _check_tokens(host, subjects)
    entries = [entry for chunk in tokens["l"] for entry in chunk]
    ids = torch.tensor([[entry[0] if isinstance(entry[0], int) else -1 for entry in entries]])  # [1, T]
    own = [subject.token for subject in subjects]
    contexts.check_named(ids, own, [subject.placeholder for subject in subjects], text)
    vocabulary = clip.tokenizer.clip_l.inv_vocab
    pieces = [vocabulary.get(token, "</w>") for token in ids[0].tolist()]
    for doubt in contexts.doubts(pieces, ids[0].tolist(), {one.placeholder: one.token for one in subjects}):
        log.warning('SSR-Encoder: the prompt "%s": %s', shown(text, 60), doubt)
    if (warning := other_text_encoder(subjects, table_fingerprint(host.table))) is not None:
        log.warning("SSR-Encoder: %s", warning)

    encoded = clip.encode_from_tokens(tokens, return_dict=True)  # the host's own, for its pooled output
    options = {name: value for name, value in encoded.items() if name != "cond"}
    embeds = host.embeds([[entry[0] for entry in chunk] for chunk in tokens["l"]])  # [chunks, 77, D]
    prompts = contexts.prompts_of(ids, embeds.flatten(0, 1)[None], own)
    weights = torch.tensor([[float(entry[1]) for entry in entries]], device=embeds.device)  # [1, T]
    if bool((weights != 1).any()):
        empty = host.encode(host.embeds([host.empty]))[0]  # [77, D]
        prompts = replace(prompts, weights=weights, neutral=empty.repeat(len(tokens["l"]), 1))
    static = contexts.static_contexts(host.encode, prompts, _learned(subjects, embeds.device))[0]  # [L, T, D]
    keep = comfy.model_management.intermediate_device()
    content = SubjectPrompt(subjects, host.identity, prompts.to(keep), static.to(keep))
    base = content.static.mean(dim=0, keepdim=True)  # [1, T, D]
    return [ride([base, options], KIND, PROMPT, APPLY, text, content)]


def _check_tokens(host: HostText, subjects: LasrSubjects) -> None:
    for subject in subjects:
        if host.tokens(subject.placeholder) != [subject.token]:
            raise ValueError(
                f'The placeholder "{shown(subject.placeholder, 40)}" of the subject stands for token {subject.token}, which is another '
                "word in this CLIP. Set a placeholder in Load Subject (LASR), with this CLIP connected."
            )


def _learned(subjects: LasrSubjects, device: torch.device) -> list[Learned]:
    return [Learned(subject.embedder().to(device), subject.token, subject.strength) for subject in subjects]


def apply_subjects(model: Any, clip: Any, subjects: LasrSubjects, manner: Manner, reuse: int = 1) -> Any:
    """A clone of MODEL that draws prompts with these subjects with a context of its own for every layer.

    manner: its strength is alpha, the share of the adaptive contexts; where and when it is zero, static contexts alone are used, and
    where it is zero throughout, CLIP is not loaded for sampling. reuse: for how many steps adaptive contexts are used before they are
    made anew.
    """
    shapes = subjects[0].shapes
    check_model(model, shapes.layout, shapes.text_width, WHAT)
    subjects = active(subjects)
    if not subjects:
        return model
    known = {subject.token for part in hung_on(model) if isinstance(part, LasrContexts) for subject in part.subjects}
    if again := [subject for subject in subjects if subject.token in known]:
        raise ValueError(
            f'This MODEL already has {APPLY} with the placeholder "{shown(again[0].placeholder, 40)}". Use one {APPLY} for a subject.'
        )
    host = HostText(clip, shapes.text_width, WHAT)
    part = LasrContexts(subjects, host, manner, reuse)
    clone = hang(model, part)
    if manner.acts:
        key = f"ssr_encoder_{KIND}"
        clone.set_additional_models(key, [*clone.get_additional_models_with_key(key), host.patcher])
    return clone


@dataclass(frozen=True, eq=False)
class LasrContexts:
    """Learned subjects on a MODEL, as context.py asks for them."""

    subjects: LasrSubjects
    text: HostText
    manner: Manner
    reuse: int = 1

    @property
    def kind(self) -> str:
        return KIND

    @property
    def prompt_node(self) -> str:
        return PROMPT

    @property
    def layout(self) -> UNetLayout:
        return self.subjects[0].shapes.layout

    @property
    def described(self) -> Sequence[str]:
        """Lines for people."""
        named = ", ".join(f'"{shown(one.placeholder, 40)}" (strength {one.strength:g})' for one in self.subjects)
        steps = self.manner.steps
        layers = self.subjects[0].shapes.layers
        acting = sum(bool(self.manner.strength * self.manner.in_layer(layer.index)) for layer in layers)
        again = "" if self.reuse == 1 else f", made anew every {self.reuse} steps"
        return [
            f"learned: {named}",
            f"   alpha {self.manner.strength:g}, adaptive in {acting} of {len(layers)} layers, "
            f"steps {steps.start:g} to {steps.end:g}{again}",
        ]

    def refusal(self, rider: Rider) -> str | None:
        """Why a prompt does not fit the subjects and the CLIP here; None if it does."""
        prompt: SubjectPrompt = rider.content
        said = f'The prompt "{shown(rider.text, 60)}"'
        own = {subject.token: subject for subject in self.subjects}
        for subject in prompt.subjects:
            named = f'"{shown(subject.placeholder, 40)}"'
            here = own.get(subject.token)
            if here is None:
                return f"{said} draws the subject {named}, which {APPLY} does not have. Connect the same subjects to both."
            if here is not subject and (here.fingerprint, here.strength) != (subject.fingerprint, subject.strength):
                return f"{said} was made with another subject or strength for {named} than {APPLY} has. Connect the same subjects to both."
        if (difference := self.text.identity.difference(prompt.encoder)) is not None:
            return f"{said}: the CLIP of {APPLY} {difference}, compared with that of {PROMPT}. Connect the same CLIP to both."
        return None

    def make(self, layer: Layer, entering: Callable[[], Entering | None]) -> Tensor:
        """[M, T, D] in float32: (1 - alpha) S + alpha A (spec: contexts.layer_context), repeated to the length of the batch's text."""
        prompts = [rider.content for rider in layer.rows]
        length, device = layer.like.shape[1], layer.like.device
        made: dict[int, Tensor] = {}
        lengths = {prompt.length for prompt in prompts}
        noted = entering() if layer.strength else None
        for own in lengths:
            rows = tuple(index for index, prompt in enumerate(prompts) if prompt.length == own)
            chosen = tuple(layer.rows[index] for index in rows)
            context = torch.stack([self._static(layer, rider, device) for rider in chosen])  # [M', T', D]
            if noted is not None:
                part = layer.call.chosen(noted, rows)
                adaptive = self._adaptive(layer, rows, chosen, part)
                context = (1 - layer.strength) * context + layer.strength * adaptive
            if length % own:
                raise ValueError(
                    f"Another node made the text of {own} tokens one of {length} while sampling, so the contexts of {PROMPT} do not "
                    "fit it. Remove that node, or bypass it."
                )
            # The host repeats shorter texts to one length for a batch, which changes no attention.
            context = context.repeat(1, length // own, 1)
            made.update(zip(rows, context, strict=True))
        return torch.stack([made[index] for index in range(len(prompts))])

    def _static(self, layer: Layer, rider: Rider, device: torch.device) -> Tensor:
        """S of one layer, on the device once a run: [T, D]."""
        static = layer.call.run.kept(("static", rider, device), lambda: rider.content.static.to(device))
        return contexts.of_layer(static[None], layer.number)[0]

    def _adaptive(self, layer: Layer, rows: tuple[int, ...], riders: tuple[Rider, ...], entering: Entering) -> Tensor:
        """A of these rows, all in one batch of the text encoder: [M', T', D]."""
        run, device = layer.call.run, entering.features.device
        if self.reuse == 1:
            return self._encoded(layer.call, layer.number, riders, entering)
        step, turn = layer.call.turn
        held: list[Any] = run.kept(("adaptive", self, layer.number, rows, riders, turn, device), lambda: [None, step])
        if held[0] is None or step - held[1] >= self.reuse:
            held[:] = [self._encoded(layer.call, layer.number, riders, entering), step]
        return held[0]

    @torch.no_grad()
    def _encoded(self, call: ContextCall, number: int, riders: tuple[Rider, ...], entering: Entering) -> Tensor:
        """A LoRA that is trained on such a MODEL learns with these contexts as they are: no gradient passes through CLIP."""
        device = entering.features.device
        learned = call.run.kept(("learned", self, device), lambda: _learned(self.subjects, device))
        prompts = call.run.kept(("prompts", self, riders, device), lambda: self._together(riders).to(device))
        vectors = contexts.adaptive_vectors(learned, number, pooled_features(entering.features), entering.time)
        return contexts.adaptive_context(self.text.encode, prompts, vectors)

    def _together(self, riders: tuple[Rider, ...]) -> Prompts:
        """Prompts of one length, a row each, with marks for all of these subjects: one without its placeholder has none."""
        own: list[Prompts] = [rider.content.prompts for rider in riders]
        marks = [_marks_by_token(rider.content) for rider in riders]
        weighted = [prompts for prompts in own if prompts.weights is not None]
        ones = torch.ones(1, own[0].embeds.shape[1])
        return Prompts(
            embeds=torch.cat([prompts.embeds for prompts in own]),
            marks=torch.stack(
                [
                    torch.cat([of.get(subject.token, torch.zeros_like(ones, dtype=torch.bool)) for of in marks])
                    for subject in self.subjects
                ]
            ),
            marked=torch.arange(len(own)),
            weights=torch.cat([ones if one.weights is None else one.weights.to(ones) for one in own]) if weighted else None,
            neutral=weighted[0].neutral if weighted else None,
        )


def _marks_by_token(prompt: SubjectPrompt) -> Mapping[int, Tensor]:
    """[1, T] of each subject in the prompt."""
    return {subject.token: marks.cpu() for subject, marks in zip(prompt.subjects, prompt.prompts.marks, strict=True)}
