"""The frozen side of a training step: encoders, noise schedule, and the UNet, as every method uses them, 1.x or XL.

Stable Diffusion XL also wants a prompt's pooled text and numbers about the picture, its micro-conditioning (arXiv 2307.01952, section
2.2): those that a sample tells (original_size, corner), else those of a picture that was never cut or scaled.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..hosts.diffusers.base import Base
from ..losses import balanced_weights

TEXTS_KEPT = 1024
"""Embeddings of texts that are kept; 236 kB each at CLIP ViT-L/14's width."""
PICTURES_KEPT = 2**28
"""Bytes of latents, and as many of features, that are kept on a CPU, which takes longer to encode a picture than to learn from it."""


@dataclass
class Kept:
    """What was made of pictures that may come again. Each is made alone, so that its bits do not depend on what was met before."""

    _made: OrderedDict[bytes, tuple[Tensor, ...]] = field(default_factory=OrderedDict)

    def of(self, pictures: Tensor, make: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """pictures: [B, 3, H, W]; make: of one, [1, 3, H, W] -> tensors [1, ...]. Returns those of all, [B, ...]."""
        return tuple(torch.cat(parts) for parts in zip(*(self._one(picture[None], make) for picture in pictures), strict=True))

    def _one(self, picture: Tensor, make: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        key = hashlib.blake2b(picture.numpy().tobytes(), digest_size=16).digest()
        if key not in self._made:
            found = make(picture)
            self._made[key] = found
            if len(self._made) * sum(part.nbytes for part in found) > PICTURES_KEPT:
                self._made.popitem(last=False)
            return found
        self._made.move_to_end(key)
        return self._made[key]


@dataclass
class Frozen:
    """A base in its place and precision. fingerprint: of its encoders as they were loaded. Texts repeat, so their embeddings are
    kept, on the CPU; so do pictures that are cut alike every time.
    """

    base: Base
    device: torch.device
    fingerprint: str
    _texts: OrderedDict[str, tuple[Tensor, Tensor | None]] = field(default_factory=OrderedDict)
    _latents: Kept = field(default_factory=Kept)
    _features: Kept = field(default_factory=Kept)

    @cached_property
    def balanced(self) -> Tensor:
        """[timesteps], the weights of losses.balanced_weights."""
        return balanced_weights(self.base.noise_schedule.alphas_cumprod).to(self.device)

    def latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels: [B, 3, H, W] in -1..1 -> mean and std, [B, 4, h, w]."""
        if self.device.type != "cpu":
            return self.base.latents(pixels.to(self.device))
        mean, std = self._latents.of(pixels, self.base.latents)
        return mean, std

    def features(self, pixels: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """pixels: [B, 3, s, s] -> what make, which stays the same through a run, makes of them with the vision encoder, [B, ...]."""
        if self.device.type != "cpu":
            return make(pixels)
        (found,) = self._features.of(pixels, lambda picture: (make(picture),))
        return found

    def embed(self, texts: list[str]) -> Tensor:
        """[texts, T, D] float32 on the CPU."""
        return self.texts(texts)[0]

    def texts(self, texts: list[str]) -> tuple[Tensor, Tensor | None]:
        """What the UNet gets of texts (Base.texts): [texts, T, D] and, with XL, [texts, P], float32 on the CPU."""
        unseen = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if unseen:
            embeds, pooled = self.base.texts(unseen)
            # Copies: a row alone would keep the memory of its whole batch.
            rows = list(map(torch.clone, embeds.float().cpu()))
            ends = [None] * len(unseen) if pooled is None else list(map(torch.clone, pooled.float().cpu()))
            self._texts.update(zip(unseen, zip(rows, ends, strict=True), strict=True))
        found = [self._texts[text] for text in texts]
        for text in texts:
            self._texts.move_to_end(text)
        while len(self._texts) > TEXTS_KEPT:
            self._texts.popitem(last=False)
        ends = [end for _, end in found if end is not None]
        return torch.stack([row for row, _ in found]), torch.stack(ends) if self.base.is_xl else None

    def encode(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch with target and prompt encoded, unless the cache has done that, and with all its tensors on the device."""
        done = dict(batch)
        if "pixels" in done:
            done["mean"], done["std"] = self.latents(done.pop("pixels"))
            done["prompt_embeds"], pooled = self.texts(done.pop("prompt"))
            if pooled is not None:
                done["pooled"] = pooled
        if self.base.is_xl:
            done["time_ids"] = _time_ids(done)
        return {name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in done.items()}

    def noise(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, the noise in them and the timesteps, each sample's from its own seed: two [B, 4, h, w] and [B]."""
        clean, noise, timesteps = [], [], []
        for mean, std, seed in zip(batch["mean"], batch["std"], batch["seed"], strict=True):
            generator = torch.Generator().manual_seed(seed)
            timesteps.append(torch.randint(self.base.noise_schedule.config.num_train_timesteps, (), generator=generator))
            noise.append(torch.randn(mean.shape, generator=generator))
            clean.append(mean + std * torch.randn(mean.shape, generator=generator).to(mean.device))
        drawn, at = torch.stack(noise).to(self.device), torch.stack(timesteps).to(self.device)
        return self.base.noise_schedule.add_noise(torch.stack(clean), drawn, at), drawn, at

    def predict(self, noisy: Tensor, timesteps: Tensor, batch: dict[str, Any]) -> Tensor:
        """The noise that the UNet predicts under an encoded batch's prompts: [B, 4, h, w]."""
        unet = self.base.unet
        more: dict[str, Any] = {}
        if self.base.is_xl:
            more["added_cond_kwargs"] = {"text_embeds": batch["pooled"].to(unet.dtype), "time_ids": batch["time_ids"]}
        return unet(noisy.to(unet.dtype), timesteps, batch["prompt_embeds"].to(unet.dtype), **more).sample


def _time_ids(batch: dict[str, Any]) -> Tensor:
    """Original height and width, top and left of what is seen, and the target's height and width: [B, 6]."""
    mean = batch["mean"]
    target = torch.tensor([side * 8 for side in mean.shape[-2:]]).repeat(mean.shape[0], 1)
    original = batch.pop("original_size", target).to(target.device)
    return torch.cat([original, batch.pop("corner", torch.zeros_like(target)).to(target.device), target], dim=1).float()
