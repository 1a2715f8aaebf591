"""Apply Subject (ELITE)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui.elite import HostElite, apply_subjects
from ..ssr_core.layout import SD15
from ..ssr_core.methods.elite.subject import DEFAULT_LAMBDA, EliteSubjects
from ..ssr_core.schedule import BLOCK_PRESETS
from . import manner, wires
from .compat import Schema
from .elite import ALIASES


class ApplyEliteSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_ApplySubjectELITE",
            display_name="Apply Subject (ELITE)",
            category=wires.ELITE_CATEGORY,
            description="Makes a model read prompts as ELITE does and look at the subject's tokens where it attends to its word. Its "
            "place among other model nodes does not matter.",
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="An SD1.5 model, with or without LoRAs. It is not changed; the output is a copy whose keys and values of the "
                    "text are ELITE's, with every LoRA on top.",
                ),
                wires.Elite.Input("elite", tooltip="The ELITE that made the subject."),
                wires.EliteSubject.Input("subject", tooltip="The subjects that Prompt with Subject (ELITE) gets too."),
                manner.strength(
                    DEFAULT_LAMBDA,
                    "How strongly the details of the picture act (lambda). The authors use 0.6 to 0.8; more keeps more of the picture and "
                    "obeys the prompt less. At 0, outside start, end and region, and in other layers, the word acts alone: it and ELITE's "
                    "way to read the prompt always act.",
                ),
                *manner.schedule(
                    "the subject",
                    BLOCK_PRESETS,
                    "Which layers of the UNet see the subject's details: its input (encoder), middle and output (decoder) blocks.",
                ),
                *manner.places("the subject", len(SD15.layers)),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For KSampler or any other model node.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        elite: HostElite,
        subject: EliteSubjects,
        strength: Any,
        start: float,
        end: float,
        curve: str,
        layers: str,
        region: Any = None,
        layer_strengths: str = "",
        curve_values: str = "",
        frame_strengths: str = "",
    ) -> io.NodeOutput:
        how = manner.manner(
            elite.config.layout, BLOCK_PRESETS, strength, start, end, curve, layers,
            region, layer_strengths, curve_values, frame_strengths,
        )  # fmt: skip
        return io.NodeOutput(apply_subjects(model, elite, subject, how))
