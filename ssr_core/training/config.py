"""One YAML file describes a training run. The fields that every method has are here, its own beside it (ssr.py), both with what the
official recipe uses as defaults where it has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

PRECISIONS = ("no", "bf16", "fp16")
SCHEDULES = ("constant", "cosine")
TIMESTEP_WEIGHTS = ("official", "balanced")


def cosine(step: int, steps: int, warmup: int) -> float:
    """Factor of the learning rate: linear up over the warm-up, half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


@dataclass(frozen=True)
class ValidationPicture:
    """What to draw at every validation: what `query` (and `mask`) select in `reference`, under `prompt`."""

    reference: str
    query: str
    prompt: str
    mask: str | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """base: folder of a diffusers Stable Diffusion 1.x, or "mini"; vision_encoder: folder of its CLIP vision model.
    data: jsonl file, folder of pictures, or webdataset shards ("shards/{000..099}.tar"). Relative paths start where the command runs.
    start_from: files of trained weights to fine-tune; none: fresh weights. method: what is trained, one of methods.METHODS.
    """

    base: str
    data: str
    out: str
    vision_encoder: str | None = None
    start_from: tuple[str, ...] = ()
    method: str = "ssr"

    steps: int = 100_000
    batch_size: int = 24
    """Per process and accumulated step."""
    accumulate: int = 1
    lr: float = 5e-5
    schedule: str = "constant"
    warmup: int = 0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 0.0
    """Largest norm of the gradients; 0 does not clip, as the official code."""
    timestep_weights: str = "official"
    """official: every timestep's noise loss counts 1. balanced: noisy timesteps count more (losses.balanced_weights)."""
    ema: float = 0.0
    """Decay of the averaged weights; 0 keeps none."""

    size: int = 512
    """Side of a target picture in pixels."""
    flip: float = 0.5
    """Chance that a target is mirrored; its reference never is, as in the official code."""
    drop_prompt: float = 0.8
    """Chance that a sample's prompt is empty: the subject alone must explain the picture."""

    seed: int = 0
    workers: int = 4
    precision: str = "no"
    gradient_checkpointing: bool = False
    cache: str | None = None
    """Folder for the frozen encoders' outputs, computed once; needs a target and a reference at a fixed size, so no shards."""
    save_every: int = 1000
    keep: int = 2
    """Checkpoints to keep besides the last."""
    validate_every: int = 1000
    validation: tuple[ValidationPicture, ...] = field(default=())
    validation_steps: int = 30
    guidance: float = 7.5

    def __post_init__(self) -> None:
        self.check_counts("steps", "batch_size", "accumulate", "size", "save_every", "validate_every", "validation_steps")
        self.check_chances("flip", "drop_prompt")
        self.check_not_negative("warmup", "workers", "keep", "clip_norm", "weight_decay")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is a decay from 0 (none) to below 1, got {self.ema}.")
        if self.timestep_weights not in TIMESTEP_WEIGHTS:
            raise ValueError(f"timestep_weights must be one of {', '.join(TIMESTEP_WEIGHTS)}, got {self.timestep_weights!r}.")
        if self.precision not in PRECISIONS or self.schedule not in SCHEDULES:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)} and schedule one of {', '.join(SCHEDULES)}; "
                f"got {self.precision!r} and {self.schedule!r}."
            )

    def check_counts(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")

    def check_chances(self, *names: str) -> None:
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a chance from 0 to 1, got {getattr(self, name)}.")

    def check_not_negative(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")

    def learning_rate(self, step: int) -> float:
        """Of an optimizer step, counted from 0."""
        if self.schedule == "cosine":
            return self.lr * cosine(step, self.steps, self.warmup)
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup))

    def to_yaml(self) -> str:
        return yaml.safe_dump(_plain(asdict(self)), sort_keys=False)


def read(path: Path, changes: Mapping[str, Any], kinds: Mapping[str, type[TrainingConfig]]) -> TrainingConfig:
    """The configuration in a YAML file; changes: values that replace the file's; kinds: every method's configuration by its name.

    Raises ValueError that names the wrong field.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no configuration; expected lines such as `base: mini`.")
    content = {**content, **changes}
    method = content.get("method", TrainingConfig.method)
    if method not in kinds:
        raise ValueError(f"{path}: method must be one of {', '.join(kinds)}, got {method!r}.")
    known = {item.name: item for item in fields(kinds[method])}
    unknown = sorted(content.keys() - known.keys())
    missing = sorted({"base", "data", "out"} - content.keys())
    if unknown or missing:
        raise ValueError(
            f"{path}: "
            + "; ".join(
                part
                for part in (
                    f"unknown {', '.join(unknown)}" if unknown else "",
                    f"missing {', '.join(missing)}" if missing else "",
                )
                if part
            )
            + f". Known fields: {', '.join(known)}."
        )
    try:
        values = {name: _typed(name, str(known[name].type), value) for name, value in content.items()}
        return kinds[method](**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _typed(name: str, kind: str, value: Any) -> Any:
    """A YAML value as its field's type. YAML reads 5e-5 as text and 1 as a whole number; both are welcome as float."""
    if name == "validation":
        return tuple(ValidationPicture(**picture) for picture in value or ())
    if kind.startswith("tuple"):
        part = {"tuple[int, ...]": int, "tuple[float, float]": float}.get(kind, str)
        return tuple(part(item) for item in ([value] if isinstance(value, str) else value))
    if value is None and kind.endswith("None"):
        return None
    simple = {"int": int, "float": float, "bool": bool}.get(kind, str)
    if (simple is bool) != isinstance(value, bool) or (simple is int and isinstance(value, float)):
        raise ValueError(f"{name} must be {kind}, got {value!r}.")
    return simple(value)


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML writes without tags."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
