"""The frozen side of a training step: encoders, noise schedule, and the UNet, as every method uses them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..hosts.diffusers.base import Base
from ..losses import balanced_weights


def fingerprint(base: Base) -> str:
    """Identity of the encoders' weights, from a few numbers of each tensor: it tells models apart but detects no tampering."""
    digest = hashlib.blake2b(digest_size=16)
    for model in (base.vae, base.text_encoder, base.vision_encoder):
        for name, value in sorted(model.state_dict().items()):
            digest.update(name.encode() + value.flatten()[:8].float().cpu().numpy().tobytes())
    return digest.hexdigest()


@dataclass
class Frozen:
    """A base on its device, in its precision. fingerprint: of its encoders as they were loaded. Texts repeat, so their embeddings are
    kept.
    """

    base: Base
    device: torch.device
    fingerprint: str
    _texts: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def balanced(self) -> Tensor:
        """[timesteps], the weights of losses.balanced_weights."""
        return balanced_weights(self.base.noise_schedule.alphas_cumprod).to(self.device)

    def latents(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.base.latents(pixels.to(self.device))

    def embed(self, texts: list[str]) -> Tensor:
        """[texts, T, D] float32."""
        unseen = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if unseen:
            if len(self._texts) > 4096:
                self._texts.clear()
                unseen = list(dict.fromkeys(texts))
            self._texts.update(zip(unseen, self.base.embed(unseen).float(), strict=True))
        return torch.stack([self._texts[text] for text in texts])

    def encode(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch with target and prompt encoded, unless the cache has done that, and with all its tensors on the device."""
        done = dict(batch)
        if "pixels" in done:
            done["mean"], done["std"] = self.latents(done.pop("pixels"))
            done["prompt_embeds"] = self.embed(done.pop("prompt"))
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

    def predict(self, noisy: Tensor, timesteps: Tensor, prompt_embeds: Tensor) -> Tensor:
        """The noise that the UNet predicts: [B, 4, h, w]."""
        unet = self.base.unet
        return unet(noisy.to(unet.dtype), timesteps, prompt_embeds.to(unet.dtype)).sample
