"""The SSR-Encoder as a method that can be trained (arXiv 2312.16272, section 3.4).

Its inputs are subjects: a reference picture each, queried by words or a mask, or dropped. Its objective is the noise loss plus
the embedding consistency. What is trained is the encoder: aligner and projections.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor, nn

from .. import vision
from ..hosts.diffusers import generate, ssr
from ..hosts.diffusers.attach import branches_attached, check_unet
from ..hosts.diffusers.base import Base
from ..hosts.diffusers.encoders import vision_model
from ..methods.ssr import formats
from ..methods.ssr.encoder import EncoderConfig, SSREncoder, fingerprint
from ..methods.ssr.losses import objective
from ..methods.ssr.subject import Subject
from ..pictures import open_mask, open_picture
from ..sheet import Labelled, heat_picture
from .config import (
    MOST_SUBJECTS,
    STRICT,
    WIDEST,
    Amount,
    Chance,
    Count,
    Number,
    Switch,
    TrainingConfig,
    ValidationPicture,
    as_list,
)
from .examples import VisionShape, mask_patches, read_target, reference_pixels
from .frozen import Frozen
from .method import Autocast, Choice, Example, Losses, Opener
from .records import Record, Records, SubjectSource
from .records import read as read_records

UNCONDITIONAL = ""
"""Name of the unconditional reference in the cache."""


@pydantic_dataclass(frozen=True, config=STRICT)
class SSRConfig(TrainingConfig):
    """start_from: our single file, or the pair that Xiaojiu-z/SSR_Encoder releases (pytorch_model.bin, pytorch_model_1.bin)."""

    # Shapes of a fresh encoder; the rest follows from the base.
    inner_width: Annotated[Count, Field(le=WIDEST)] = 512
    heads: Annotated[Count, Field(le=WIDEST)] = 8
    vision_layers: Annotated[tuple[Count, ...], BeforeValidator(as_list), Field(min_length=1, max_length=WIDEST)] = (
        4, 8, 12, 16, 20, 24,
    )  # fmt: skip
    """Of CLIP ViT-L/14's 24; of Mini's six all, where they are not given."""

    regulariser: Amount = 0.1
    """Weight of the embedding consistency; 0 leaves it out. 0.1 is the default of Xiaojiu-z/SSR_Encoder's train.py; its train.sh
    takes 0.001, for fine-tuning."""
    drop_subject: Chance = 0.0
    """Chance that a sample gets the unconditional subject (empty picture, empty query), which Xiaojiu-z/SSR_Encoder's train.py never
    trains."""
    mask_query: Chance = 0.0
    """Chance that a sample whose data has a mask is queried with it. Xiaojiu-z/SSR_Encoder's train.py never trains masks."""
    mask_alone: Chance = 0.5
    """Share of those that get no words besides the mask."""
    mask_weight: Number = 1.0
    whole_picture: Switch = False
    """Query every reference with the empty text: conditioning on all of it, for comparison."""
    subjects: Annotated[Count, Field(le=MOST_SUBJECTS)] = 1
    """Subjects a target is told at once, of those its record has; they share one softmax, as when combined jointly. A record with fewer
    is told those that it has."""

    of_mini: ClassVar[Mapping[str, Any]] = {**TrainingConfig.of_mini, "vision_layers": (1, 2, 3, 4, 5, 6)}


@dataclass(frozen=True)
class ChosenSubject:
    """source None: the unconditional subject. words: the query; masked: whether the mask is used; there False: it only fills up a sample
    to the batch's length."""

    source: SubjectSource | None
    words: str
    masked: bool
    there: bool = True


ABSENT = ChosenSubject(None, "", False, there=False)


