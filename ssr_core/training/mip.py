"""The MIP-Adapter as a method that can be trained (arXiv 2409.17920; recipe of hqhQAQ/MIP-Adapter, train.py, in mip.md, section 7).

Its inputs are scenes: a target with several named objects and a reference picture of each. Its objective is the noise loss alone. What
is trained are the layers' projections and gates; the projector stays as it is, without gradients, unless told otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor, nn
from torchvision.transforms import functional as transforms

from .. import vision
from ..hosts.diffusers import generate, mip
from ..hosts.diffusers.attach import branches_attached, check_unet
from ..hosts.diffusers.encoders import vision_model
from ..losses import noise_loss
from ..methods.mip import formats
from ..methods.mip.adapter import MIPAdapter, fingerprint
from ..methods.mip.encode import References, check_vision_model
from ..methods.mip.objects import MOST_OBJECTS, MIPObject
from ..pictures import open_mask, open_picture
from ..sheet import Labelled
from . import subject_dataset
from .config import LARGEST_BATCH, STRICT, WIDEST, Amount, Chance, Count, Switch, Text, TrainingConfig, ValidationPicture
from .examples import VisionShape, reference_pixels
from .fresh_adapter import fresh, resampler, started
from .frozen import Frozen
from .method import Autocast, Choice, Example, Losses, Source
from .records import Record
from .records import read as read_records
from .scenes import Scene, read_scene
from .subject_dataset import SubjectFolder, SubjectRecord


@pydantic_dataclass(frozen=True, config=STRICT)
class MIPConfig(TrainingConfig):
    """start_from: one file of an MIP-Adapter, or of a plain IP-Adapter, whose gates then start at random. data: also a folder of
    subject_dataset_10k (images, masks, jsons)."""

    method: Text = "mip"
    steps: Count = 12_000
    batch_size: Annotated[Count, Field(le=LARGEST_BATCH)] = 4
    """The authors train with it on eight devices."""
    lr: Amount = 1e-4
    flip: Chance = 0.0
    """Chance that a target is mirrored, which the authors never do."""
    guidance: Annotated[Amount, Field(le=100)] = 5.0

    ids: Text | None = None
    """Of subject_dataset_10k: the list of samples, where it is not in the folder (subject_dataset.read)."""
    objects: Annotated[Count, Field(le=MOST_OBJECTS)] = 2
    """Of a target; one with fewer is left out."""
    flip_references: Chance = 0.5
    drop_prompt: Chance = 0.05
    """Chance that a sample has no prompt, but its objects."""
    drop_objects: Chance = 0.05
    """Chance that it has its prompt, but no objects."""
    drop_both: Chance = 0.05
    drop_names: Switch = True
    """Where the prompt is dropped the names are too, as on the unconditional side when pictures are drawn. The authors keep them."""

    train_projector: Switch = False
    """Also learn how tokens are made of pictures. Needed without start_from."""
    # Shapes of a fresh adapter; the rest follows from the base.
    projector: Literal["linear", "resampler"] = "linear"
    tokens: Annotated[Count, Field(le=1024)] = 4
    """Of a reference."""
    resampler_width: Annotated[Count, Field(le=WIDEST)] = 1280
    resampler_depth: Annotated[Count, Field(le=64)] = 4

    @model_validator(mode="after")
    def _chances_are_shares(self) -> MIPConfig:
        if (total := self.drop_prompt + self.drop_objects + self.drop_both) > 1:
            raise ValueError(
                f"drop_prompt, drop_objects and drop_both exclude each other; their sum must be at most 1, is {total:g}"
            )
        if not self.start_from and not self.train_projector:
            raise ValueError(
                "start_from must name an adapter's file, since the projector is not trained; or set train_projector to learn all anew"
            )
        if len(self.start_from) > 1:
            raise ValueError("start_from must name one file: an MIP-Adapter is one")
        return self


@dataclass(frozen=True)
class Dropped:
    """What a sample whose prompt was not dropped alone does without."""

    objects: bool
    prompt: bool


@dataclass(frozen=True)
class SceneInputs:
    """A sample's inputs for its n objects.

    references [n, 3, s, s], zero where they are dropped; shown [n], 1 or 0 then; names, "" where they are dropped; name_lengths: the tokens
    of each; original_size, corner [2]: micro-conditioning (scenes.Scene).
    """

    config: MIPConfig
    shape: VisionShape
    tokenizer: Any

    def source(self) -> Source:
        data = Path(self.config.data)
        if data.is_dir() and subject_dataset.is_subject_dataset(data):
            return subject_dataset.read(data, None if self.config.ids is None else Path(self.config.ids))
        if self.config.ids is not None:
            raise ValueError(f"`ids` is for subject_dataset_10k; {data} is none (it lacks {', '.join(subject_dataset.PARTS)}).")
        return read_records(self.config.data)

    def choose(self, record: Record | SubjectRecord, rng: random.Random) -> Dropped:
        config = self.config
        place = rng.random() * (1 - config.drop_prompt)  # in what the prompt's own chance leaves
        return Dropped(
            objects=place < config.drop_objects + config.drop_both,
            prompt=config.drop_objects <= place < config.drop_objects + config.drop_both,
        )

    def read(self, opener: Any, record: Any, choice: Choice) -> Example:
        config, dropped = self.config, choice.chosen
        scene = self._scene(opener, record, random.Random(choice.seed))
        alone = not choice.prompt
        hidden, untold = not alone and dropped.objects, alone or dropped.prompt
        lengths = [mip.name_length(self.tokenizer, thing.name) for thing in scene.objects]
        pixels = transforms.pil_to_tensor(scene.picture.convert("RGB")).float() / 127.5 - 1
        references = torch.stack([reference_pixels(thing.reference, self.shape) for thing in scene.objects])
        return {
            "pixels": pixels.flip(-1) if choice.flip else pixels,
            "references": torch.zeros_like(references) if hidden else references,
            "shown": torch.zeros(len(lengths)) if hidden else torch.ones(len(lengths)),
            "names": ["" if untold and config.drop_names else thing.name for thing in scene.objects],
            "name_lengths": lengths,
            "original_size": torch.tensor(scene.original_size),
            "corner": torch.tensor(scene.corner),
            "prompt": "" if untold else choice.prompt,
            "seed": choice.seed,
        }

    def _scene(self, opener: Any, record: Any, rng: random.Random) -> Scene:
        config = self.config
        if isinstance(opener, SubjectFolder):
            return opener.scene(record, rng, config.size, config.objects, config.flip_references)
        return read_scene(opener, record, rng, config.size, config.objects, config.flip_references)


class ObjectKeysValues(nn.Module):
    """Every layer's keys and values of objects, and its gate. projector: where it is trained too."""

    def __init__(self, adapter: MIPAdapter, train_projector: bool) -> None:
        super().__init__()
        self.layers = adapter.layers
        self.projector = adapter.projector if train_projector else None

    def forward(self, given: Tensor) -> tuple[tuple[tuple[Tensor, Tensor], ...], tuple[Tensor, ...]]:
        """given: tokens [B, n, T, D], or with a projector pictures' features [B, n, ...] -> per layer two [B, n, T, C]; per layer [C]."""
        batch = given.shape[:2]
        tokens = given.flatten(0, 1)
        if self.projector is not None:
            tokens = self.projector(tokens)  # [B*n, T, D]
        keys, values, gates = zip(*(layer(tokens) for layer in self.layers), strict=True)
        keys_values = tuple(
            (key.unflatten(0, batch), value.unflatten(0, batch)) for key, value in zip(keys, values, strict=True)
        )
        return keys_values, gates


