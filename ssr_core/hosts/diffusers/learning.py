"""A diffusers base as learning asks for models (methods/lasr/recipe.py): what it encodes, and the noise that its UNet finds with a context
of its own for every layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...methods.lasr.recipe import Context
from ...methods.lasr.views import Views, squared, views_of
from ...mini.files import MINI
from .base import Base
from .context import Entering, contexts_attached
from .lasr import encoding, token_table

MOST_LETTERS = 200
"""Of a base's name in a file."""


class BaseModels:
    """A Stable Diffusion 1.x base for the length of a run. It is not changed."""

    def __init__(self, base: Base, name: str, device: torch.device, checkpointing: bool = False) -> None:
        """name: of the base, a model's or a folder's, of which files keep the last part. Raises ValueError for a base that predicts
        something else than the noise."""
        if base.is_xl:
            raise ValueError("Subjects are learned on Stable Diffusion 1.x; this base is XL. Give another --model.")
        if (kind := base.noise_schedule.config.prediction_type) != "epsilon":
            raise ValueError(f"This base predicts {kind}, and subjects are learned on one that predicts noise (epsilon).")
        self.unet, self.text_encoder, self.tokenizer = base.unet.to(device), base.text_encoder.to(device), base.tokenizer
        own = Path(name).resolve().name if Path(name).is_dir() else name
        self.layout, self.base, self.device, self.checkpointing = base.layout, own[:MOST_LETTERS], device, checkpointing
        self.knows_photos = name != MINI
        self.kept: Tensor = base.noise_schedule.alphas_cumprod
        self.half = device.type != "cpu" and base.unet.dtype == torch.float16
        self.encode = encoding(base.text_encoder)

    @property
    def table(self) -> Tensor:
        weight: Any = token_table(self.text_encoder).weight
        return weight.detach()

    def tokens(self, text: str) -> list[tuple[int, str]]:
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        return list(zip(ids, self.tokenizer.convert_ids_to_tokens(ids), strict=True))

    def ids(self, texts: Sequence[str]) -> Tensor:
        length = self.text_encoder.config.max_position_embeddings
        options: dict[str, Any] = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
        return self.tokenizer(list(texts), **options).input_ids

    @torch.no_grad()
    def embeds(self, ids: Tensor) -> Tensor:
        return token_table(self.text_encoder)(ids.to(self.device)).float()

    def predict(self, noisy: Tensor, timesteps: Tensor, context: Context) -> Tensor:
        dtype = self.unet.dtype
        length, width = self.text_encoder.config.max_position_embeddings, self.unet.config.cross_attention_dim
        text = noisy.new_zeros(len(noisy), length, width, dtype=dtype)  # every layer gets another
        with contexts_attached(self.unet, self.layout, _Asked(context)), _checkpointed(self.unet, self.checkpointing):
            return self.unet(noisy.to(dtype), timesteps, text).sample.float()


class _Asked:
    """context.py's Contexts around a function."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def begin(self, timestep: Any, text: Tensor) -> None:
        pass

    def make(self, number: int, text: Tensor, entering: Entering) -> Tensor:
        return self.context(number, *entering).to(text.dtype)


@contextmanager
def _checkpointed(unet: Any, wanted: bool) -> Iterator[None]:
    if not wanted or unet.is_gradient_checkpointing:
        yield
        return
    unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        unet.disable_gradient_checkpointing()


def _pixels(picture: Image.Image) -> Tensor:
    """[3, H, W] in 0..1."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)


def views_of_pictures(
    base: Base,
    pictures: Sequence[Image.Image],
    masks: Sequence[Tensor | None],
    side: int,
    fit: str = "crop",
    on_view: Callable[[], None] = lambda: None,
) -> Views:
    """Pictures in any size, and masks [H, W] or None, as they are learned from. side: of the square in pixels."""
    square = [squared(_pixels(picture), side, fit) for picture in pictures]
    parts = [None if mask is None else squared(mask[None].float(), side, fit)[0].round() for mask in masks]
    levels = len(base.layout.channels)
    return views_of(square, parts, lambda pixels: base.latents(pixels)[0], side // 8 // 2 ** (levels - 1), on_view=on_view)
