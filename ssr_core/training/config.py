"""One YAML file describes a training run; its fields are here, with what the official recipe uses as defaults where it has one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Strict,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from ..faults import told


def _no_switch(value: Any) -> Any:
    """YAML's true and false are no numbers, whatever Python says."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _as_text(value: Any) -> Any:
    """A folder may be called 2024, which YAML reads as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _as_list(value: Any) -> Any:
    """One entry needs no brackets, and nothing after a colon is an empty list."""
    return [value] if isinstance(value, str) else () if value is None else value


# YAML reads 5e-5 as text and 1 as a whole number; both are welcome as float.
Number = Annotated[float, BeforeValidator(_no_switch)]
Chance = Annotated[float, Field(ge=0, le=1), BeforeValidator(_no_switch)]
Amount = Annotated[NonNegativeFloat, BeforeValidator(_no_switch)]
Whole = Annotated[int, BeforeValidator(_no_switch)]
Count = Annotated[PositiveInt, BeforeValidator(_no_switch)]
CountOrNone = Annotated[NonNegativeInt, BeforeValidator(_no_switch)]
Switch = Annotated[bool, Strict()]
Text = Annotated[str, BeforeValidator(_as_text)]

_STRICT = ConfigDict(extra="forbid")


def cosine(step: int, steps: int, warmup: int) -> float:
    """Factor of the learning rate: linear up over the warm-up, half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


@dataclass(frozen=True, config=_STRICT)
class ValidationPicture:
    """What to draw at every validation: the subject that `query` (and `mask`) select in `reference`, under `prompt`."""

    reference: Text
    query: Text
    prompt: Text
    mask: Text | None = None


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    """base: folder of a diffusers Stable Diffusion 1.x, or "mini"; vision_encoder: folder of its CLIP vision model.
    data: jsonl file, folder of pictures, or webdataset shards ("shards/{000..099}.tar"). Relative paths start where the command runs.
    start_from: an encoder to fine-tune (our file, or the official pair); none: fresh weights.
    """

    base: Text
    data: Text
    out: Text
    vision_encoder: Text | None = None
    start_from: Annotated[tuple[Text, ...], BeforeValidator(_as_list)] = ()

    # Shapes of a fresh encoder; the rest follows from the base.
    inner_width: Whole = 512
    heads: Whole = 8
    vision_layers: Annotated[tuple[Whole, ...], BeforeValidator(_as_list)] = (4, 8, 12, 16, 20, 24)

    steps: Count = 100_000
    batch_size: Count = 24
    """Per process and accumulated step."""
    accumulate: Count = 1
    lr: Number = 5e-5
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: CountOrNone = 0
    weight_decay: Amount = 0.01
    betas: tuple[Number, Number] = (0.9, 0.999)
    clip_norm: Amount = 0.0
    """Largest norm of the gradients; 0 does not clip, as the official code."""
    regulariser: Amount = 0.1
    """Weight of the embedding consistency; 0 leaves it out. The official fine-tuning uses 0.001."""
    timestep_weights: Literal["official", "balanced"] = "official"
    """official: every timestep's noise loss counts 1. balanced: noisy timesteps count more (losses.balanced_weights)."""
    ema: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Decay of the averaged weights; 0 keeps none."""

    size: Count = 512
    """Side of a target picture in pixels."""
    flip: Chance = 0.5
    """Chance that a target is mirrored; its reference never is, as in the official code."""
    drop_prompt: Chance = 0.8
    """Chance that a sample's prompt is empty: the subject alone must explain the picture."""
    drop_subject: Chance = 0.0
    """Chance that a sample gets the unconditional subject (empty picture, empty query); the official code never trains it."""
    mask_query: Chance = 0.0
    """Chance that a sample whose data has a mask is queried with it. The official code never trains masks."""
    mask_alone: Chance = 0.5
    """Share of those that get no words besides the mask."""
    mask_weight: Number = 1.0
    whole_picture: Switch = False
    """Query every reference with the empty text: conditioning on all of it, for comparison."""
    subjects: Count = 1
    """Subjects a target is told at once, of those its record has; they share one softmax, as when combined jointly."""

    seed: Whole = 0
    workers: CountOrNone = 4
    precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: Switch = False
    cache: Text | None = None
    """Folder for the frozen encoders' outputs, computed once; needs a target and a reference at a fixed size, so no shards."""
    save_every: Count = 1000
    keep: CountOrNone = 2
    """Checkpoints to keep besides the last."""
    validate_every: Count = 1000
    validation: Annotated[tuple[ValidationPicture, ...], BeforeValidator(_as_list)] = ()
    validation_steps: Count = 30
    guidance: Number = 7.5

    def learning_rate(self, step: int) -> float:
        """Of an optimizer step, counted from 0."""
        if self.schedule == "cosine":
            return self.lr * cosine(step, self.steps, self.warmup)
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup))

    def to_yaml(self) -> str:
        return yaml.safe_dump(TypeAdapter(TrainingConfig).dump_python(self, mode="json"), sort_keys=False)


def read(path: Path, changes: Mapping[str, Any] | None = None) -> TrainingConfig:
    """The configuration in a YAML file; changes: values that replace the file's. Raises ValueError that names the wrong field."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} holds no configuration; expected lines such as `base: mini`.")
    try:
        return TrainingConfig(**{**content, **(changes or {})})
    except ValidationError as error:
        faults = told(error)
        known = f" Known fields: {', '.join(item.name for item in fields(TrainingConfig))}." if "unknown" in faults else ""
        raise ValueError(f"{path}: {faults}.{known}") from error
