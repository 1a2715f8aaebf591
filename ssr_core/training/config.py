"""One YAML file describes a training run. The fields that every method has are here, a method's own in its file (ssr.py).

Defaults are those of the authors' recipe where it has one (Xiaojiu-z/SSR_Encoder, train.py and train.sh).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from ..faults import told
from ..mini.files import MINI
from ..mini.scene import SIDE
from ..samplers import LARGEST_GUIDANCE, MOST_STEPS
from ..text_files import parse_yaml, read_text


def _no_switch(value: Any) -> Any:
    """Refuse YAML's true and false, which Python takes for numbers."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _as_text(value: Any) -> Any:
    """Numbers as text: a folder may be called 2024, which YAML reads as a number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def as_list(value: Any) -> Any:
    """Text as a list of one entry, so that it needs no brackets in YAML; nothing after a colon as an empty list."""
    return [value] if isinstance(value, str) else () if value is None else value


def _no_half(value: Any) -> Any:
    """YAML reads `no` as false."""
    return "no" if value is False else value


LARGEST_COUNT = 10**9
LARGEST_NUMBER = 1e30
"""Single precision ends at 3e38, and an optimizer multiplies."""
LARGEST_DECAY = 1000
LARGEST_SIDE = 4096
"""Of a target picture in pixels."""
LARGEST_BATCH = 65536
MOST_WORKERS = 256
MOST_SUBJECTS = 64
WIDEST = 65536
"""Of an encoder's inside."""
LARGEST_SEED = 2**32 - 1
"""numpy takes no larger one."""

# YAML reads 5e-5 as text and 1 as a whole number; both are welcome as float. nan and infinity are no numbers.
Number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER, allow_inf_nan=False), BeforeValidator(_no_switch)]
Chance = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(_no_switch)]
Amount = Annotated[float, Field(ge=0, le=LARGEST_NUMBER, allow_inf_nan=False), BeforeValidator(_no_switch)]
Decay = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), BeforeValidator(_no_switch)]
Count = Annotated[int, Field(gt=0, le=LARGEST_COUNT), BeforeValidator(_no_switch)]
CountOrNone = Annotated[int, Field(ge=0, le=LARGEST_COUNT), BeforeValidator(_no_switch)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED), BeforeValidator(_no_switch)]
Switch = Annotated[bool, Strict()]
Text = Annotated[str, BeforeValidator(_as_text), Field(max_length=4096)]

STRICT = ConfigDict(extra="forbid")


