"""What a configuration says about training ELITE. Defaults are csyxwei/ELITE's, train_global.py and train_local.py (elite.md, 8), or
what Mini needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from ..methods.elite.losses import Scaling
from ..methods.elite.mapper import Stage
from .config import (
    LARGEST_BATCH,
    STRICT,
    WIDEST,
    Amount,
    Chance,
    Count,
    Switch,
    Text,
    TrainingConfig,
    as_list,
)
from .elite_captions import TEMPLATES

RATES: Mapping[Stage, float] = {"global": 1e-6, "local": 1e-5}
"""The authors' learning rate for one sample a step; --scale_lr, which cannot be switched off, multiplies it by a step's samples."""
OF_STAGE: Mapping[str, Mapping[str, Any]] = {"local": {"batch_size": 2, "lr": 3.2e-4}}
"""Defaults of the second stage, where they are not the first's."""


@dataclass(frozen=True, config=STRICT)
class EliteTrainingConfig(TrainingConfig):
    """start_from: the global stage goes on from its mapper's file; the local stage needs that, and goes on from the local mapper's if it
    is there too (one file with both, or two). data: also a folder of Open Images (open_images.py)."""

    method: Text = "elite"
    stage: Stage = "global"
    steps: Count = 70_000
    """The authors' second stage starts from this step of their first."""
    batch_size: Annotated[Count, Field(le=LARGEST_BATCH)] = 4
    """Local: 2."""
    accumulate: Annotated[Count, Field(le=LARGEST_BATCH)] = 16
    """As many samples a step as on the authors' four devices: 64, local 32."""
    lr: Amount = 6.4e-5
    """What the optimizer takes, 1e-6 for each of 64 samples; local: 3.2e-4, 1e-5 for each of 32. For other numbers of samples set another
    rate: the run says what the authors would take."""
    clip_norm: Amount = 1.0
    flip: Chance = 0.0
    """Chance that a target is mirrored, which the authors never do."""
    drop_prompt: Chance = 0.0
    """Chance that a sample has neither prompt nor word, as on the unconditional side when pictures are drawn, which the authors never train
    (elite.md, E13)."""
    guidance: Annotated[Amount, Field(le=100)] = 5.0
    scaling: Scaling = "official"
    """Of the local stage's noise loss; of the global stage both are the same."""

    split: Annotated[Text, Field(pattern=r"^(train|validation|test)$")] = "test"
    """Of Open Images."""
    crop: Literal["box", "square"] = "box"
    """How an object is cut out of a picture: its box and some pixels around it, stretched, or a square as when pictures are drawn."""
    augment: Switch = True
    """Turn and move what the mappers see."""
    zoom: Switch = True
    """Local stage: show the target small or in part, where it is the picture that the subject is of."""
    captions: Literal["templates", "records"] = "templates"
    """records: a sample's own text, with the word where it says the subject's query; a template for those that do not."""
    templates: Annotated[tuple[Text, ...], BeforeValidator(as_list), Field(min_length=1)] = TEMPLATES
    """Prompts, each with {} once, where the word stands."""

    # Shapes of fresh mappers; the rest follows from the base.
    hidden_width: Annotated[Count, Field(le=WIDEST)] = 1024
    vision_layers: Annotated[tuple[Count, ...], BeforeValidator(as_list), Field(min_length=1, max_length=64)] = (
        24,
        4,
        8,
        12,
        16,
    )

    of_mini: ClassVar[Mapping[str, Any]] = {
        **TrainingConfig.of_mini,
        "hidden_width": 128,
        "vision_layers": (6, 1, 2, 3, 4),
        "crop": "square",
        "zoom": False,
        "captions": "records",
        "templates": ("a picture of a {}", "a picture of the {}", "a {}"),
    }

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_stage(cls, given: ArgsKwargs) -> ArgsKwargs:
        named = given.kwargs or {}
        return ArgsKwargs(given.args, {**OF_STAGE.get(str(named.get("stage")), {}), **named})

    @model_validator(mode="after")
    def _fits_together(self) -> EliteTrainingConfig:
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(f"templates must each have {{}} once, where the word stands; {template[:80]!r} has not")
        if self.stage == "local" and not self.start_from:
            raise ValueError(
                "start_from must name the global mapper's file, from which the local stage starts; train `stage: global` first"
            )
        if len(self.start_from) > 2:
            raise ValueError("start_from must name one file or two, the global mapper's and the local mapper's")
        return self

    def told_rate(self, samples: int) -> str:
        theirs = RATES[self.stage]
        return (
            f"{super().told_rate(samples)}; csyxwei/ELITE takes {theirs:g} a sample, {theirs * samples:g} for as many "
            f"({theirs * 64:g} for 64)"
        )
