"""From pictures of an object and its name to the object: the one recipe both hosts follow.

The host provides a vision model, the adapter's projector and the name's embeddings; this file prepares the pictures, runs the vision
model once per new picture and averages over the pictures of the object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ... import finite, vision
from ...crop import Crop, check_crop, pixels_of
from ...masks import as_masks
from ...points import Point
from ...reference import reference_picture
from ...select import masks_around
from ...shown import shown
from ...vision import Fit
from ...vision_model import VisionModel
from .adapter import AdapterConfig
from .objects import MOST_PICTURES, PICTURES_SHOWN, MIPObject, Name

TOWERS = {(1664, 1280): "CLIP ViT-bigG/14", (1280, 1024): "CLIP ViT-H/14", (1024, 768): "CLIP ViT-L/14"}
"""By (width of the hidden states, width of the embedding); one number alone does not tell them apart."""
PUBLISHED = {
    "CLIP ViT-bigG/14": "h94/IP-Adapter, sdxl_models/image_encoder",
    "CLIP ViT-H/14": "h94/IP-Adapter, models/image_encoder",
    "CLIP ViT-L/14": "openai/clip-vit-large-patch14",
}
"""Where each tower is."""

ToTokens = Callable[[Tensor], Tensor]
"""MIPAdapter.forward: features [B, E] or [B, P, E] -> tokens [B, T, D]."""


@dataclass(frozen=True)
class Adapter:
    """What encoding needs of an adapter: its shapes, its identity and its projector, ready to run."""

    config: AdapterConfig
    fingerprint: str
    to_tokens: ToTokens


@dataclass(frozen=True, eq=False)
class References:
    """Pictures of one object, and what of them is the object.

    masks: [1 or pictures, H, W] in 0..1 over the whole picture, or None; points: places in pixels that were pointed at, whose surroundings
    join every mask. With a mask or points the object is cut out on white, as the authors train; without, the vision model sees
    the picture as it is, as in their demo (mip.md, section 3). fit: how a picture that is not square is then seen. crop: the part of each
    picture that counts, in its pixels, None for all of it; no mask reaches beyond it. Raises ValueError for masks that are none and for
    too many pictures.
    """

    pictures: Sequence[Image.Image]
    masks: Tensor | None = None
    points: Sequence[Point] = ()
    fit: Fit = "center crop"
    crop: Crop | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.pictures) <= MOST_PICTURES:
            raise ValueError(f"An object got {len(self.pictures):,} pictures; expected 1 to {MOST_PICTURES}.")
        object.__setattr__(self, "crop", check_crop(self.crop))
        for picture in self.pictures:
            vision.check_size(*picture.size, "The reference")
        if self.masks is not None:
            masks = as_masks(self.masks, "The mask")
            if len(masks) not in (1, len(self.pictures)):
                raise ValueError(
                    f"{len(masks)} masks for {len(self.pictures)} pictures of the object; expected one mask for all or one for each."
                )
            object.__setattr__(self, "masks", masks)

    def prepared(self, vision_model: VisionModel) -> list[Image.Image]:
        """The square pictures that the vision model sees."""
        seen = []
        for number, picture in enumerate(self.pictures):
            mask = self.mask_of(number, vision_model)
            crop = self.crop if mask is None else None  # what is cut out already lies within it
            seen.append(vision.frame(reference_picture(picture, mask), vision_model.size, self.fit, crop))
        return seen

    def mask_of(self, number: int, vision_model: VisionModel) -> NDArray[np.float32] | None:
        """What mask and points mark of a picture, over the whole of it: [H, W] in 0..1; None where there are neither."""
        picture = self.pictures[number]
        mask = None if self.masks is None else self.masks[min(number, len(self.masks) - 1)].numpy()  # [H, W]
        if self.points:
            around = masks_around(vision_model, [picture.convert("RGB")], self.points, self.fit, self.crop)[0].numpy()
            mask = around if mask is None else np.maximum(_over(mask, picture), around)
        return mask if mask is None or self.crop is None else _within(_over(mask, picture), pixels_of(self.crop, picture.size))


def encode_object(
    adapter: Adapter,
    vision_model: VisionModel,
    references: References,
    name: Name,
    strength: float = 1.0,
    region: Tensor | None = None,
) -> MIPObject:
    """One object of all its pictures: their tokens are averaged after the projector (hqhQAQ/MIP-Adapter, ip_adapter/ip_adapter.py).

    region: [H, W] or [1, H, W] in 0..1 over the new picture, kept with 8 bits, or None. The unconditional tokens are those of a zero
    embedding, or of the hidden states of a picture that is zero after normalisation.
    """
    config = adapter.config
    check_vision_model(vision_model, config)
    seen = references.prepared(vision_model)
    pixels = vision.normalise(seen)  # [K, 3, size, size]
    zeros = torch.zeros_like(pixels[:1])
    if config.pooled:
        features = vision_model.embed(pixels)  # [K, E]
        null_features = features.new_zeros(1, features.shape[1])
    else:
        layer = vision_model.layers - 1  # the last but one
        found = vision_model.encode(torch.cat([pixels, zeros]), (layer,))[:, 0]  # [K + 1, P, E]
        features, null_features = found[:-1], found[-1:]
    tokens, null_tokens = adapter.to_tokens(features).float().cpu().mean(dim=0), adapter.to_tokens(null_features)[0]
    for what in (tokens, null_tokens):
        if (fault := finite.fault(what)) is not None:
            raise ValueError(
                f'Encoding "{shown(name.text, 60)}" gives tokens with {fault}. The adapter or the vision model is damaged, or overflows in '
                "half precision; load them again, or in full precision."
            )
    return MIPObject(
        tokens=tokens.contiguous(),
        null_tokens=null_tokens.float().cpu().contiguous(),
        name=name.text,
        name_embeds=name.embeds.float().cpu().contiguous(),
        null_name_embeds=name.null_embeds.float().cpu().contiguous(),
        pictures=torch.from_numpy(np.stack([np.asarray(picture) for picture in seen[:PICTURES_SHOWN]])),
        count=len(seen),
        adapter=adapter.fingerprint,
        strength=strength,
        region=None if region is None else _region(region),
    )


def tower_of(config: AdapterConfig) -> str | None:
    """The tower that an adapter of these shapes was made for; None for an unknown one."""
    place = 1 if config.pooled else 0
    return next((kind for widths, kind in TOWERS.items() if widths[place] == config.vision_width), None)


def check_vision_model(vision_model: VisionModel, config: AdapterConfig) -> None:
    """Refuse a tower that the adapter was not made for, by the pair of its widths."""
    found = vision_model.embedding_width if config.pooled else vision_model.width
    if found == config.vision_width:
        return
    pair = (vision_model.width, vision_model.embedding_width)
    found_kind, wanted_kind = TOWERS.get(pair), tower_of(config)
    embedding = f"an embedding of width {pair[1]}" if pair[1] else "no embedding"
    what = "a picture's embedding" if config.pooled else "a picture's hidden states"
    other = f", or the adapter that was made for {found_kind}" if found_kind else ""
    raise ValueError(
        f"This CLIP Vision model has hidden states of width {pair[0]} and {embedding} ({found_kind or 'an unknown kind'}); the adapter "
        f"takes {what}, of width {config.vision_width} ({wanted_kind or 'an unknown kind'}). "
        f"Load {wanted_kind or 'the tower it was trained with'} in Load CLIP Vision{other}."
    )


def _over(mask: np.ndarray, picture: Image.Image) -> np.ndarray:
    """A mask of any size stretched over the whole picture: [H, W]."""
    if mask.shape == (picture.height, picture.width):
        return mask
    return np.asarray(Image.fromarray(mask).resize(picture.size, Image.Resampling.BILINEAR))


def _within(mask: np.ndarray, box: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """A mask without what it marks outside a box of whole pixels: [H, W]. Raises ValueError where nothing is left of it."""
    left, top, right, bottom = box
    kept = np.zeros_like(mask)
    kept[top:bottom, left:right] = mask[top:bottom, left:right]
    if mask.max() > 0.5 >= kept.max():
        raise ValueError(
            f"The mask of the reference marks nothing within the crop {left}, {top}, {right}, {bottom}. Move the frame to the object, or "
            "leave crop empty."
        )
    return kept


def _region(region: Tensor) -> Tensor:
    masks = as_masks(region, "The region of the object")
    if len(masks) != 1:
        raise ValueError(
            f"The region of the object has {len(masks)} masks; expected one. Where it should change from picture to picture, use the "
            "region of Apply Objects."
        )
    bits = masks[0].mul(255).round().to(torch.uint8)
    if not bool(bits.any()):
        raise ValueError(
            "The region of the object is empty (all zero), so it could act nowhere. Paint where it may act, or disconnect the mask. "
            "(Load Image gives an all-zero MASK for a picture without alpha.)"
        )
    return bits
