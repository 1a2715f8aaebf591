"""Apply Subject and Apply Subject (Advanced)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui.ssr import HostEncoder, apply_subjects
from ..ssr_core.layout import SD15
from ..ssr_core.merge import COMBINES
from ..ssr_core.methods.ssr.subject import SCALINGS, SubjectSet
from ..ssr_core.schedule import LAYER_PRESETS, Manner
from . import checks, manner, wires
from .compat import RARE, Schema


def _inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="An SD1.5 model. It is not changed; the output is a copy that also sees the subject."),
        wires.Encoder.Input("ssr_encoder", tooltip="The encoder that made the subject."),
        wires.Subject.Input("subject", tooltip="One subject, or several from Combine Subjects."),
        manner.strength(
            0.65,
            "How strongly the picture follows the subject. The authors recommend 0.5 to 0.8; 0 switches it off. A linked "
            "list of numbers gives every frame of an animation its own.",
        ),
    ]


class ApplySubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_ApplySubject",
            display_name="Apply Subject",
            category=wires.SSR_CATEGORY,
            description="Makes a model draw the subject. Its place among other model nodes does not matter.",
            search_aliases=["ssr"],
            inputs=_inputs(),
            outputs=[io.Model.Output(display_name="model", tooltip="For KSampler or any other model node.")],
        )

    @classmethod
    def execute(cls, model: Any, ssr_encoder: HostEncoder, subject: SubjectSet, strength: Any) -> io.NodeOutput:
        return io.NodeOutput(apply_subjects(model, ssr_encoder, subject, Manner(*checks.strengths(strength))))


class ApplySubjectAdvanced(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_ApplySubjectAdvanced",
            display_name="Apply Subject (Advanced)",
            category=wires.SSR_CATEGORY,
            description="Apply Subject with a schedule over steps, layers and places, and with a choice of how several subjects mix.",
            search_aliases=["ssr"],
            inputs=[
                *_inputs(),
                *manner.schedule(
                    "the subject",
                    LAYER_PRESETS,
                    "Which layers of the UNet see the subject. structure: what the subject is, hardly its colours; detail: its "
                    "colours and pattern on what the prompt names. The others name input (encoder), middle and output (decoder) blocks.",
                ),
                io.Combo.Input(
                    "combine",
                    options=list(COMBINES),
                    default=COMBINES[0],
                    tooltip="Several subjects: joint lets them compete for every place (the paper's way), separate adds each one's effect, "
                    "by word shares every place out by how strongly it attends to each subject's words.",
                ),
                io.Combo.Input(
                    "subject_scaling",
                    options=list(SCALINGS),
                    default=SCALINGS[0],
                    tooltip="What a subject's own strength scales: official scales keys and values of the conditional side, value only "
                    "scales values on both sides and is linear.",
                    **RARE,
                ),
                *manner.places("the subject", len(SD15.layers)),
                io.Boolean.Input(
                    "subject_per_picture",
                    default=False,
                    optional=True,
                    tooltip="On: the first picture of the batch has the first subject alone, the second the second and so on; the last "
                    "subject holds for pictures that follow. Off: every picture has all subjects.",
                    **RARE,
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For KSampler or any other model node.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        ssr_encoder: HostEncoder,
        subject: SubjectSet,
        strength: Any,
        start: float,
        end: float,
        curve: str,
        layers: str,
        combine: Any,
        subject_scaling: Any,
        region: Any = None,
        layer_strengths: str = "",
        curve_values: str = "",
        frame_strengths: str = "",
        subject_per_picture: Any = False,
    ) -> io.NodeOutput:
        checks.choice(combine, COMBINES, "combine")
        checks.choice(subject_scaling, SCALINGS, "subject_scaling")
        one_each = checks.switch(subject_per_picture, "subject_per_picture")
        how = manner.manner(
            ssr_encoder.config.layout, LAYER_PRESETS, strength, start, end, curve, layers,
            region, layer_strengths, curve_values, frame_strengths,
        )  # fmt: skip
        return io.NodeOutput(apply_subjects(model, ssr_encoder, subject, how, combine, subject_scaling, one_each))