@dataclass(frozen=True)
class SubjectInputs:
    """A sample's inputs for its n subjects.

    references [n, 3, s, s] or their features [n, S, P, C]; queries or query_embeds [n, T, D]; masks [n, P-1]; mask_weights [n, 1];
    there [n] bool, the subjects that the sample has
    """

    config: SSRConfig
    shape: VisionShape

    def choose(self, record: Record, rng: random.Random) -> tuple[ChosenSubject, ...]:
        count = self.config.subjects
        shown = rng.sample(record.subjects, min(count, len(record.subjects)))
        subjects = [self._choose_subject(source, rng) for source in shown]
        return tuple(subjects + [ABSENT] * (count - len(subjects)))

    def _choose_subject(self, source: SubjectSource, rng: random.Random) -> ChosenSubject:
        config = self.config
        dropped, masked, alone = (
            rng.random() < chance for chance in (config.drop_subject, config.mask_query, config.mask_alone)
        )
        words = rng.choice(source.queries)
        if dropped:
            return ChosenSubject(None, "", False)
        if config.whole_picture:
            return ChosenSubject(source, "", False)
        masked = masked and source.mask is not None
        return ChosenSubject(source, "" if masked and alone else words, masked)

    def source(self) -> Records:
        return read_records(self.config.data)

    def read(self, opener: Opener, record: Record, choice: Choice) -> Example:
        chosen: Sequence[ChosenSubject] = choice.chosen
        return {
            **read_target(opener, record, choice, self.config.size),
            "references": torch.stack([self.reference_pixels(opener, _reference(record, subject)) for subject in chosen]),
            "queries": [subject.words for subject in chosen],
            **self._masks(opener, chosen),
        }

    def references(self, records: Sequence[Record]) -> list[str]:
        named = {subject.reference or record.name for record in records for subject in record.subjects}
        return [*sorted(named), UNCONDITIONAL]

    def reference_pixels(self, opener: Opener, name: str) -> Tensor:
        if name == UNCONDITIONAL:
            return torch.zeros(3, self.shape.size, self.shape.size)
        return reference_pixels(opener.open(name), self.shape)

    def texts(self, record: Record) -> Iterable[str]:
        return [words for subject in record.subjects for words in subject.queries]

    def read_cached(
        self,
        opener: Opener,
        record: Record,
        chosen: Sequence[ChosenSubject],
        features: Callable[[str], Tensor],
        embeds: Callable[[Sequence[str]], Tensor],
    ) -> Example:
        return {
            "features": torch.stack([features(_reference(record, subject)) for subject in chosen]),
            "query_embeds": embeds([subject.words for subject in chosen]),
            **self._masks(opener, chosen),
        }

    def _masks(self, opener: Opener, chosen: Sequence[ChosenSubject]) -> Example:
        masks, weights = zip(*(self._mask(opener, subject) for subject in chosen), strict=True)
        there = torch.tensor([subject.there for subject in chosen])
        return {"masks": torch.stack(masks), "mask_weights": torch.tensor(weights)[:, None], "there": there}

    def _mask(self, opener: Opener, subject: ChosenSubject) -> tuple[Tensor, float]:
        """A subject's patch mask and its weight. All ones with weight 1 adds one number to all logits: it is no mask at all."""
        if not subject.masked or subject.source is None or subject.source.mask is None:
            return torch.ones(self.shape.grid**2), 1.0
        return mask_patches(opener.open_mask(subject.source.mask), self.shape), self.config.mask_weight


def _reference(record: Record, subject: ChosenSubject) -> str:
    return UNCONDITIONAL if subject.source is None else subject.source.reference or record.name


class SubjectKeysValues(nn.Module):
    """From a picture's features and a query to subject tokens and every layer's keys and values."""

    def __init__(self, encoder: SSREncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, query: Tensor, features: Tensor, masks: Tensor, mask_weights: Tensor
    ) -> tuple[Tensor, tuple[tuple[Tensor, Tensor], ...]]:
        """query: [B, n, T, D], features: [B, n, S, P, C], masks: [B, n, P-1], mask_weights: [B, n, 1]
        -> tokens [B*n, S*T, D]; per layer two [B, n*S*T, C].
        """
        batch = query.shape[0]
        flat = (part.flatten(0, 1) for part in (query, features, masks, mask_weights))
        tokens = self.encoder(*flat).tokens  # [B*n, S*T, D]
        together = tokens.unflatten(0, (batch, -1)).flatten(1, 2)  # [B, n*S*T, D]
        return tokens, tuple(self.encoder.project(together))


