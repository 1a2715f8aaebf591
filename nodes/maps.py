"""Subject Attention Map."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.maps import attention_map
from ..ssr_core.methods.ssr.subject import MOST_SUBJECTS, SubjectSet, pick
from ..ssr_core.vision import check_images
from . import checks, inputs, wires
from .compat import Schema


class SubjectAttentionMap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_SubjectAttentionMap",
            display_name="Subject Attention Map",
            category=wires.SSR_CATEGORY,
            description="Shows where in the reference the query looks. Costs nothing: the map was made while encoding.",
            search_aliases=["ssr", "heat map"],
            inputs=[
                wires.Subject.Input("subject", tooltip="From Encode Subject, Combine Subjects or Load Subject."),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The reference that was encoded. Without it the map is shown on the square that the encoder saw.",
                ),
                io.String.Input(
                    "word", default="", optional=True, tooltip="One word of the query; empty shows the whole query."
                ),
                inputs.opacity(),
                inputs.index("Which subject of a set to show, counted from 1."),
            ],
            outputs=[
                io.Image.Output(display_name="overlay", tooltip="The map over the reference."),
                io.Mask.Output(display_name="map", tooltip="The map itself, 0 to 1. Feeds any node that takes a MASK."),
            ],
        )

    @classmethod
    def execute(
        cls, subject: SubjectSet, image: Any = None, word: str = "", opacity: float = 0.6, index: int = 1
    ) -> io.NodeOutput:
        opacity = checks.number(opacity, "opacity", 0, 1)
        if image is not None:
            check_images(image, "image")
        number, chosen = pick(subject, checks.whole(index, "index", 1, MOST_SUBJECTS))
        picture = None if image is None else image[min(number, len(image) - 1)]
        return io.NodeOutput(*attention_map(chosen.map(checks.text(word, "word")), picture, opacity))
