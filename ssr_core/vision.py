"""From a picture to patch features: pixels as CLIPImageProcessor prepares them, and the vision model's layers as scales.

The picture's geometry lives here once, so that a mask lands on exactly the patches of the part it marks. Which object runs
the vision model is the business of the host, which gives a function from pixels to all hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .choices import choice
from .crop import Crop, pixels_of

Fit = Literal["center crop", "pad", "stretch"]
FITS: tuple[Fit, ...] = get_args(Fit)
"""How a picture that is not square meets the square input of the vision model. "center crop" is CLIPImageProcessor's, which
Xiaojiu-z/SSR_Encoder, ssr_encoder/ssr_encoder.py, uses."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
MEAN_COLOUR = (123, 117, 104)
"""CLIP's normalisation (openai/clip-vit-large-patch14) and the mean as a colour, which the normalised zero picture shows."""

LONGEST_RATIO = 64
"""A side longer than this many times the other is cut to its middle before resizing: only the middle is seen anyway, and a 1 x 8000
picture would otherwise be resized to a length of 1.8 million pixels."""

MOST_PIXELS = 100_000_000
"""Of one picture or mask. The vision model sees 224 x 224 of them."""
LONGEST_SIDE = 1 << 16

HiddenStates = Callable[[Tensor], Sequence[Tensor]]
"""[B, 3, size, size] normalised pixels -> outputs of every layer, [B, P, C] each, first layer first, before any post-norm."""


def check_images(images: Tensor, what: str = "The reference") -> None:
    """Refuse what is no IMAGE: [B, H, W, 3 or 4 or 1] of finite numbers."""
    if not isinstance(images, Tensor):
        raise ValueError(f"{what} is a {type(images).__name__}; expected an IMAGE. Connect the IMAGE output of a loader.")
    if images.ndim != 4 or 0 in images.shape or images.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{what} has shape {tuple(images.shape)}; expected a batch of at least one picture, "
            "[batch, height, width, channels] with 1, 3 or 4 channels. Connect the IMAGE output of a loader."
        )
    check_size(images.shape[2], images.shape[1], what)
    if not bool(images.isfinite().all()):
        raise ValueError(
            f"{what} holds numbers that are not finite (NaN or infinity), as pictures have that a VAE or a model broke. Look at it before "
            "it comes here."
        )


def check_size(width: int, height: int, what: str) -> None:
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise ValueError(
            f"{what} is {width} x {height} pixels; at most {MOST_PIXELS:,} pixels and {LONGEST_SIDE:,} along a side are taken. Resize it."
        )


def as_pictures(images: Tensor) -> list[Image.Image]:
    """ComfyUI's IMAGE, [B, H, W, 3 or 4 or 1] in 0..1, as 8-bit RGB pictures. Alpha is dropped, as the official code does."""
    check_images(images)
    rgb = images[..., :3].float().clamp(0, 1).expand(*images.shape[:3], 3)
    pixels = rgb.mul(255).round().to(torch.uint8).cpu().numpy()  # [B, H, W, 3]
    return [Image.fromarray(picture) for picture in pixels]


def frame(picture: Image.Image, size: int, fit: Fit, crop: Crop | None = None) -> Image.Image:
    """The size x size picture that the vision model sees. crop: the part that is framed, None for all of it.

    "center crop" equals transformers' CLIPImageProcessor bit for bit: bicubic on 8-bit pixels, the long side truncated to
    int(size * long / short), crop offset (length - size) // 2.
    """
    choice(fit, FITS, "fit")
    if crop is not None:
        picture = picture.crop(pixels_of(crop, picture.size))
    if fit == "stretch":
        return picture.resize((size, size), Image.Resampling.BICUBIC)
    if fit == "pad":
        side = max(picture.size)
        square = Image.new("RGB", (side, side), MEAN_COLOUR)
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        return square.resize((size, size), Image.Resampling.BICUBIC)
    left, top, width, height = _middle(*picture.size)
    picture = picture.crop((left, top, left + width, top + height))
    width, height = _resized(picture.size, size)
    left, top = (width - size) // 2, (height - size) // 2
    return picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))