class SSR:
    """An encoder in training, fresh or from start_from."""

    config_class: ClassVar[type[TrainingConfig]] = SSRConfig
    file: ClassVar[str] = "encoder"

    def __init__(self, config: SSRConfig, frozen: Frozen) -> None:
        self.config, self.frozen = config, frozen
        self.encoder = _encoder(config, frozen.base)
        layers, asked = frozen.base.vision_encoder.config.num_hidden_layers, max(self.encoder.config.vision_layers)
        if asked > layers:
            raise ValueError(
                f"vision_layers asks for layer {asked} of an image encoder that has {layers}. Give layers that it has, the last among them."
            )
        check_unet(frozen.base.unet, self.encoder.config.layout)
        self.module: nn.Module = SubjectKeysValues(self.encoder)
        vision_config = frozen.base.vision_encoder.config
        shape = VisionShape(vision_config.image_size, vision_config.image_size // vision_config.patch_size)
        self.inputs = SubjectInputs(config, shape)

    @property
    def features_of(self) -> tuple[int, ...]:
        return self.encoder.config.vision_layers

    def features(self, pixels: Tensor) -> Tensor:
        """[B, 3, s, s] -> [B, S, P, C]"""
        hidden_states = vision_model(self.frozen.base.vision_encoder).hidden_states
        return vision.patch_features(hidden_states, pixels, self.encoder.config.vision_layers)

    def encode(self, batch: Example) -> Example:
        done = dict(batch)
        if "references" in done:
            references, queries = done.pop("references"), done.pop("queries")  # [B, n, 3, s, s]
            shape = references.shape[:2]
            done["features"] = self.features(references.flatten(0, 1)).unflatten(0, shape).to(self.frozen.device)
            embeds = self.frozen.embed([words for row in queries for words in row])
            done["query_embeds"] = embeds.unflatten(0, shape).to(self.frozen.device)
        return done

    @contextmanager
    def loss(self, module: nn.Module, batch: Example, autocast: Autocast) -> Iterator[Losses]:
        query = batch["query_embeds"]  # [B, n, T, D]
        noisy, noise, timesteps = self.frozen.noise(batch)
        weights = self.frozen.balanced[timesteps] if self.config.timestep_weights == "balanced" else None
        base = self.frozen.base
        with autocast():
            tokens, keys_values = module(query, batch["features"].float(), batch["masks"], batch["mask_weights"])
        # Every sample attends to its own subjects.
        rows, there, shares = list(range(noisy.shape[0])), None, None
        if self.config.subjects > 1:
            there = batch["there"].repeat_interleave(tokens.shape[1], dim=1)  # [B, n*S*T]
            shares = _shares(batch["there"])
        with branches_attached(base.unet, base.layout, [keys_values], rows, there=there):
            with autocast():
                predicted = self.frozen.predict(noisy, timesteps, batch)
                found = objective(predicted, noise, tokens, query.flatten(0, 1), self.config.regulariser, weights, shares)
            yield found._asdict()

    def validation_row(self, pipe: Any, wanted: ValidationPicture, latents: Tensor) -> list[Labelled]:
        """Every reference, where its query looks, and the subjects under the prompt."""
        base, encoder, config = self.frozen.base, self.encoder, self.config
        encoder.fingerprint = fingerprint(encoder.state_dict(), encoder.config)
        asked: list[Labelled] = []
        subjects: tuple[Subject, ...] = ()
        for thing in wanted.things:
            reference = open_picture(Path(thing.reference))
            mask = None if thing.mask is None else open_mask(Path(thing.mask))
            (subject,) = ssr.encode(base, encoder, reference, thing.query, mask, config.mask_weight)
            asked += [("reference", reference), (thing.query or "mask", heat_picture(subject.map()))]
            subjects += (subject,)
        drawn = ssr.sample(
            pipe,
            encoder,
            subjects,
            [wanted.prompt],
            latents,
            steps=config.validation_steps,
            guidance=config.guidance,
            manner=1.0,
        )
        return [*asked, (wanted.prompt or "no prompt", generate.decode(base, drawn)[0])]

    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        """The encoder alone, as every host loads it."""
        shapes = self.encoder.config
        own = {name.removeprefix("encoder."): tensor.detach().cpu().float() for name, tensor in state.items()}
        weights = formats.Weights(shapes, own, fingerprint(own, shapes))
        formats.write(weights, path, extra={"training": self.config.to_yaml()})


def _shares(there: Tensor) -> Tensor:
    """How much each subject counts in a batch whose samples count alike, whatever their numbers of subjects: [B, n] -> [B*n]."""
    return (there / there.sum(dim=1, keepdim=True) / len(there)).flatten()


def _encoder(config: SSRConfig, base: Base) -> SSREncoder:
    if config.start_from:
        return formats.load([Path(path) for path in config.start_from], dtype=torch.float32).requires_grad_(True).train()
    if config.inner_width % config.heads:
        raise ValueError(f"inner_width must be a multiple of heads, got {config.inner_width} and {config.heads}.")
    return SSREncoder(
        EncoderConfig(
            layout=base.layout,
            text_width=base.text_width,
            vision_width=base.vision_encoder.config.hidden_size,
            inner_width=config.inner_width,
            heads=config.heads,
            vision_layers=config.vision_layers,
        )
    )
