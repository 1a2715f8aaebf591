"""Load SSR Models: the encoder and the vision model that looks at references, in one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ..ssr_core.hosts.comfyui import finding, folders
from ..ssr_core.hosts.comfyui.clip import load_vision
from ..ssr_core.hosts.comfyui.finding import AUTO
from ..ssr_core.hosts.comfyui.ssr import load_encoder
from ..ssr_core.shown import shown
from . import checks, wires
from .compat import Schema

ENCODER, LAYERS, VISION = (finding.published(part) for part in ("aligner", "layers", "clip_vision"))


class LoadModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = folders.files()
        return Schema(
            node_id="SSR_LoadModels",
            display_name="Load SSR Models",
            category=wires.SSR_CATEGORY,
            description="Loads what the SSR-Encoder needs besides a checkpoint: the encoder and its CLIP vision model. Missing files are "
            "named by ComfyUI when the node is opened.",
            search_aliases=["ssr", "subject encoder", "selective subject", "clip vision", "loader"],
            inputs=[
                # Preset to names that may not be listed: the frontend's dialog of missing models is made from such values.
                io.Combo.Input(
                    "encoder_file",
                    options=[AUTO, *files],
                    default=ENCODER,
                    tooltip="The SSR-Encoder, or the aligner of a pair. auto: found in all model folders, by its name or by its tensors.",
                ),
                io.Combo.Input(
                    "layers_file",
                    options=[AUTO, *files],
                    default=LAYERS,
                    tooltip="The second file of a pair. auto: found by itself, and none for an encoder in one file.",
                ),
                io.Combo.Input(
                    "clip_vision_file",
                    options=[AUTO, *folders.vision_files()],
                    default=VISION,
                    tooltip="CLIP ViT-L/14 (openai/clip-vit-large-patch14). auto: found in all model folders, by its name or by its "
                    "tensors.",
                ),
            ],
            outputs=[
                wires.Encoder.Output(display_name="ssr_encoder", tooltip="For Encode Subject and Apply Subject."),
                io.ClipVision.Output(display_name="clip_vision", tooltip="For Encode Subject and Select by Points."),
            ],
        )

    @classmethod
    def validate_inputs(cls, encoder_file: Any = None, layers_file: Any = None, clip_vision_file: Any = None) -> bool | str:
        """Files are looked for before anything runs, and the answer says more than that a value is not in a list."""
        if None in (encoder_file, layers_file, clip_vision_file):  # linked: known when the node runs
            return True
        looked_for: tuple[Callable[[], Any], ...] = (
            lambda: finding.encoder_files() if encoder_file == AUTO else folders.path_of(encoder_file),
            lambda: _paths(encoder_file, layers_file),
            lambda: _vision(clip_vision_file),
        )
        return checks.found(*looked_for)

    @classmethod
    def execute(cls, encoder_file: str, layers_file: str, clip_vision_file: str) -> io.NodeOutput:
        paths, vision = _paths(encoder_file, layers_file), _vision(clip_vision_file)
        loaded = load_encoder(paths), load_vision(vision)
        return io.NodeOutput(*loaded, ui={"text": [f"Loaded {shown(path)}" for path in (*paths, vision)]})

    @classmethod
    def fingerprint_inputs(cls, encoder_file: Any = None, layers_file: Any = None, clip_vision_file: Any = None) -> Any:
        if None in (encoder_file, layers_file, clip_vision_file):
            return None
        try:
            return [folders.stamp_of(path) for path in (*_paths(encoder_file, layers_file), _vision(clip_vision_file))]
        except (ValueError, OSError) as error:
            return str(error)


def _paths(encoder_file: str, layers_file: str) -> list[str]:
    """The encoder's files: one, or the two halves of a pair."""
    named = None if layers_file == AUTO else folders.path_of(layers_file)
    if encoder_file == AUTO:
        found = finding.encoder_files()
        return found if named is None else [found[0], named]
    first = folders.path_of(encoder_file)
    second = finding.layers_beside(first) if named is None else named
    return [first] if second is None else [first, second]


def _vision(clip_vision_file: str) -> str:
    return finding.vision_file() if clip_vision_file == AUTO else folders.vision_path(clip_vision_file)
