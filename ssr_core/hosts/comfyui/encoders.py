"""The SSR-Encoder, CLIP and CLIP_VISION as the host runs them: loaded and released by its memory management."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import Tensor

from ... import checkpoints
from ...aligner import Aligned
from ...encode import Encoder, Query, VisionModel, VisionModels
from ...encoder import EncoderConfig, SSREncoder
from ...subject import BranchInput
from ...words import words_of

log = logging.getLogger("ssr_encoder")


@dataclass(frozen=True, eq=False)
class HostEncoder:
    """SSR_ENCODER on the wire: the module under a ModelPatcher. The host finds .patcher when it accounts for memory."""

    module: SSREncoder
    patcher: Any

    @property
    def config(self) -> EncoderConfig:
        return self.module.config

    @property
    def fingerprint(self) -> str:
        return self.module.fingerprint

    def for_encoding(self) -> Encoder:
        return Encoder(self.config, self.fingerprint, self.align)

    def align(self, query: Tensor, features: Tensor, mask: Tensor | None, mask_weight: float) -> Aligned:
        comfy.model_management.load_models_gpu([self.patcher])
        device = self.patcher.load_device
        mask = None if mask is None else mask.to(device)
        return self.module(query.float().to(device), features.float().to(device), mask, mask_weight)

    def keys_values(self, branch: BranchInput, dtype: torch.dtype) -> tuple[tuple[Tensor, Tensor], ...]:
        """K and V of every layer, each [2, N, C] of dtype on the host's intermediate device. Computed in float32."""
        comfy.model_management.load_models_gpu([self.patcher])
        device, keep = self.patcher.load_device, comfy.model_management.intermediate_device()
        tokens, key_scale, value_scale = (tensor.float().to(device) for tensor in branch.rows)
        kept = []
        for layer in self.module.layers:
            key, value = layer(tokens)
            kept.append(((key * key_scale).to(keep, dtype), (value * value_scale).to(keep, dtype)))
        return tuple(kept)


def patcher_class(disable_dynamic: bool = False) -> Any:
    """The host's ModelPatcher. Looked up at call time: hosts with dynamic VRAM swap another class in while they start."""
    plain = comfy.model_patcher.ModelPatcher
    return plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)


def load_encoder(paths: Sequence[str]) -> HostEncoder:
    """Read checkpoint files into a module that the host manages."""
    weights = checkpoints.read([Path(path) for path in paths])
    offload = comfy.model_management.text_encoder_offload_device()
    dtype = next(iter(weights.state.values())).dtype
    module = SSREncoder(weights.config, operations=comfy.ops.manual_cast, device=offload, dtype=dtype)
    module.requires_grad_(False).train(False)
    patcher = patcher_class()(module, load_device=comfy.model_management.get_torch_device(), offload_device=offload)
    dynamic = getattr(patcher, "is_dynamic", lambda: False)()
    module.load_state_dict(weights.state, assign=dynamic)
    module.fingerprint = weights.fingerprint
    return HostEncoder(module, patcher)


def encode_query(clip: Any, text: str, width: int) -> Query:
    """The text encoder's LAST layer, whatever CLIPSetLastLayer did upstream, with every prompt weight at 1.

    Beyond 75 tokens the text is cut, as the official code does, with a warning.
    """
    if clip is None:
        raise ValueError("CLIP is missing: this checkpoint has no text encoder. Load an SD1.5 checkpoint or its CLIP.")
    encoder = clip.clone()
    encoder.clip_layer(None)
    tokens = encoder.tokenize(text)
    if set(tokens) != {"l"}:
        raise ValueError(
            f"This CLIP has the text encoders {', '.join(sorted(tokens))}; the SSR-Encoder needs SD1.5's own CLIP-L alone. "
            "Connect the CLIP of an SD1.5 checkpoint (the MODEL it is applied to must be SD1.5 too)."
        )
    if len(tokens["l"]) > 1:
        log.warning('SSR-Encoder: the query "%s..." is longer than 75 tokens; the rest is ignored.', text[:40])
    first = [(entry[0], 1.0) for entry in tokens["l"][0]]
    embeds = encoder.encode_from_tokens({"l": [first]}).float().cpu()  # [1, T, D]
    if embeds.shape[-1] != width:
        raise ValueError(
            f"This CLIP encodes text with width {embeds.shape[-1]}; the SSR-Encoder needs {width}. Connect SD1.5's CLIP."
        )
    inner = encoder.tokenizer.clip_l
    ids = [token for token, _ in first]
    # Textual inversions sit among the ids as tensors, which must not be compared.
    stop = next((i for i, token in enumerate(ids) if isinstance(token, int) and token == inner.end_token), len(ids))
    pieces = [inner.inv_vocab[token] if isinstance(token, int) else "embedding</w>" for token in ids[:stop]]
    return Query(text, embeds, words_of(pieces))


def _described(clip_vision: Any, held: Callable[[], Any]) -> VisionModel:
    tower = getattr(clip_vision.model, "vision_model", None)
    embeddings = getattr(tower, "embeddings", None)
    if embeddings is None or getattr(embeddings, "class_embedding", None) is None:  # SigLIP, DINO
        raise ValueError(
            f"This CLIP_VISION is a {type(clip_vision.model).__name__} without a class token; the SSR-Encoder needs "
            'CLIP ViT-L/14. Load openai/clip-vit-large-patch14 in "Load CLIP Vision".'
        )

    def hidden_states(pixels: Tensor) -> tuple[Tensor, ...]:
        host = held()
        comfy.model_management.load_models_gpu([host.patcher])
        states = host.model(pixel_values=pixels.to(host.load_device).float(), intermediate_output="all")[1]
        return states.unbind(dim=1)  # of [B, layers, P, C]

    tokens, width = embeddings.position_embedding.weight.shape
    return VisionModel(
        hidden_states,
        int(clip_vision.image_size),
        int(width),
        int(tokens),
        layers=len(clip_vision.model.vision_model.encoder.layers),
    )


vision_model = VisionModels(_described)
"""The host's CLIP_VISION with its memory of pictures."""
