"""SSR Mini in diffusers' and transformers' classes: shapes and loading."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ...mini import files
from ...mini.vocabulary import CLIP_VOCABULARY, END, LENGTH, START, ids, tokenizer
from .base import Base

TEXT: dict[str, Any] = {
    **files.TEXT_CONFIG,
    "vocab_size": CLIP_VOCABULARY,
    "max_position_embeddings": LENGTH,
    "bos_token_id": START,
    "eos_token_id": END,
    "pad_token_id": END,
}


def autoencoder() -> Any:
    """diffusers' AutoencoderTiny in TAESD's layout: 128 x 128 pictures, [4, 16, 16] latents of unit variance."""
    return AutoencoderTiny(scaling_factor=1.0)


def text_tower() -> CLIPTextModelWithProjection:
    """The text encoder with its projection, for training and scores."""
    return CLIPTextModelWithProjection(CLIPTextConfig(**TEXT))


def clip() -> CLIPModel:
    """CLIP with both towers, for training and scores."""
    return CLIPModel(
        CLIPConfig(text_config=TEXT, vision_config=json.loads(files.VISION_CONFIG.read_text()), projection_dim=files.WIDTH)
    )


def unet() -> Any:
    """Stable Diffusion 1.x's blocks, small: three levels, cross-attention on the upper two and in the middle."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=files.CHANNELS,
        layers_per_block=files.LAYERS_PER_BLOCK,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=files.WIDTH,
        attention_head_dim=files.HEADS,
    )


def noise_schedule() -> Any:
    """Stable Diffusion 1.x's, whose samplers step evenly from the noisiest timestep to the first."""
    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        steps_offset=1,
        timestep_spacing="linspace",
    )


def load(folder: Path = files.FOLDER, dtype: torch.dtype = torch.float32, untrained: Collection[str] = ()) -> Base:
    """Mini's base from its files. untrained: files that are yet to be made, whose models stay as initialised."""
    states = {
        name: load_file(files.find(folder, name))
        for name in (files.AUTOENCODER, files.TEXT_ENCODER, files.VISION_ENCODER, files.UNET)
        if name not in untrained
    }
    base = Base(
        unet=unet(),
        vae=autoencoder(),
        text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT)),
        tokenizer=tokenizer(),
        vision_encoder=CLIPVisionModelWithProjection(CLIPVisionConfig.from_json_file(files.VISION_CONFIG)),
        noise_schedule=noise_schedule(),
    )
    models = {
        files.AUTOENCODER: base.vae,
        files.TEXT_ENCODER: base.text_encoder,
        files.VISION_ENCODER: base.vision_encoder,
        files.UNET: base.unet,
    }
    for name, model in models.items():
        if (state := states.get(name)) is not None:
            if name == files.TEXT_ENCODER:
                state = text_state(state)
                del state[files.TEXT_PROJECTION]  # for scores only
            _fill(model, state)
        model.requires_grad_(False).train(False)
        if dtype != torch.float32:
            model.to(dtype)
    return base


def text_state(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder's weights with CLIP's whole vocabulary; words that this world does not have are zero."""
    rows = stored[files.EMBEDDING_ROWS]
    whole = rows.new_zeros(CLIP_VOCABULARY, rows.shape[1]).index_copy_(0, torch.tensor(ids(len(rows))), rows)
    return {name: value for name, value in stored.items() if name != files.EMBEDDING_ROWS} | {files.EMBEDDING: whole}


def _fill(model: Any, state: dict[str, Tensor]) -> None:
    own = model.state_dict()
    # transformers 5 dropped the text model's own prefix; the files keep the name that every host knows.
    named = {name if name in own else name.removeprefix("text_model."): value.float() for name, value in state.items()}
    model.load_state_dict(named)
