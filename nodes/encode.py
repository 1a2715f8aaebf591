"""Encode Subject."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.crop import parse_crop
from ..ssr_core.hosts.comfyui.clip import vision_model
from ..ssr_core.hosts.comfyui.ssr import HostEncoder, encode_query
from ..ssr_core.hosts.comfyui.view import view
from ..ssr_core.methods.ssr.encode import Selection, encode_subjects
from ..ssr_core.methods.ssr.subject import SubjectSet, check_count, together
from ..ssr_core.points import parse_points
from ..ssr_core.vision import FITS, as_pictures, check_images
from . import checks, inputs, wires
from .compat import RARE, Schema


class EncodeSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_EncodeSubject",
            display_name="Encode Subject",
            category=wires.SSR_CATEGORY,
            description="Takes out of a reference picture only what a query selects: words, a mask, or both.",
            search_aliases=["ssr", *inputs.SEARCHED],
            is_output_node=True,  # so that it can run alone and show what the query selects, before anything is sampled
            inputs=[
                wires.Encoder.Input("ssr_encoder", tooltip="From Load SSR Models or Load SSR-Encoder."),
                io.Clip.Input(
                    "clip",
                    tooltip="The CLIP of an SD1.5 checkpoint. Its last layer is used, whatever CLIP Set Last Layer says.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="CLIP ViT-L/14 (openai/clip-vit-large-patch14) from Load SSR Models or Load CLIP Vision.",
                ),
                io.Image.Input("image", tooltip="The reference. A batch makes one subject of each picture."),
                io.String.Input(
                    "query",
                    default="",
                    multiline=False,
                    tooltip='What to take, in a word or two ("dog", "red jacket"). With a mask, a short caption of the whole picture '
                    "works best; it may then be empty. Prompt weights are ignored.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="What to take, painted: white is taken. It covers the whole reference and is resized to it.",
                ),
                io.Float.Input(
                    "mask_weight",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    optional=True,
                    tooltip="How strictly the mask rules. 1 is the official script's, 5 admits nothing outside; 0 does not switch it off.",
                    **RARE,
                ),
                io.String.Input(
                    "null_query",
                    default="",
                    optional=True,
                    tooltip="The query of the unconditional side. Empty is the official setting.",
                    **RARE,
                ),
                inputs.fit(
                    "How a reference that is not square meets the encoder's square: center crop loses the ends of the long side "
                    "(official), pad and stretch keep everything."
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    optional=True,
                    tooltip="This subject's weight among several. Leave it at 1 for a single subject and use Apply Subject's strength.",
                    **RARE,
                ),
                io.String.Input(
                    "points",
                    default="",
                    optional=True,
                    tooltip="Places in the reference that were clicked; what belongs to them joins the mask. Click on the picture "
                    'below, or write pixels: "120, 80; 140, 95".',
                ),
                wires.Subject.Input(
                    "previous", optional=True, tooltip="Subjects from another Encode Subject; this one is added after them."
                ),
                inputs.crop(),
            ],
            outputs=[
                wires.Subject.Output(
                    display_name="subject", tooltip="For Apply Subject, Combine Subjects, Save Subject and the map."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        ssr_encoder: HostEncoder,
        clip: Any,
        clip_vision: Any,
        image: Any,
        query: str,
        mask: Any = None,
        mask_weight: float = 1.0,
        null_query: str = "",
        fit: Any = FITS[0],
        strength: float = 1.0,
        points: str = "",
        previous: SubjectSet = (),
        crop: str = "",
    ) -> io.NodeOutput:
        checks.choice(fit, FITS, "fit")
        for what, text in (("query", query), ("null_query", null_query)):
            checks.text(text, what)
        strength = checks.strength(strength)
        clicked, framed = parse_points(points), parse_crop(crop)
        if not query.strip() and mask is None and not clicked:
            raise ValueError(
                'The query is empty and there is no mask, so nothing says what to take. Write a word such as "dog", connect a mask, or '
                "click on the picture."
            )
        width = ssr_encoder.config.text_width
        check_images(image)
        check_count(len(previous or ()) + len(image), "subjects")
        pictures = as_pictures(image)
        subjects = encode_subjects(
            ssr_encoder.for_encoding(),
            vision_model(clip_vision),
            pictures,
            Selection(
                encode_query(clip, query, width), encode_query(clip, null_query, width), mask, mask_weight, clicked, fit, framed
            ),
            strength,
        )
        if len(pictures) < len(subjects):
            pictures *= len(subjects)  # several masks of one picture
        return io.NodeOutput(together(previous or (), subjects), ui=view(subjects, pictures))