def seen_box(width: int, height: int, size: int, fit: Fit, crop: Crop | None = None) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of what the vision model sees, in the picture's pixels. With "pad" it exceeds the picture or the crop."""
    if crop is not None:
        first_x, first_y, stop_x, stop_y = pixels_of(crop, (width, height))
        part = seen_box(stop_x - first_x, stop_y - first_y, size, fit)
        return first_x + part[0], first_y + part[1], first_x + part[2], first_y + part[3]
    if fit == "stretch":
        return 0.0, 0.0, float(width), float(height)
    if fit == "pad":
        side = max(width, height)
        left, top = -((side - width) // 2), -((side - height) // 2)
        return float(left), float(top), float(left + side), float(top + side)
    cut_left, cut_top, width, height = _middle(width, height)
    new_width, new_height = _resized((width, height), size)
    x, y = width / new_width, height / new_height
    left, top = (new_width - size) // 2, (new_height - size) // 2
    return cut_left + left * x, cut_top + top * y, cut_left + (left + size) * x, cut_top + (top + size) * y


def normalise(pictures: Sequence[Image.Image]) -> Tensor:
    """Framed pictures -> [B, 3, size, size] float32 with CLIP's mean and deviation."""
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))  # [B, size, size, 3]
    scaled = pixels.permute(0, 3, 1, 2).float() / 255.0
    return (scaled - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def mask_to_patches(mask: Tensor, grid: int, size: int, fit: Fit, crop: Crop | None = None) -> Tensor:
    """A mask over the whole reference as weights of the vision model's patches: [H, W] in 0..1 -> [grid*grid], row by row.

    Binarised with > 0.5, resized bilinearly with antialiasing to the grid, and not binarised again, as in Xiaojiu-z/SSR_Encoder,
    ssr_encoder/ssr_encoder.py, under torchvision >= 0.17. Unlike there, the mask gets the picture's own crop, so that marked pixels
    and marked patches agree. crop: as frame takes it.
    Raises ValueError where nothing of the visible part is marked.
    """
    binary = (mask.float() > 0.5).float().cpu().numpy()  # [H, W]
    whole = binary
    if crop is not None:
        left, top, right, bottom = pixels_of(crop, (binary.shape[1], binary.shape[0]))
        binary = binary[top:bottom, left:right]
    height, width = binary.shape
    box = seen_box(width, height, size, fit)
    shown = Image.fromarray(binary)
    if fit == "pad":
        side = max(width, height)
        shown = Image.new("F", (side, side), 0.0)
        shown.paste(Image.fromarray(binary), (-int(box[0]), -int(box[1])))
        box = (0.0, 0.0, float(side), float(side))
    patches = shown.resize((grid, grid), Image.Resampling.BILINEAR, box=box)
    weights = torch.from_numpy(np.asarray(patches).copy()).clamp(0, 1).flatten()  # [grid*grid]
    if not bool((weights > 0).any()):
        marked = "nothing" if not whole.any() else f"only pixels outside the part that the encoder sees ({fit})"
        raise ValueError(
            f"The mask query marks {marked}; expected some area above 0.5 inside the visible part. Paint the subject in the "
            "mask, choose another fit or crop, or disconnect the mask. (Load Image gives an all-zero MASK for a picture without alpha.)"
        )
    return weights


def patch_features(hidden_states: HiddenStates, pixels: Tensor, layers: Sequence[int]) -> Tensor:
    """The chosen layers of a vision model as scales: [B, 3, size, size] -> [B, S, P, C]. Layer 1 is the first layer's output."""
    states = hidden_states(pixels)
    if max(layers) > len(states):
        raise ValueError(
            f"This vision model has {len(states)} layers; the SSR-Encoder reads layers {tuple(layers)}. "
            "Load clip-vit-large-patch14 (24 layers)."
        )
    features = torch.stack([states[layer - 1] for layer in layers], dim=1)
    check_features(features)
    return features


def check_features(features: Tensor) -> None:
    """Refuse what a vision model answers with where it is broken."""
    if not bool(features.isfinite().all()):
        raise ValueError(
            "The vision model answers with numbers that are not finite (NaN or infinity): its weights are damaged, or too large for the "
            "type it runs in. Load it again, or another copy of it, or run it in full precision."
        )


def check_vision_model(width: int, tokens: int, expected_width: int) -> None:
    """Refuse a vision model of another width before it runs. tokens: patches plus one."""
    if width != expected_width:
        known = {768: "ViT-B", 1024: "ViT-L", 1152: "SigLIP-so400m", 1280: "ViT-H", 1664: "ViT-bigG"}
        raise ValueError(
            f"This CLIP Vision model has width {width} ({known.get(width, 'unknown kind')}, {tokens - 1} patches); the "
            f"SSR-Encoder needs width {expected_width} ({known.get(expected_width, 'its own')}). For the released weights load "
            'openai/clip-vit-large-patch14 in "Load CLIP Vision".'
        )


def _resized(size: tuple[int, int], target: int) -> tuple[int, int]:
    """(width, height) with the shorter side at target and the longer one truncated."""
    width, height = size
    if width < height:
        return target, int(target * height / width)
    return int(target * width / height), target


def _middle(width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the part that is used: the middle of a very long picture, all of any other."""
    longest = LONGEST_RATIO * min(width, height)
    cut_width, cut_height = min(width, longest), min(height, longest)
    return (width - cut_width) // 2, (height - cut_height) // 2, cut_width, cut_height
