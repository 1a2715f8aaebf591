"""SSR Mini's files and shapes, for every host that builds it."""

from __future__ import annotations

from pathlib import Path

MINI = "mini"
"""What a command or a configuration calls the built-in models, where others have a folder."""
FOLDER = Path(__file__).with_name("weights")
AUTOENCODER = "autoencoder.safetensors"
TEXT_ENCODER = "text_encoder.safetensors"
VISION_ENCODER = "vision_encoder.safetensors"
UNET = "unet.safetensors"
ENCODER = "ssr_encoder.safetensors"
MIP_ADAPTER = "mip_adapter.safetensors"
ELITE = ("elite_global.safetensors", "elite_local.safetensors")

EMBEDDING = "text_model.embeddings.token_embedding.weight"
EMBEDDING_ROWS = "text_model.embeddings.token_embedding.rows"
"""Under this name the file holds only the rows of vocabulary.ids(), in that order."""
TEXT_PROJECTION = "text_projection.weight"

WIDTH = 128
"""Width of text tokens, of patches, and of the space that both are projected to."""
HEADS = 2
"""Attention heads of every model."""
TEXT_CONFIG = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": HEADS,
    "projection_dim": WIDTH,
    "hidden_act": "quick_gelu",
}
VISION_CONFIG = Path(__file__).with_name("clip_vision_config.json")
"""transformers' format, which ComfyUI reads too: 16 x 16 patches, six layers."""
CHANNELS = (96, 96, 96)
"""Width of the UNet's levels; the first two have cross-attention, the middle too."""
LAYERS_PER_BLOCK = 1


def learned(folder: Path = FOLDER) -> list[Path]:
    """Files of subjects that LASR learned on Mini, by name."""
    return sorted(folder.glob("lasr_*.safetensors"))


def find(folder: Path, name: str) -> Path:
    """A file of Mini's. Raises FileNotFoundError that says what to do."""
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(
            f"SSR Mini's file {name} is missing from {folder}. Install the pack again; the file comes with it."
        )
    return path


def brought(*names: str) -> list[Path]:
    """Files that come with the pack, as find gives them."""
    return [find(FOLDER, name) for name in names]
