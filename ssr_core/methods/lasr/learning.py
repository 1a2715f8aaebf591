"""A subject learned from views of its pictures, on any host's models.

Knows the recipe: what a step is, in which order it is done, what is kept. The models are a host's (recipe.Models) and are never changed:
what is trained is an embedder of its own, or one vector (inversion.py). A step happens wholly or not at all, so a run may be stopped
anywhere; what was learned until then, and the optimizer's state, are there to be kept, and a run goes on from them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from ... import finite
from ...shown import shown
from . import contexts, losses
from .contexts import Learned, Prompts
from .draws import Draw, draw
from .embedder import SubjectEmbedder, pooled_features
from .losses import REGULARISER_WEIGHT, REPAIRED, Contexts, RateSchedule
from .recipe import Models, Recipe, class_word
from .subject import LasrSubject, weights_of
from .subject_file import OptimizerState
from .texts import TEXTS, kind_of, named
from .views import Views

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of AdamW, without weight decay (askerlee/AdaFace-dev, configs of LASR)."""

FIRST_SCALE, SCALES = 2.0**12, 20
"""Of a loss whose gradients pass through half precision, and how many are tried for a step, each half as large."""
ROWS_AGAIN = 16
"""Rows of the text encoder that are made again at a time, for their gradient, where a run is checkpointed."""


class Step(NamedTuple):
    """What a learner makes its loss from. noisy, noise: [B, 4, h, w]; timesteps: [B]; mask: [B, h, w]; all on the models' device."""

    drawn: Draw
    noisy: Tensor
    noise: Tensor
    timesteps: Tensor
    mask: Tensor


Losses = dict[str, Tensor]
"""Numbers by name; "total" is what is minimised."""


class Learner(Protocol):
    """What is trained, and how its loss is made. placeholder, token: what stands for it; repeats: phrases for each picture; compares:
    whether every fifth step compares adaptive contexts too; rate: for each picture of a batch."""

    placeholder: str
    token: int
    repeats: int
    compares: bool
    schedule: RateSchedule
    rate: float

    @property
    def module(self) -> nn.Module: ...

    def losses(self, models: Models, step: Step) -> Losses: ...


