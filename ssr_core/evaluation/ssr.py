"""The SSR-Encoder as a method that can be measured, and its tables: number of objects, kind of query, combining, scaling, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image
from torch import Tensor

from ..hosts.diffusers import generate, ssr
from ..hosts.diffusers.base import Base, fingerprint
from ..merge import COMBINES, Combine
from ..methods.ssr.encoder import SSREncoder
from ..methods.ssr.subject import SCALINGS, Scaling, Subject
from ..schedule import LAYER_PRESETS, Manner, layer_strengths
from ..sheet import heat_picture
from .drawer import Reference, Sampling
from .drawn import Curve, Measured, Tables
from .rows import PICTURES, CaseSet, Row, slug
from .selectivity import QueryBy, Setting

COLUMNS = ("look", "look_strict", "colours", "pattern", "prompt", "background", "classes", "map_mass")
QUERIES: tuple[tuple[str, QueryBy, str], ...] = (
    ("text", "text", "text query"),
    ("mask", "mask", "mask query"),
    ("both", "both", "text and mask"),
    ("click", "click", "one click"),
)
STRENGTH = "strength"
"""The table that the curve is drawn of."""
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


def rows(ablations: Mapping[str, QueryBy]) -> dict[str, Row]:
    """Every row by its short name. ablations: encoders that were trained otherwise, and how each is to be queried."""
    plain = SSRSetting()
    found: dict[str, Row] = {}

    def add(short: str, table: str, title: str, of: CaseSet, setting: SSRSetting = plain, weights: str = "") -> None:
        found[short] = Row(table, title, of, setting, weights)

    two = CaseSet(2)
    for objects in (2, 3, 4):
        for short, query_by, told in QUERIES:
            setting = replace(plain, query_by=query_by)
            add(f"{short}-{objects}", "queries", f"{told}, {objects} objects", CaseSet(objects), setting)
    setting = replace(plain, query_by="nothing")
    add("whole-2", "queries", "no query (the whole picture), 2 objects", two, setting)
    for subjects in (1, 2, 3):
        of = CaseSet(2, subjects)
        add(f"no-subject-{subjects}", "baseline", f"no subject, {subjects} in the prompt", of, replace(plain, strength=0.0))
    for subjects in (2, 3):
        for combine in COMBINES:
            of, setting = CaseSet(2, subjects), replace(plain, combine=combine)
            add(f"{slug(combine)}-{subjects}", "subjects", f"{subjects} subjects, {combine}", of, setting)
    for scaling in SCALINGS:
        setting = replace(plain, scaling=scaling, own_strength=WEAKER)
        title = f"subject strength {WEAKER}, {scaling} scaling, 2 objects"
        add(f"scaling-{slug(scaling)}", "scaling", title, two, setting)
    for layers in LAYER_PRESETS:
        setting, short = replace(plain, layers=layers), f"layers-{slug(layers.replace(',', ''))}"
        title = f"layers: {layers}, 2 objects"
        add(short, "layers", title, two, setting)
        add(f"{short}-unnamed", "layers", f"{title}, the prompt tells the background only", CaseSet(2, named=False), setting)
    for name, query_by in ablations.items():
        for objects in (2, 4):
            setting, short = replace(plain, query_by=query_by), f"ablation-{slug(name)}-{objects}"
            add(short, "ablations", f"{name}, {objects} objects", CaseSet(objects), setting, name)
    for strength in STRENGTHS:
        add(f"strength-{strength:g}", STRENGTH, str(strength), two, replace(plain, strength=strength))
    add("pictures-4", PICTURES, "References of four objects", CaseSet(4, count=SHOWN))
    add("pictures-two-subjects", PICTURES, "Two subjects", CaseSet(2, 2, count=SHOWN))
    return found


def tables(base: Base, encoders: Mapping[str, SSREncoder], described: Mapping[str, Row]) -> Tables:
    """encoders: by the name of a row's weights; described: what rows() says."""
    drawers: dict[tuple[SSRSetting, str], SSRDrawer] = {}

    def drawer(row: Row) -> SSRDrawer:
        setting = row.setting
        if not isinstance(setting, SSRSetting):
            raise TypeError(setting)
        key = (setting, row.weights)
        if key not in drawers:
            drawers[key] = setting.drawer(base, encoders[row.weights])
        return drawers[key]

    columns = {row.table: COLUMNS for row in described.values()}
    return Tables("ssr", described, drawer, columns, (Curve("strength.svg", "Strength", "strength", _by_strength),))


def _by_strength(found: Mapping[str, Mapping[str, Measured]]) -> dict[str, list[tuple[float, float]]]:
    rows = found.get(STRENGTH, {})
    return {
        label: [(float(strength), row[column]) for strength, row in rows.items()]
        for label, column in (("look (of what was drawn)", "look"), ("prompt obeyed", "prompt"))
        if rows
    }
