"""A vision model and what it has already seen: every new picture is run once, and what was made of it is kept for a while."""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .vision import HiddenStates, check_features, patch_features

PICTURES_KEPT = 8
"""Features kept per vision model: 6 MB each for ViT-L/14 at six scales."""


@dataclass
class VisionModel:
    """size: side of the input in pixels; width, tokens: of the features; layers: how many;
    embedding_width: of the pooled embedding, 0 without one; features: those of pictures already seen."""

    hidden_states: HiddenStates
    size: int
    width: int
    tokens: int
    layers: int
    pooled: Callable[[Tensor], Tensor] | None = None
    """[B, 3, size, size] normalised pixels -> the projected embedding of the class token, [B, E]; None for a tower without one."""
    embedding_width: int = 0
    features: OrderedDict[bytes, Tensor] = field(default_factory=OrderedDict)
    derived: OrderedDict[bytes, Tensor] = field(default_factory=OrderedDict)
    """What methods made of its features and want to keep with it, by a key of their own (remember)."""

    def encode(self, pixels: Tensor, layers: tuple[int, ...]) -> Tensor:
        """Features of normalised pixels [B, 3, size, size] -> [B, S, P, C] float32 on the CPU. Unseen ones run as one batch."""
        return self._once(pixels, layers, lambda unseen: patch_features(self.hidden_states, unseen, layers))

    def embed(self, pixels: Tensor) -> Tensor:
        """Pooled embeddings of normalised pixels [B, 3, size, size] -> [B, E] float32 on the CPU. Unseen ones run as one batch."""
        pooled = self.pooled
        assert pooled is not None  # whoever asks has looked at embedding_width

        def made(unseen: Tensor) -> Tensor:
            embeddings = pooled(unseen)
            check_features(embeddings)
            return embeddings

        return self._once(pixels, (), made)

    def _once(self, pixels: Tensor, layers: tuple[int, ...], make: Callable[[Tensor], Tensor]) -> Tensor:
        keys = [_key(picture, layers) for picture in pixels]
        unseen = {key: picture for key, picture in zip(keys, pixels, strict=True) if key not in self.features}
        found = {key: self.features[key] for key in keys if key in self.features}
        if unseen:
            found.update(zip(unseen, make(torch.stack(list(unseen.values()))).float().cpu(), strict=True))
        for key in keys:
            remember(self.features, key, found[key], PICTURES_KEPT)
        return torch.stack([found[key] for key in keys])


class VisionModels:
    """The host's vision models with their memories, each of which lives exactly as long as the host's object.

    describe: makes the VisionModel of a host's object. It is given the object, and a function that returns it and holds it weakly;
    only the function may be kept.
    """

    def __init__(self, describe: Callable[[Any, Callable[[], Any]], VisionModel]) -> None:
        self._describe = describe
        self._known: weakref.WeakKeyDictionary[Any, VisionModel] = weakref.WeakKeyDictionary()

    def __call__(self, model: Any) -> VisionModel:
        if model not in self._known:
            reference = weakref.ref(model)

            def held() -> Any:
                found = reference()
                assert found is not None  # its features are asked for through it
                return found

            self._known[model] = self._describe(model, held)
        return self._known[model]


def _key(picture: Tensor, layers: tuple[int, ...]) -> bytes:
    return hashlib.blake2b(repr(layers).encode() + bytes_of(picture), digest_size=16).digest()


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().float().cpu().contiguous().numpy().tobytes()


def remember(kept: OrderedDict[bytes, Tensor], key: bytes, value: Tensor, limit: int) -> None:
    """Keep a value as the newest, and drop the oldest beyond the limit."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > limit:
        kept.popitem(last=False)
