"""Load SSR-Encoder."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui import folders
from ..ssr_core.hosts.comfyui.ssr import load_encoder
from . import wires
from .compat import RARE, Schema

SAME_FILE = "(in the same file)"


class LoadEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = folders.files()
        return Schema(
            node_id="SSR_LoadEncoder",
            display_name="Load SSR-Encoder",
            category=wires.SSR_CATEGORY,
            description="Loads an SSR-Encoder: one converted file, or the two files of the official release.",
            search_aliases=["ssr", "subject encoder", "selective subject"],
            inputs=[
                io.Combo.Input(
                    "encoder_file",
                    options=files,
                    tooltip="A converted SSR-Encoder, or the aligner of a pair (pytorch_model.bin, ssr_aligner.safetensors). "
                    "Looked for in models/ssr_encoder.",
                ),
                io.Combo.Input(
                    "layers_file",
                    options=[SAME_FILE, *files],
                    default=SAME_FILE,
                    optional=True,
                    tooltip="The second file of a pair (pytorch_model_1.bin, ssr_layers.safetensors). A converted file needs none, and a "
                    "published pair finds it by itself.",
                    **RARE,
                ),
            ],
            outputs=[wires.Encoder.Output(display_name="ssr_encoder", tooltip="For Encode Subject and Apply Subject.")],
        )

    @classmethod
    def execute(cls, encoder_file: str, layers_file: str = SAME_FILE) -> io.NodeOutput:
        return io.NodeOutput(load_encoder([folders.path_of(name) for name in _files(encoder_file, layers_file)]))

    @classmethod
    def fingerprint_inputs(cls, encoder_file: str | None = None, layers_file: str | None = SAME_FILE) -> Any:
        return [folders.stamp(folders.FOLDER, name) for name in _files(encoder_file, layers_file)]


def _files(encoder_file: str | None, layers_file: str | None) -> list[Any]:
    """The files to read. One half of a published pair is read with the other half beside it."""
    second = folders.partner_of(encoder_file) if layers_file == SAME_FILE else layers_file
    return [encoder_file] if second is None else [encoder_file, second]