class MIP:
    """An adapter in training."""

    config_class: ClassVar[type[TrainingConfig]] = MIPConfig
    file: ClassVar[str] = "adapter"

    def __init__(self, config: MIPConfig, frozen: Frozen) -> None:
        self.config, self.frozen = config, frozen
        base = frozen.base
        if config.start_from:
            self.adapter = started(config.start_from[0])
        else:
            pooled = config.projector == "linear"
            shape = None if pooled else resampler(config.resampler_width, config.resampler_depth)
            self.adapter = fresh(base, config.tokens, shape)
        shapes = self.adapter.config
        check_unet(base.unet, shapes.layout)
        if shapes.text_width != base.text_width:
            raise ValueError(
                f"The adapter to start from takes text of width {shapes.text_width}, the base has {base.text_width}. Load the base that it "
                "was made for."
            )
        self.tower = vision_model(base.vision_encoder)
        check_vision_model(self.tower, shapes)
        self.adapter.to(frozen.device).requires_grad_(True).train()
        if not config.train_projector:
            self.adapter.projector.requires_grad_(False).train(False)
        self.module: nn.Module = ObjectKeysValues(self.adapter, config.train_projector)
        tower = base.vision_encoder.config
        self.inputs = SceneInputs(config, VisionShape(tower.image_size, tower.image_size // tower.patch_size), base.tokenizer)
        for thing in (thing for wanted in config.validation for thing in wanted.things):
            mip.name_length(base.tokenizer, thing.query)

    @property
    def features_of(self) -> bool:
        return self.adapter.config.pooled

    def features(self, pixels: Tensor) -> Tensor:
        """[B, 3, s, s] -> embeddings [B, E], or hidden states before the last layer [B, P, E], float32."""
        if self.adapter.config.pooled:
            assert self.tower.pooled is not None
            return self.tower.pooled(pixels).float()
        return vision.patch_features(self.tower.hidden_states, pixels, (self.tower.layers - 1,))[:, 0].float()

    def encode(self, batch: Example) -> Example:
        done = dict(batch)
        references, shown = done.pop("references"), done.pop("shown")  # [B, n, 3, s, s], [B, n]
        pictures = references.flatten(0, 1)
        pooled = self.adapter.config.pooled
        # Hidden states are too large to keep many of.
        features = self.frozen.features(pictures, self.features) if pooled else self.features(pictures)
        features = features.to(self.frozen.device)
        if pooled:
            features = features * shown.flatten()[:, None]  # a dropped one is a zero embedding (mip.md, section 3)
        given = features if self.config.train_projector else self.adapter(features)
        done["objects"] = given.unflatten(0, shown.shape)
        lengths = done["name_lengths"]
        embeds = self.frozen.embed([name for row in done.pop("names") for name in row])  # [B*n, 77, D]
        longest = max(map(max, lengths))
        done["name_embeds"] = embeds[:, 1 : 1 + longest].unflatten(0, shown.shape).to(self.frozen.device)
        return done

    @contextmanager
    def loss(self, module: nn.Module, batch: Example, autocast: Autocast) -> Iterator[Losses]:
        noisy, noise, timesteps = self.frozen.noise(batch)
        weights = self.frozen.balanced[timesteps] if self.config.timestep_weights == "balanced" else None
        base = self.frozen.base
        with autocast():
            keys_values, gates = module(batch["objects"])
        count = batch["objects"].shape[1]
        branches = [[(key[:, one], value[:, one]) for key, value in keys_values] for one in range(count)]
        words = [
            [embeds[one, :length] for one, length in enumerate(lengths)]
            for embeds, lengths in zip(batch["name_embeds"], batch["name_lengths"], strict=True)
        ]
        rows = list(range(noisy.shape[0]))  # every sample has objects of its own
        with branches_attached(base.unet, base.layout, branches, rows, words=words if count > 1 else (), gates=gates):
            with autocast():
                predicted = self.frozen.predict(noisy, timesteps, batch)
                total = noise_loss(predicted, noise, weights)
            yield {"total": total}

    def validation_row(self, pipe: Any, wanted: ValidationPicture, latents: Tensor) -> list[Labelled]:
        """The references by their names, and all of them under the prompt."""
        base, adapter, config = self.frozen.base, self.adapter, self.config
        adapter.fingerprint = fingerprint(adapter.state_dict(), adapter.config)
        asked: list[Labelled] = []
        objects: tuple[MIPObject, ...] = ()
        for thing in wanted.things:
            picture = open_picture(Path(thing.reference))
            mask = None if thing.mask is None else open_mask(Path(thing.mask))[None]
            objects += (mip.encode(base, adapter, References([picture], mask), thing.query),)
            asked.append((thing.query, picture))
        drawn = mip.sample(
            pipe,
            adapter,
            objects,
            [wanted.prompt],
            latents,
            manner=mip.strength_of(adapter.config),
            steps=config.validation_steps,
            guidance=config.guidance,
        )
        return [*asked, (wanted.prompt or "no prompt", generate.decode(base, drawn)[0])]

    def save(self, state: Mapping[str, Tensor], path: Path) -> None:
        """The whole adapter, projector and all, as every host loads it."""
        shapes = self.adapter.config
        kept = {name: tensor for name, tensor in self.adapter.state_dict().items() if name.startswith("projector.")}
        own = {name: tensor.detach().cpu().float() for name, tensor in {**kept, **state}.items()}
        weights = formats.Weights(shapes, own, fingerprint(own, shapes))
        formats.write(weights, path, extra={"training": self.config.to_yaml()})