class LayerwiseLearner:
    """LASR's: both embedders, with the three parts of its loss."""

    def __init__(self, subject: LasrSubject, recipe: Recipe, device: torch.device) -> None:
        """Raises ValueError for a subject whose file does not keep the words' vectors."""
        if subject.vectors is None:
            raise ValueError(
                "This subject cannot be learned further: its file does not keep the vectors of its words, as files of the authors' code do "
                "not. Learn it anew."
            )
        self.module: SubjectEmbedder = subject.embedder().requires_grad_(True).to(device)
        self.vectors = subject.vectors.to(device)
        self.learned = Learned(self.module, subject.token)
        self.placeholder, self.token, self.class_word = subject.placeholder, subject.token, subject.learning.class_word
        self.compares = recipe.delta == "repaired"
        self.repeats, self.schedule, self.rate = recipe.phrases, recipe.schedule, recipe.rate

    def losses(self, models: Models, step: Step) -> Losses:
        singles = self._prompts(models, step.drawn.singles(self.placeholder))
        static = contexts.static_contexts(_encoding(models), singles, [self.learned])  # [B, L, T, D]
        if not self.compares:
            predicted, _ = self._predicted(models, step, singles, static)
            return self._summed(losses.reconstruction(predicted, step.noise, step.mask), None)
        composed = self._prompts(models, step.drawn.composed(self.placeholder))
        static_composed = contexts.static_contexts(_encoding(models), composed, [self.learned])  # [R*B, L, T, D]
        compared = None
        if step.drawn.compares:  # R is 1: the same noisy latents once more, with the phrases
            both, whole = _together(singles, composed), torch.cat([static, static_composed])
            predicted, adaptive = self._predicted(models, step, both, whole)
            compared = Contexts(*adaptive.chunk(2))
        else:
            predicted, _ = self._predicted(models, step, singles, static)
        rows, of_class = self._of_class(models, step.drawn)
        repeats = len(step.drawn.phrases)
        subject = Contexts(static.repeat(repeats, 1, 1, 1), static_composed)
        delta = losses.composition_delta(subject, of_class, compared, REPAIRED, rows)
        return self._summed(losses.reconstruction(predicted, step.noise, step.mask), delta.total)

    def _summed(self, simple: Tensor, delta: Tensor | None) -> Losses:
        kept_near = losses.regulariser(self.module, self.vectors).total
        total = simple + REGULARISER_WEIGHT * kept_near
        found = {"reconstruction": simple, "regulariser": kept_near}
        if delta is not None:
            total = total + REPAIRED.weight * delta
            found["composition"] = delta
        return {"total": total, **found}

    def _prompts(self, models: Models, texts: list[str]) -> Prompts:
        ids = models.ids(texts)
        return contexts.prompts_of(ids, models.embeds(ids), [self.learned.token], ids.shape[1])

    def _predicted(self, models: Models, step: Step, prompts: Prompts, static: Tensor) -> tuple[Tensor, Tensor]:
        """The noise found in the first B rows, [B, 4, h, w], and the adaptive contexts of all, [rows, L, T, D]."""
        batch, rows = len(step.noise), len(static)
        encode, mask = _encoding(models), step.mask.repeat(rows // batch, 1, 1)
        made: dict[int, Tensor] = {}
        mixed: dict[int, Tensor] = {}

        def context(number: int, features: Tensor, time: Tensor) -> Tensor:
            if number not in mixed:  # a UNet that is checkpointed asks again, while gradients are made
                vectors = contexts.adaptive_vectors([self.learned], number, pooled_features(features, mask), time.detach())
                made[number] = contexts.adaptive_context(encode, prompts, vectors)
                alpha = float(step.drawn.alphas[number])
                mixed[number] = contexts.mixed(contexts.of_layer(static, number), made[number], prompts.marked, alpha)
            return mixed[number]

        copies = rows // batch
        predicted = models.predict(step.noisy.repeat(copies, 1, 1, 1), step.timesteps.repeat(copies), context)[:batch]
        return predicted, torch.stack([made[number] for number in sorted(made)], dim=1)

    def _of_class(self, models: Models, drawn: Draw) -> tuple[Tensor, Contexts]:
        """Which token rows count, [R*B, T], and the class's encodings, [R*B, 1, T, D]: the same for all layers, so made once."""
        singles, composed = (models.ids(texts) for texts in (drawn.singles(self.class_word), drawn.composed(self.class_word)))
        repeated = singles.repeat(len(drawn.phrases), 1)
        with torch.no_grad():
            states = models.encode(models.embeds(torch.cat([singles, composed])))[:, None]
        single, whole = states.split([len(singles), len(composed)])
        rows = losses.phrase_rows(repeated, composed).to(states.device)
        return rows, Contexts(single.repeat(len(drawn.phrases), 1, 1, 1), whole)


class Learning:
    """A run. step: how many are done; history: the losses of those that this run did, by step."""

    def __init__(
        self,
        models: Models,
        learner: Learner,
        recipe: Recipe,
        views: Views,
        captions: tuple[str, ...] = (),
        step: int = 0,
        state: OptimizerState | None = None,
        knows_photos: bool = True,
    ) -> None:
        """captions: a frame for each picture (texts.caption_frames), or none; step, state: of a run that this one goes on from."""
        self.models, self.learner, self.recipe, self.views, self.captions = models, learner, recipe, views, captions
        self.texts = TEXTS[kind_of(class_word(recipe), recipe.kind, knows_photos)]
        self.step = step
        self.history: list[tuple[int, dict[str, float]]] = []
        self._parameters = dict(learner.module.named_parameters())
        self._optimizer = torch.optim.AdamW(self._parameters.values(), learner.rate, BETAS, EPSILON, weight_decay=0.0)
        # The scale never grows, so that a run which goes on finds the one that it was stopped with by the same tries.
        self._scaler = torch.amp.GradScaler(models.device.type, FIRST_SCALE, growth_interval=2**31 - 1, enabled=models.half)
        if state is not None:
            self._restore(state)
        check_captions(models, captions, learner)

    def advance(self) -> dict[str, float]:
        """One step; returns its losses. Raises FloatingPointError, before anything is changed, where the loss is not finite or its
        gradients are at no scale."""
        rate = self.learner.rate * self.recipe.batch * self.learner.schedule.factor(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        drawn = self._drawn()
        for _ in range(SCALES):
            found = self.learner.losses(self.models, drawn)
            numbers = {name: value.item() for name, value in found.items()}
            if not math.isfinite(numbers["total"]):
                break
            if self._stepped(found["total"]):
                self.step += 1
                self.history.append((self.step, numbers))
                return numbers
        what = "loss is" if not math.isfinite(numbers["total"]) else "gradients are not finite, with a loss of"
        raise FloatingPointError(
            f"The {what} {numbers['total']} at step {self.step + 1}. Lower the rate, or use full precision; what was learned until then "
            "is kept."
        )

    def _stepped(self, total: Tensor) -> bool:
        """Whether the optimizer did its step: gradients that half precision cannot hold are no step, and make the scale smaller."""
        scale = self._scaler.get_scale()
        self._optimizer.zero_grad()
        self._scaler.scale(total).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return self._scaler.get_scale() >= scale

    def until(self, last: int) -> Iterator[dict[str, float]]:
        """Steps up to this one and the recipe's last, each when it is asked for."""
        while self.step < min(last, self.recipe.steps):
            yield self.advance()

    @property
    def state(self) -> OptimizerState:
        """A copy, as files keep it. Parameters that no gradient reached yet have zeros."""
        known = self._optimizer.state
        means, squares = (
            {
                name: (known[one][kind] if one in known else torch.zeros_like(one)).detach().to("cpu", torch.float32, copy=True)
                for name, one in self._parameters.items()
            }
            for kind in ("exp_avg", "exp_avg_sq")
        )
        return OptimizerState(means, squares, self.step)

    def _restore(self, state: OptimizerState) -> None:
        if not state.step:
            return
        for name, parameter in self._parameters.items():
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": state.means[name].to(parameter, copy=True),
                "exp_avg_sq": state.squares[name].to(parameter, copy=True),
            }

    def _drawn(self) -> Step:
        models, views, recipe = self.models, self.views, self.recipe
        drawn = draw(
            recipe.seed,
            self.step,
            recipe.batch,
            self.learner.repeats,
            views,
            self.texts,
            self.captions,
            sum(one.block[2] == 0 for one in models.layout.layers),
            len(models.kept),
            self.learner.compares,
        )
        latents, mask = views.chosen(drawn.pictures, drawn.views)
        kept = models.kept.cpu().float()[drawn.timesteps].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * latents + (1 - kept).sqrt() * drawn.noise
        device = models.device
        return Step(drawn, noisy.to(device), drawn.noise.to(device), drawn.timesteps.to(device), mask.to(device))


def check_captions(models: Models, captions: tuple[str, ...], learner: Learner) -> None:
    """Whether the text encoder sees the placeholder in every caption. Raises ValueError for the first in which it is cut off."""
    for number, frame in enumerate(captions, start=1):
        caption = named(frame, learner.placeholder)
        if not (models.ids([caption]) == learner.token).any():
            raise ValueError(
                f'The caption of picture {number}, "{shown(caption, 80)}", is longer than the text encoder takes, and the placeholder '
                f'"{shown(learner.placeholder, 40)}" is cut off. Shorten it, or name the subject earlier.'
            )


def learned_subject(learning: Learning, begun: LasrSubject) -> LasrSubject:
    """What a run of a LayerwiseLearner has learned so far, a copy. begun: what it began with. Raises FloatingPointError for weights that
    no file could keep."""
    module = learning.learner.module
    assert isinstance(module, SubjectEmbedder)
    weights = weights_of(module)
    for name, value in weights.items():
        if (fault := finite.fault(value)) is not None:
            raise FloatingPointError(
                f"{name} of the subject holds {fault} at step {learning.step}. Lower the rate, and learn it anew."
            )
    return replace(begun, weights=weights, learning=replace(begun.learning, step=learning.step))


@contextmanager
def kept_whatever_happens(keep: Callable[[], None]) -> Iterator[None]:
    """Calls keep where the block ends early, by an error or an interruption of any kind, and lets that go on."""
    whole = False
    try:
        yield
        whole = True
    finally:
        if not whole:
            keep()


def _together(first: Prompts, second: Prompts) -> Prompts:
    """Rows of two, all of which have the placeholder."""
    embeds = torch.cat([first.embeds, second.embeds])
    marks = torch.cat([first.marks, second.marks], dim=1)
    return Prompts(embeds, marks, torch.arange(len(embeds), device=embeds.device), first.chunk)


def _encoding(models: Models) -> contexts.Encode:
    if not models.checkpointing:
        return models.encode

    def encode(embeds: Tensor) -> Tensor:
        parts = embeds.split(ROWS_AGAIN)
        return torch.cat([torch.utils.checkpoint.checkpoint(models.encode, part, use_reentrant=False) for part in parts])

    return encode
