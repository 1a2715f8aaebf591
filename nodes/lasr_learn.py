"""Learn Subject (LASR): a subject out of a few pictures of it, learned inside the graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..ssr_core.curve import curve
from ..ssr_core.hosts.comfyui.learning_run import CHECKPOINTING, Wanted, learn
from ..ssr_core.methods.lasr.recipe import (
    BATCH,
    LEAST_RATE,
    MOST_BATCH,
    MOST_PHRASES,
    MOST_STEPS,
    PHRASES,
    RATE,
    SEED,
    STEPS,
    Recipe,
)
from ..ssr_core.methods.lasr.texts import AUTO
from ..ssr_core.methods.lasr.views import FITS, MOST_PICTURES
from ..ssr_core.shown import shown
from . import checks, wires
from .compat import RARE, Schema
from .lasr import ALIASES

KINDS = (AUTO, "person", "animal", "object")
LARGEST_SIDE, MOST_SEED = 1024, 2**53 - 1


class LearnSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_LearnSubjectLASR",
            display_name="Learn Subject (LASR)",
            category=wires.LASR_CATEGORY,
            description="Learns a subject from a few pictures of it, so that a placeholder stands for it in prompts. MODEL, CLIP and VAE "
            "stay as they are. If it is interrupted, what was learned is kept, and the same run goes on from there.",
            search_aliases=[*ALIASES, "train", "training", "dreambooth", "fine-tune"],
            is_input_list=True,
            inputs=[
                io.Model.Input("model", tooltip="The SD1.5 model to learn on. LoRAs on it count; other patches do not."),
                io.Clip.Input("clip", tooltip="Its text encoder; CLIP skip and LoRAs hold."),
                io.Vae.Input("vae", tooltip="Its VAE, which encodes the pictures once before the first step."),
                io.Image.Input(
                    "pictures",
                    tooltip="3 to 10 pictures of one subject: a batch, or a list in which every picture may have its own size.",
                ),
                io.String.Input(
                    "words", default="cat", tooltip='What describes the subject, in one to seven words: "tabby cat".'
                ),
                io.String.Input(
                    "weights",
                    default="",
                    tooltip='A number for each word, such as "1 2": what the subject is gets about twice the others. Empty: equal ones.',
                ),
                io.String.Input(
                    "placeholder",
                    default="z",
                    tooltip="The word that stands for the subject in prompts. It must be one token, such as z.",
                ),
                io.Int.Input(
                    "steps",
                    default=STEPS,
                    min=1,
                    max=MOST_STEPS,
                    tooltip="How many steps. The authors make 4000; the learning rate rises and falls over all of them.",
                ),
                io.Int.Input("batch_size", default=BATCH, min=1, max=MOST_BATCH, tooltip="How many pictures a step sees."),
                io.Int.Input(
                    "learning_seed",
                    default=SEED,
                    min=0,
                    max=MOST_SEED,
                    tooltip="Of everything that is drawn by chance. The same seed makes the same steps.",
                ),
                io.Int.Input(
                    "preview_every",
                    default=200,
                    min=0,
                    max=MOST_STEPS,
                    tooltip="After how many steps the subject is drawn and shown on the node, if ComfyUI shows previews. 0: never.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="What belongs to the subject, one for each picture, of its size. Only that is learned.",
                ),
                io.String.Input(
                    "class_word",
                    default="",
                    optional=True,
                    tooltip="What the subject is, in one token, such as cat. Empty: the word of the largest weight.",
                ),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip='A line for each picture, in which the placeholder names the subject: "a photo of a z on a red sofa". What a '
                    "caption tells is not learned. Empty: general captions.",
                ),
                io.Combo.Input(
                    "kind",
                    options=list(KINDS),
                    default=AUTO,
                    optional=True,
                    tooltip="What the subject is, for the scenes that it is learned with. auto: by its class word.",
                    **RARE,
                ),
                io.Combo.Input(
                    "fit",
                    options=list(FITS),
                    default=FITS[0],
                    optional=True,
                    tooltip="How a picture becomes square. crop: its middle; stretch: the whole of it.",
                    **RARE,
                ),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=LARGEST_SIDE,
                    step=64,
                    optional=True,
                    tooltip="Side of the square in pixels. 0: 512, for SSR Mini 128.",
                    **RARE,
                ),
                io.Int.Input(
                    "phrases",
                    default=PHRASES,
                    min=1,
                    max=MOST_PHRASES,
                    optional=True,
                    tooltip="How many scenes each picture of a step is compared in. More keeps the subject easier to place.",
                    **RARE,
                ),
                io.Float.Input(
                    "rate",
                    default=RATE,
                    min=LEAST_RATE,
                    max=1.0,
                    step=1e-5,
                    round=False,
                    optional=True,
                    tooltip="Learning rate for each picture of a batch.",
                    **RARE,
                ),
                io.Combo.Input(
                    "gradient_checkpointing",
                    options=list(CHECKPOINTING),
                    default=CHECKPOINTING[0],
                    optional=True,
                    tooltip="Takes less memory and a third more time. auto: where it would not fit without.",
                    **RARE,
                ),
                io.Boolean.Input(
                    "resume",
                    default=True,
                    optional=True,
                    tooltip="Go on where the same run was interrupted. Off: begin anew.",
                    **RARE,
                ),
            ],
            outputs=[
                wires.Learned.Output(
                    display_name="subject",
                    tooltip="For Prompt with Subject (LASR), Apply Subject (LASR) and Save Subject (LASR).",
                ),
                io.Image.Output(
                    display_name="loss_curve",
                    tooltip="How far the model was from the pictures, step by step. Single steps differ much; the line is their mean.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Sequence[Any],
        clip: Sequence[Any],
        vae: Sequence[Any],
        pictures: Sequence[Tensor],
        words: Sequence[str],
        weights: Sequence[str],
        placeholder: Sequence[str],
        steps: Sequence[int],
        batch_size: Sequence[int],
        learning_seed: Sequence[int],
        preview_every: Sequence[int],
        masks: Sequence[Tensor] = (),
        class_word: Sequence[str] = ("",),
        captions: Sequence[str] = ("",),
        kind: Sequence[str] = (AUTO,),
        fit: Sequence[str] = (FITS[0],),
        size: Sequence[int] = (0,),
        phrases: Sequence[int] = (PHRASES,),
        rate: Sequence[float] = (RATE,),
        gradient_checkpointing: Sequence[str] = (CHECKPOINTING[0],),
        resume: Sequence[bool] = (True,),
    ) -> io.NodeOutput:
        recipe = Recipe(
            checks.text(words[0], "words"),
            _weights(checks.text(weights[0], "weights")),
            checks.text(placeholder[0], "placeholder"),
            checks.text(class_word[0], "class_word"),
            steps[0],
            checks.whole(batch_size[0], "batch_size", 1, MOST_BATCH),
            checks.whole(learning_seed[0], "learning_seed", 0, MOST_SEED),
            phrases[0],
            rate[0],
            kind=checks.choice(kind[0], KINDS, "kind"),
        )
        lines = checks.text(captions[0], "captions") if len(captions) == 1 else "\n".join(captions)
        side = checks.whole(size[0], "size", 0, LARGEST_SIDE)
        if side % 64:
            raise ValueError(f"size is {side}; expected a multiple of 64, such as 512, or 0.")
        wanted = Wanted(
            recipe,
            tuple(line.strip() for line in lines.splitlines() if line.strip()),
            side,
            checks.choice(fit[0], FITS, "fit"),
            checks.whole(preview_every[0], "preview_every", 0, MOST_STEPS),
            checks.choice(gradient_checkpointing[0], CHECKPOINTING, "gradient_checkpointing"),
            bool(resume[0]),
        )
        singles = [picture for batch in pictures for picture in batch]
        learned = learn(model[0], clip[0], vae[0], singles, _masks(masks, singles), wanted)
        numbers = [(step, losses["reconstruction"]) for step, losses in learned.history]
        chart = curve(numbers, f"reconstruction loss, {len(numbers):,} steps")
        image = torch.from_numpy(np.asarray(chart).astype(np.float32) / 255)[None]
        return io.NodeOutput((learned.subject,), image, ui={"text": ["\n".join(learned.report)]})


def _weights(text: str) -> tuple[float, ...]:
    numbers = [part for part in re.split(r"[\s,;]+", text.strip()) if part]
    try:
        return tuple(float(number) for number in numbers)
    except ValueError as error:
        raise ValueError(
            f'weights is "{shown(text, 60)}"; expected a number for each word, such as "1 2", or nothing.'
        ) from error


def _masks(given: Sequence[Tensor], pictures: Sequence[Tensor]) -> list[Tensor | None]:
    """One for each picture, or none at all. Raises ValueError for another number, or another size."""
    found = [mask for batch in given for mask in (batch if batch.ndim == 3 else batch[None])]
    if not found:
        return [None] * len(pictures)
    if len(pictures) > MOST_PICTURES or len(found) != len(pictures):
        raise ValueError(f"There are {len(found)} masks for {len(pictures)} pictures. Connect one for each, or none.")
    for number, (mask, picture) in enumerate(zip(found, pictures, strict=True), start=1):
        if mask.shape != picture.shape[:2]:
            raise ValueError(
                f"The mask of picture {number} is {mask.shape[1]} x {mask.shape[0]}, the picture {picture.shape[1]} x "
                f"{picture.shape[0]}. Give masks of their pictures' sizes."
            )
    return list(found)
