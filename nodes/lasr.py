"""Nodes of LASR, subjects learned from a few pictures: Load, Prompt with, Apply and Save Subject (LASR)."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui import folders, learning_run
from ..ssr_core.hosts.comfyui.lasr import apply_subjects, encode_prompt, placeholder_token
from ..ssr_core.layout import SD15
from ..ssr_core.methods.lasr import formats, subject_file
from ..ssr_core.methods.lasr.contexts import ALPHA, checked_alpha
from ..ssr_core.methods.lasr.subject import LasrSubject, LasrSubjects, together
from ..ssr_core.schedule import LAYER_PRESETS
from ..ssr_core.shown import shown
from . import checks, manner, saved, wires
from .compat import RARE, Schema

ALIASES = ["lasr", "adaface", "textual inversion", "embedding"]
MOST_STEPS = 100
"""That adaptive contexts are kept for."""


class LoadLearned(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_LoadSubjectLASR",
            display_name="Load Subject (LASR)",
            category=wires.LASR_CATEGORY,
            description="Reads a subject that was learned from a few pictures: a file of this pack, or embeddings of the authors' code.",
            search_aliases=ALIASES,
            is_output_node=True,  # so that it can run alone and show what is in the file
            inputs=[
                io.Combo.Input(
                    "subject_file",
                    options=folders.learned_files(),
                    tooltip="Files in output/ssr_lasr, input/ssr_lasr and models/ssr_lasr. Press R after adding one. Those in ssr_mini/ "
                    "come with the pack, for SSR Mini.",
                ),
                io.String.Input(
                    "placeholder",
                    default="",
                    optional=True,
                    tooltip="The word that stands for the subject in prompts. It must be one token, such as z. Empty: the one in the file. "
                    "A file with several subjects takes several, separated by commas.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    optional=True,
                    tooltip="What multiplies the subject's vectors. 1 is as learned; 0 makes the placeholder an ordinary word.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Only for a new placeholder with a text encoder whose tokens are not SD1.5's, such as SSR Mini's.",
                ),
            ],
            outputs=[
                wires.Learned.Output(display_name="subject", tooltip="For Prompt with Subject (LASR) and Apply Subject (LASR).")
            ],
        )

    @classmethod
    def execute(cls, subject_file: str, placeholder: str = "", strength: float = 1.0, clip: Any = None) -> io.NodeOutput:
        factor, names = checks.strength(strength), _placeholders(checks.text(placeholder, "placeholder"))
        path = folders.learned_path(subject_file)
        loaded = formats.load(path)
        if names and len(names) != len(loaded):
            raise ValueError(
                f"placeholder names {len(names)}, and {shown(subject_file)} has {len(loaded)} subjects. Give as many, separated by commas, "
                "or leave it empty."
            )
        renamed = tuple(
            one.renamed(name, placeholder_token(clip, name)) for one, name in zip(loaded, names or (), strict=bool(names))
        )
        subjects = together(tuple(one.scaled(factor) for one in renamed or loaded))
        lines = [_described(number, one) for number, one in enumerate(subjects, start=1)]
        return io.NodeOutput(subjects, ui=saved.described(folders.LEARNED, subject_file, path, lines, {}))

    @classmethod
    def fingerprint_inputs(cls, subject_file: str = "", **others: Any) -> Any:
        return folders.learned_stamp(subject_file)


def _placeholders(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")] if text.strip() else []


def _described(number: int, one: LasrSubject) -> str:
    learned = ", ".join(f"{shown(word, 40)} {weight:g}" for word, weight in one.learning.words) or "words not kept"
    base = shown(one.base.name, 60) or "a model that is not named"
    return (
        f'{number}. "{shown(one.placeholder, 40)}" (token {one.token}), strength {one.strength:g}, learned for alpha {one.alpha:g}\n'
        f"   from {learned}, {one.learning.step:,} steps, on {base}"
    )


class PromptWithLearned(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_PromptWithSubjectLASR",
            display_name="Prompt with Subject (LASR)",
            category=wires.LASR_CATEGORY,
            description="A prompt in which placeholders stand for learned subjects, encoded for every layer. The model needs Apply Subject "
            "(LASR) with the same subjects and CLIP. Prompts without a placeholder come from CLIP Text Encode.",
            search_aliases=[*ALIASES, "clip text encode"],
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="SD1.5's text encoder; CLIP skip and LoRAs hold. Connect the same to Apply Subject (LASR)."
                ),
                wires.Learned.Input("subject", tooltip="One learned subject, or several from Combine Subjects (LASR)."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip='The prompt, with the placeholder where the subject belongs: "a photo of a z on a beach". Prompt weights such '
                    "as (z:1.2) hold.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="For a sampler, or Conditioning Combine, areas, masks, timestep ranges and ControlNets on the way to it.",
                )
            ],
        )

    @classmethod
    def execute(cls, clip: Any, subject: LasrSubjects, text: str) -> io.NodeOutput:
        return io.NodeOutput(encode_prompt(clip, subject, checks.text(text, "text")))


class ApplyLearned(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_ApplySubjectLASR",
            display_name="Apply Subject (LASR)",
            category=wires.LASR_CATEGORY,
            description="Lets a model draw learned subjects where prompts from Prompt with Subject (LASR) name them. Its place among other "
            "model nodes does not matter.",
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input(
                    "model", tooltip="An SD1.5 model. It is not changed; the output is a copy that also knows the subject."
                ),
                io.Clip.Input(
                    "clip", tooltip="The CLIP that is connected to Prompt with Subject (LASR); it also runs while sampling."
                ),
                wires.Learned.Input(
                    "subject", tooltip="The subjects that are connected to Prompt with Subject (LASR), or more."
                ),
                io.Float.Input(
                    "alpha",
                    default=ALPHA,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of the contexts that are made from the picture in the making; the rest is the same at every step. 0 is "
                    "faster, as CLIP does not run while sampling.",
                ),
                *manner.schedule(
                    "the adaptive part",
                    LAYER_PRESETS,
                    "Which layers use the adaptive part; the subject's static part acts in all of them. structure and detail are the "
                    "decoder's coarser and finest layers; the others name input (encoder), middle and output (decoder) blocks.",
                    "alpha",
                ),
                io.Int.Input(
                    "reuse_steps",
                    default=1,
                    min=1,
                    max=MOST_STEPS,
                    optional=True,
                    tooltip="For how many steps adaptive contexts are kept before they are made anew. 1 is exact; more is faster.",
                    **RARE,
                ),
                *manner.places("the subject", len(SD15.layers))[1:3],
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For KSampler or any other model node.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        subject: LasrSubjects,
        alpha: float,
        start: float,
        end: float,
        curve: str,
        layers: str,
        reuse_steps: int = 1,
        layer_strengths: str = "",
        curve_values: str = "",
    ) -> io.NodeOutput:
        how = manner.manner(
            subject[0].shapes.layout, LAYER_PRESETS, checked_alpha(alpha), start, end, curve, layers,
            layer_strengths_text=layer_strengths, curve_values=curve_values,
        )  # fmt: skip
        reuse = checks.whole(reuse_steps, "reuse_steps", 1, MOST_STEPS)
        return io.NodeOutput(apply_subjects(model, clip, subject, how, reuse))


class SaveLearned(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_SaveSubjectLASR",
            display_name="Save Subject (LASR)",
            category=wires.LASR_CATEGORY,
            description="Writes a learned subject to a file in output/ssr_lasr, to use it again or to share it. Several become "
            "a file each.",
            search_aliases=ALIASES,
            is_output_node=True,
            inputs=[
                wires.Learned.Input("subject", tooltip="One learned subject, or several from Combine Subjects (LASR)."),
                io.String.Input(
                    "filename_prefix", default="subject", tooltip="Name of the file; a number is added. May hold a folder."
                ),
            ],
            outputs=[wires.Learned.Output(display_name="subject", tooltip="The same subject, passed on.")],
        )

    @classmethod
    def execute(cls, subject: LasrSubjects, filename_prefix: str) -> io.NodeOutput:
        writes = (partial(subject_file.save, one, new=True) for one in subject)
        written = saved.write_new(folders.LEARNED, filename_prefix, *writes)
        learning_run.forget(subject)
        return io.NodeOutput(subject, ui=written)
