"""Combine Subjects, Combine Objects (MIP) and Combine Subjects (LASR)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.methods.lasr import subject as lasr
from ..ssr_core.methods.mip import objects as mip
from ..ssr_core.methods.ssr import subject as ssr
from . import checks, wires
from .compat import Schema
from .lasr import ALIASES

SLOTS = range(1, 5)


def _slots(wire: Any, name: str, set_of: str, own: str, nothing: str) -> list[io.Input]:
    """A set and its strength in every slot. set_of: what an input holds; own: whose strength it multiplies; nothing: what 0 does."""
    return [
        *(wire.Input(f"{name}_{slot}", optional=True, tooltip=f"{set_of}, or a set of them.") for slot in SLOTS),
        *(
            io.Float.Input(
                f"strength_{slot}",
                default=1.0,
                min=0.0,
                max=3.0,
                step=0.05,
                optional=True,
                tooltip=f"Weight of {name}_{slot}, on top of {own} own. 0 {nothing}.",
            )
            for slot in SLOTS
        ),
    ]


def _scaled(held: tuple[Any, ...], strengths: tuple[float, ...], empty: str) -> list[tuple[Any, ...]]:
    """The sets, each times its slot's strength. Raises ValueError, which begins with `empty`, where no slot has any."""
    if not any(held):
        raise ValueError(f"{empty}. Connect one at least.")
    return checks.scaled(list(zip(held, strengths, strict=True)))


class CombineSubjects(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_CombineSubjects",
            display_name="Combine Subjects",
            category=wires.SSR_CATEGORY,
            description="Puts up to four subjects together; chain nodes for more.",
            search_aliases=["ssr"],
            inputs=_slots(wires.Subject, "subject", "One subject", "its", "leaves it out"),
            outputs=[wires.Subject.Output(display_name="subject", tooltip="All of them, in order.")],
        )

    @classmethod
    def execute(
        cls,
        subject_1: ssr.SubjectSet = (),
        subject_2: ssr.SubjectSet = (),
        subject_3: ssr.SubjectSet = (),
        subject_4: ssr.SubjectSet = (),
        strength_1: float = 1.0,
        strength_2: float = 1.0,
        strength_3: float = 1.0,
        strength_4: float = 1.0,
    ) -> io.NodeOutput:
        held, strengths = (subject_1, subject_2, subject_3, subject_4), (strength_1, strength_2, strength_3, strength_4)
        scaled = _scaled(held, strengths, "Combine Subjects got no subject")
        ssr.check_count(sum(map(len, scaled)))
        return io.NodeOutput(ssr.together(*scaled))


class CombineObjects(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_CombineObjectsMIP",
            display_name="Combine Objects (MIP)",
            category=wires.MIP_CATEGORY,
            description="Puts up to four objects together; chain nodes for more.",
            search_aliases=["mip"],
            inputs=_slots(wires.MIPObjects, "objects", "One object", "their", "leaves them out"),
            outputs=[wires.MIPObjects.Output(display_name="objects", tooltip="All of them, in order.")],
        )

    @classmethod
    def execute(
        cls,
        objects_1: mip.ObjectSet = (),
        objects_2: mip.ObjectSet = (),
        objects_3: mip.ObjectSet = (),
        objects_4: mip.ObjectSet = (),
        strength_1: float = 1.0,
        strength_2: float = 1.0,
        strength_3: float = 1.0,
        strength_4: float = 1.0,
    ) -> io.NodeOutput:
        held, strengths = (objects_1, objects_2, objects_3, objects_4), (strength_1, strength_2, strength_3, strength_4)
        scaled = _scaled(held, strengths, "Combine Objects (MIP) got no object")
        mip.check_count(sum(map(len, scaled)))
        return io.NodeOutput(mip.together(*scaled))


class CombineLearned(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_CombineSubjectsLASR",
            display_name="Combine Subjects (LASR)",
            category=wires.LASR_CATEGORY,
            description="Puts up to four learned subjects together; chain nodes for more. Each needs a placeholder of its own.",
            search_aliases=ALIASES,
            inputs=_slots(wires.Learned, "subject", "One subject", "its", "makes its placeholder an ordinary word"),
            outputs=[wires.Learned.Output(display_name="subject", tooltip="All of them, in order.")],
        )

    @classmethod
    def execute(
        cls,
        subject_1: lasr.LasrSubjects = (),
        subject_2: lasr.LasrSubjects = (),
        subject_3: lasr.LasrSubjects = (),
        subject_4: lasr.LasrSubjects = (),
        strength_1: float = 1.0,
        strength_2: float = 1.0,
        strength_3: float = 1.0,
        strength_4: float = 1.0,
    ) -> io.NodeOutput:
        held, strengths = (subject_1, subject_2, subject_3, subject_4), (strength_1, strength_2, strength_3, strength_4)
        scaled = _scaled(held, strengths, "Combine Subjects (LASR) got no subject")
        lasr.check_count(sum(map(len, scaled)))
        return io.NodeOutput(lasr.together(*scaled))
