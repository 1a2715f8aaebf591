"""CLIP_VISION as the methods take it, loaded and released by the host's memory management."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...shown import shown
from ...vision_model import VisionModel, VisionModels
from .managed import loaded


def _described(clip_vision: Any, held: Callable[[], Any]) -> VisionModel:
    tower = getattr(clip_vision.model, "vision_model", None)
    embeddings = getattr(tower, "embeddings", None)
    if embeddings is None or getattr(embeddings, "class_embedding", None) is None:  # SigLIP, DINO
        raise ValueError(
            f"This CLIP_VISION is a {type(clip_vision.model).__name__} without a class token; a CLIP vision model is needed: the "
            "SSR-Encoder needs CLIP ViT-L/14 (openai/clip-vit-large-patch14), an MIP-Adapter CLIP ViT-bigG/14 or ViT-H/14 "
            '(h94/IP-Adapter). Load it in "Load CLIP Vision".'
        )

    def hidden_states(pixels: Tensor) -> tuple[Tensor, ...]:
        host = held()
        states = host.model(pixel_values=pixels.to(loaded(host.patcher)).float(), intermediate_output="all")[1]
        return states.unbind(dim=1)  # of [B, layers, P, C]

    def pooled(pixels: Tensor) -> Tensor:
        host = held()
        return host.model(pixel_values=pixels.to(loaded(host.patcher)).float())[2]

    tokens, width = embeddings.position_embedding.weight.shape
    projection = getattr(clip_vision.model.visual_projection, "weight", None)
    return VisionModel(
        hidden_states,
        int(clip_vision.image_size),
        int(width),
        int(tokens),
        layers=len(clip_vision.model.vision_model.encoder.layers),
        pooled=None if projection is None else pooled,
        embedding_width=0 if projection is None else int(projection.shape[0]),
    )


vision_model = VisionModels(_described)
"""The VisionModel of a CLIP_VISION: the same one, with the pictures that it has seen, at every call."""


def load_vision(path: str) -> Any:
    """A CLIP_VISION, as Load CLIP Vision makes it. Raises ValueError for a file of something else."""
    import comfy.clip_vision

    clip_vision = comfy.clip_vision.load(path)
    if clip_vision is None:
        raise ValueError(
            f"{shown(path)} holds no vision model that ComfyUI knows; expected CLIP ViT-L/14 (openai/clip-vit-large-patch14). Choose "
            "another clip_vision_file."
        )
    return clip_vision
