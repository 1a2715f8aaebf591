"""Load SSR Mini and Mini Scene: the built-in tiny models, and pictures of the drawn world to try them on."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui import mini
from ..ssr_core.mini.backgrounds import BACKGROUNDS
from . import checks, wires
from .compat import Schema
from .pictured import pictured

ANY = "any"
MOST_PICTURES = 8


class LoadMini(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_LoadMini",
            display_name="Load SSR Mini",
            category=wires.EXAMPLES_CATEGORY,
            description="Loads the built-in tiny models: a small Stable Diffusion that has learned a drawn world, with an SSR-Encoder, an "
            "MIP-Adapter and ELITE. For trying graphs in seconds; real pictures need the real models.",
            search_aliases=["ssr mini", "demo", "tiny model", "example"],
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="For the Apply nodes and KSampler. Draws 128 x 128 pictures."),
                io.Clip.Output(
                    display_name="clip",
                    tooltip="For CLIP Text Encode, and the Encode and Prompt nodes. Knows the drawn world's words.",
                ),
                io.Vae.Output(display_name="vae", tooltip="For VAE Decode and VAE Encode."),
                io.ClipVision.Output(display_name="clip_vision", tooltip="For the Encode nodes: one tower for all methods."),
                wires.Encoder.Output(display_name="ssr_encoder", tooltip="For Encode Subject and Apply Subject."),
                wires.MIPAdapter.Output(display_name="mip_adapter", tooltip="For Encode Object (MIP) and Apply Objects (MIP)."),
                wires.Elite.Output(display_name="elite", tooltip="For Encode Subject (ELITE) and Apply Subject (ELITE)."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*mini.load())


class MiniScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_MiniScene",
            display_name="Mini Scene",
            category=wires.EXAMPLES_CATEGORY,
            description="Draws a scene of the world that SSR Mini knows, with objects it has never seen in these colours: "
            "a reference to query, and a mask of one of its objects.",
            search_aliases=["ssr mini", "example reference", "drawn scene"],
            is_output_node=True,  # so that it can run alone and show the scene
            inputs=[
                io.Int.Input("scene", default=0, min=0, max=1_000_000, tooltip="Another number, another scene."),
                io.Int.Input("objects", default=2, min=1, max=4, tooltip="How many objects the scene shows."),
                io.Combo.Input("background", options=[ANY, *BACKGROUNDS], default=ANY, tooltip="Where the objects are."),
                io.Int.Input("marked", default=1, min=1, max=4, tooltip="Which object the mask marks, in the caption's order."),
                io.Int.Input(
                    "pictures",
                    default=1,
                    min=1,
                    max=MOST_PICTURES,
                    optional=True,
                    tooltip="More than one: a batch, whose further pictures show the marked object alone in other places. For Learn "
                    "Subject (LASR).",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="128 x 128 pixels, for an Encode node or Learn Subject (LASR)."),
                io.Mask.Output(display_name="mask", tooltip="Of the marked object, for an Encode node's mask."),
                io.String.Output(display_name="kind", tooltip="The marked object's word: a query, a name or a class."),
                io.String.Output(display_name="caption", tooltip="Everything in the scene, with its colours and patterns."),
            ],
        )

    @classmethod
    def execute(
        cls, scene: int = 0, objects: int = 2, background: str = ANY, marked: int = 1, pictures: int = 1
    ) -> io.NodeOutput:
        checks.choice(background, (ANY, *BACKGROUNDS), "background")
        scene = checks.whole(scene, "scene", 0, 1_000_000)
        objects, marked = checks.whole(objects, "objects", 1, 4), checks.whole(marked, "marked", 1, 4)
        pictures = checks.whole(pictures, "pictures", 1, MOST_PICTURES)
        drawn: Any = mini.scene(scene, objects, None if background == ANY else background, marked, pictures)
        image, *_, caption = drawn
        return io.NodeOutput(*drawn, ui=pictured(cls, image, caption))