def cosine(step: int, steps: int, warmup: int) -> float:
    """Factor of the learning rate: linear up over the warm-up, half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


@dataclass(frozen=True, config=STRICT)
class ValidationThing:
    """What `query` (and `mask`) select in `reference`. A method whose objects have names takes the query for the name."""

    reference: Text
    query: Text
    mask: Text | None = None


@dataclass(frozen=True, config=STRICT)
class ValidationPicture:
    """What to draw at every validation: what `query` (and `mask`) select in `reference`, under `prompt`. more: further references that
    are shown together with it."""

    reference: Text
    query: Text
    prompt: Text
    mask: Text | None = None
    more: Annotated[tuple[ValidationThing, ...], BeforeValidator(as_list), Field(max_length=MOST_SUBJECTS)] = ()

    @property
    def things(self) -> tuple[ValidationThing, ...]:
        return (ValidationThing(self.reference, self.query, self.mask), *self.more)


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """base: folder of a diffusers Stable Diffusion 1.x or XL, or "mini"; vision_encoder: folder of the method's CLIP vision model.
    data: jsonl file, folder of pictures, or webdataset shards ("shards/{000..099}.tar"), all on this disk. What a jsonl file or a
    folder names lies inside that folder. Relative paths of this file start where the command runs.
    start_from: files of trained weights to fine-tune; none: fresh weights. method: what is trained, one of methods.METHODS.
    """

    base: Text
    data: Text
    out: Text
    vision_encoder: Text | None = None
    start_from: Annotated[tuple[Text, ...], BeforeValidator(as_list)] = ()
    method: Text = "ssr"

    steps: Count = 100_000
    batch_size: Annotated[Count, Field(le=LARGEST_BATCH)] = 24
    """Per process and accumulated step."""
    accumulate: Annotated[Count, Field(le=LARGEST_BATCH)] = 1
    lr: Amount = 5e-5
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit: its state takes a quarter of the memory; on CUDA, by bitsandbytes."""
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: CountOrNone = 0
    weight_decay: Annotated[Amount, Field(le=LARGEST_DECAY)] = 0.01
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    clip_norm: Amount = 0.0
    """Largest norm of the gradients; 0 does not clip, as Xiaojiu-z/SSR_Encoder's train.py does not."""
    timestep_weights: Literal["official", "balanced"] = "official"
    """official (Xiaojiu-z/SSR_Encoder, train.py): every timestep's noise loss counts 1. balanced: noisy timesteps count more
    (losses.balanced_weights)."""
    ema: Decay = 0.0
    """Decay of the averaged weights; 0 keeps none."""

    size: Annotated[Count, Field(le=LARGEST_SIDE)] = 512
    """Side of a target picture in pixels; of Mini 128, where it is not given."""
    flip: Chance = 0.5
    """Chance that a target is mirrored; its reference never is, as in Xiaojiu-z/SSR_Encoder's train.py."""
    drop_prompt: Chance = 0.8
    """Chance that a sample's prompt is empty: the subject alone must explain the picture."""

    seed: Seed = 0
    workers: Annotated[CountOrNone, Field(le=MOST_WORKERS)] = 4
    precision: Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(_no_half)] = "no"
    gradient_checkpointing: Switch = False
    cache: Text | None = None
    """Folder for the frozen encoders' outputs, computed once; needs a target and a reference at a fixed size, so no shards. It must
    not be there yet, be empty, or hold the cache of the same data and models.
    """
    save_every: Count = 1000
    keep: CountOrNone = 2
    """Checkpoints to keep besides the last."""
    validate_every: Count = 1000
    validation: Annotated[tuple[ValidationPicture, ...], BeforeValidator(as_list)] = ()
    validation_steps: Annotated[Count, Field(le=MOST_STEPS)] = 30
    guidance: Annotated[Amount, Field(le=LARGEST_GUIDANCE)] = 7.5
    most_unreadable: CountOrNone = 10
    """Samples whose pictures or texts cannot be read that are named, counted and replaced by the next; one more ends the run."""

    of_mini: ClassVar[Mapping[str, Any]] = {"size": SIDE}
    """Defaults with `base: mini`, where they are not those of Stable Diffusion."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_base(cls, given: ArgsKwargs) -> ArgsKwargs:
        named = given.kwargs or {}
        if named.get("base") != MINI:
            return given
        return ArgsKwargs(given.args, {**cls.of_mini, **named})

    def learning_rate(self, step: int) -> float:
        """Of an optimizer step, counted from 0."""
        if self.schedule == "cosine":
            return self.lr * cosine(step, self.steps, self.warmup)
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup))

    def told_rate(self, samples: int) -> str:
        """What a run says of its learning rate. samples: of one optimizer step, over all processes."""
        return f"learning rate {self.lr:g} at {samples:,} samples a step"

    def to_yaml(self) -> str:
        return yaml.safe_dump(TypeAdapter(type(self)).dump_python(self, mode="json"), sort_keys=False)


def read(path: Path, changes: Mapping[str, Any], kinds: Mapping[str, type[TrainingConfig]]) -> TrainingConfig:
    """The configuration in a YAML file; changes: values that replace the file's; kinds: every method's configuration by its name.

    Raises ValueError that names the wrong field.
    """
    content = parse_yaml(read_text(path), str(path))
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} holds no configuration; expected lines such as `base: mini`.")
    content = {**content, **changes}
    method = content.get("method", TrainingConfig.method)
    if not isinstance(method, str) or method not in kinds:
        raise ValueError(f"{path}: method must be one of {', '.join(kinds)}, got {method!r}.")
    try:
        return kinds[method](**content)
    except ValidationError as error:
        faults = told(error)
        known = f" Known fields: {', '.join(item.name for item in fields(kinds[method]))}." if "unknown" in faults else ""
        raise ValueError(f"{path}: {faults}.{known}") from error
