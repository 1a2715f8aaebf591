"""The SSR-Encoder as a method that can be measured, and its tables: number of objects, kind of query, combining, scaling, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from ..hosts.diffusers import generate, ssr
from ..hosts.diffusers.base import Base, fingerprint
from ..merge import COMBINES, Combine
from ..methods.ssr.encoder import SSREncoder
from ..methods.ssr.subject import Scaling, Subject
from ..schedule import LAYER_PRESETS, Manner, layer_strengths
from ..sheet import heat_picture
from .drawer import Reference, Sampling
from .drawn import Row, Tables
from .selectivity import Case, QueryBy, Setting, cases

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
SHOWN = 12
WEAKER = 0.5
"""Subjects' own strength in the rows that compare the two values of SCALINGS (subject.py)."""


@dataclass(frozen=True)
class SelectedSubject:
    """A subject as the shared measurements look at it."""

    subject: Subject

    def heat(self) -> Tensor:
        return self.subject.heat()

    def shown(self) -> Image.Image:
        return heat_picture(self.subject.map())


@dataclass
class SSRDrawer:
    """An encoder and a base. own_strength: of every subject itself; layers: one of LAYER_PRESETS."""

    base: Base
    encoder: SSREncoder
    combine: Combine = "joint"
    scaling: Scaling = "official"
    own_strength: float = 1.0
    layers: str = "all"
    mask_weight: float = 1.0
    _pipes: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return self.encoder.fingerprint

    @property
    def base_fingerprint(self) -> str:
        return fingerprint(*self.base.models)

    def select(self, reference: Reference) -> SelectedSubject:
        (subject,) = ssr.encode(
            self.base,
            self.encoder,
            reference.picture,
            reference.words,
            reference.mask,
            self.mask_weight,
            strength=self.own_strength,
            points=reference.points,
        )
        return SelectedSubject(subject)

    def draw(
        self,
        selections: Sequence[Sequence[SelectedSubject]],
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Image.Image]:
        if sampling.sampler not in self._pipes:
            self._pipes[sampling.sampler] = generate.pipeline(self.base, sampling.sampler)
        latents = ssr.sample(
            self._pipes[sampling.sampler],
            self.encoder,
            [tuple(one.subject for one in of_picture) for of_picture in selections],
            prompts,
            generate.noise(self.base, seeds, sampling.size, sampling.size),
            negative=sampling.negative,
            steps=sampling.steps,
            guidance=sampling.guidance,
            manner=Manner(sampling.strength, layers=layer_strengths(self.encoder.config.layout, self.layers)),
            combine=self.combine,
            scaling=self.scaling,
        )
        return generate.decode(self.base, latents)


@dataclass(frozen=True)
class SSRSetting(Setting):
    """A drawer's options as they stand in the table's JSON."""

    combine: Combine = "joint"
    scaling: Scaling = "official"
    own_strength: float = 1.0
    layers: str = "all"
    mask_weight: float = 3.0

    def drawer(self, base: Base, encoder: SSREncoder) -> SSRDrawer:
        return SSRDrawer(base, encoder, self.combine, self.scaling, self.own_strength, self.layers, self.mask_weight)


class Ablation(NamedTuple):
    """An encoder that was trained otherwise, and how it is to be queried."""

    encoder: SSREncoder
    query_by: QueryBy


def tables(base: Base, encoder: SSREncoder, ablations: Mapping[str, Ablation], count: int) -> Tables:
    """Every row is measured on `count` held-out cases."""
    plain = SSRSetting()

    def row(wanted: list[Case], setting: SSRSetting = plain, encoder: SSREncoder = encoder) -> Row:
        return Row(setting.drawer(base, encoder), wanted, setting)

    of = {objects: list(cases(count, objects)) for objects in (2, 3, 4)}
    several = {subjects: list(cases(count, 2, subjects=subjects)) for subjects in (2, 3)}
    rows: dict[str, Row] = {}
    for objects, wanted in of.items():
        rows[f"text query, {objects} objects"] = row(wanted)
        rows[f"mask query, {objects} objects"] = row(wanted, replace(plain, query_by="mask"))
        rows[f"text and mask, {objects} objects"] = row(wanted, replace(plain, query_by="both"))
        rows[f"one click, {objects} objects"] = row(wanted, replace(plain, query_by="click"))
    for subjects, wanted in ({1: list(cases(count, 2))} | several).items():
        rows[f"no subject, {subjects} in the prompt"] = row(wanted, replace(plain, strength=0.0))
    for subjects, wanted in several.items():
        for combine in COMBINES:
            rows[f"{subjects} subjects, {combine}"] = row(wanted, replace(plain, combine=combine))
    rows["no query (the whole picture), 2 objects"] = row(of[2], replace(plain, query_by="nothing"))
    for scaling in ("official", "value only"):
        setting = replace(plain, scaling=scaling, own_strength=WEAKER)
        rows[f"subject strength {WEAKER}, {scaling} scaling, 2 objects"] = row(of[2], setting)
    unnamed = list(cases(count, 2, named=False))
    for layers in LAYER_PRESETS:
        setting = replace(plain, layers=layers)
        rows[f"layers: {layers}, 2 objects"] = row(of[2], setting)
        rows[f"layers: {layers}, 2 objects, the prompt tells the background only"] = row(unnamed, setting)
    for name, other in ablations.items():
        for objects in (2, 4):
            rows[f"{name}, {objects} objects"] = row(of[objects], replace(plain, query_by=other.query_by), other.encoder)
    return Tables(
        rows,
        strength={str(strength): row(of[2], replace(plain, strength=strength)) for strength in STRENGTHS},
        shown=[row(list(cases(SHOWN, 4))), row(list(cases(SHOWN, 2, 2)))],
    )
