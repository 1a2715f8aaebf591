"""CLIP-T, CLIP-I and DINO: how well pictures match a prompt, and how alike they are to real pictures of a subject.

CLIP-T: cosine of picture and prompt. CLIP-I, DINO: mean cosine over all pairs of generated and real pictures (DreamBooth's protocol).
CLIP ViT-B/32 and DINO ViT-S/16 are the field's choice; any models of these kinds load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer, ViTModel

from .. import vision
from ..hosts.diffusers.load import loading

DINO_RESIZE, DINO_CROP = 256, 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 32


@dataclass
class ClipScorer:
    """model: transformers CLIPModel; processor: its image processor; tokenizer: its tokenizer."""

    model: Any
    processor: Any
    tokenizer: Any

    def pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """[N, D], normalised. Pixels are the processor's."""
        return self._described(pictures, lambda part: self.processor(images=part, return_tensors="pt").pixel_values)

    def pictures_as_clip(self, pictures: Sequence[Image.Image]) -> Tensor:
        """[N, D], normalised. Pixels are those of OpenAI's clip package, whose middle may lie one pixel further right or down."""
        size = self.model.config.vision_config.image_size
        return self._described(pictures, lambda part: torch.stack([clip_pixels(picture, size) for picture in part]))

    @torch.no_grad()
    def _described(self, pictures: Sequence[Image.Image], pixels_of: Callable[[list[Image.Image]], Tensor]) -> Tensor:
        found = []
        for start in range(0, len(pictures), BATCH):
            part = [picture.convert("RGB") for picture in pictures[start : start + BATCH]]
            pixels = pixels_of(part).to(self.model.device, self.model.dtype)
            pooled = self.model.vision_model(pixel_values=pixels).pooler_output
            found.append(F.normalize(self.model.visual_projection(pooled).float(), dim=-1).cpu())
        return torch.cat(found)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """[N, D], normalised. Cut at the model's length."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        pooled = self.model.text_model(**tokens).pooler_output
        return F.normalize(self.model.text_projection(pooled).float(), dim=-1).cpu()


@dataclass
class DinoScorer:
    """model: transformers ViTModel with DINO's weights; its class token after the last LayerNorm describes a picture."""

    model: Any

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """[N, D], normalised."""
        found = []
        for start in range(0, len(pictures), BATCH):
            pixels = torch.stack(
                [dino_pixels(picture, self.model.config.image_size) for picture in pictures[start : start + BATCH]]
            )
            states = self.model(pixels.to(self.model.device, self.model.dtype)).last_hidden_state
            found.append(F.normalize(states[:, 0].float(), dim=-1).cpu())
        return torch.cat(found)


def likeness(pictures: Tensor, real: Tensor) -> float:
    """Mean cosine of all pairs of normalised [N, D] and [M, D]."""
    return float((pictures @ real.T).mean())


def load_clip(folder: str, device: str = "cpu") -> ClipScorer:
    with loading(folder, "openai/clip-vit-base-patch32"):
        model: Any = CLIPModel.from_pretrained(folder)
        processor, tokenizer = CLIPImageProcessor.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    model.to(device).train(False)
    return ClipScorer(model, processor, tokenizer)


def load_dino(folder: str, device: str = "cpu") -> DinoScorer:
    with loading(folder, "facebook/dino-vits16"):
        model: Any = ViTModel.from_pretrained(folder, add_pooling_layer=False)
    return DinoScorer(model.to(device).train(False))


def clip_pixels(picture: Image.Image, size: int) -> Tensor:
    """Shorter side to `size` (bicubic), the middle, normalised by CLIP's mean and deviation: [3, size, size].

    So do OpenAI's clip package and hqhQAQ/MIP-Adapter, evaluation/evaluate_func.py.
    """
    return _pixels(picture, size, size, vision.MEAN, vision.STD)


def dino_pixels(picture: Image.Image, size: int) -> Tensor:
    """Resized to a shorter side of 256 (bicubic), cropped to the middle 224, and normalised by ImageNet's mean and deviation.

    For a model with another input size, both sizes change in proportion.
    """
    return _pixels(picture, round(size * DINO_RESIZE / DINO_CROP), size, IMAGENET_MEAN, IMAGENET_STD)


def _pixels(picture: Image.Image, resized: int, size: int, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    from torchvision.transforms import functional as transforms

    scaled = transforms.resize(picture.convert("RGB"), resized, transforms.InterpolationMode.BICUBIC)
    pixels = transforms.to_tensor(transforms.center_crop(scaled, [size, size]))
    return transforms.normalize(pixels, list(mean), list(deviation))
