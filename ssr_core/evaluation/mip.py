"""The MIP-Adapter as a method that can be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..hosts.diffusers import generate, mip
from ..hosts.diffusers.base import Base, fingerprint
from ..merge import Combine
from ..methods.mip.adapter import MIPAdapter
from ..methods.mip.encode import References
from ..methods.mip.objects import MERGES, MIPObject
from ..schedule import Manner
from .drawer import Reference, Sampling


@dataclass(frozen=True)
class SelectedObject:
    """An object as the shared measurements look at it."""

    thing: MIPObject

    def heat(self) -> Tensor:
        """The same everywhere: all that the vision model saw is the object."""
        return torch.ones(1, 1)

    def shown(self) -> Image.Image:
        return Image.fromarray(self.thing.pictures[0].numpy())


@dataclass
class MIPDrawer:
    """An adapter and a base. combine: one of objects.MERGES. A reference's words are the object's name; two may have the same."""

    base: Base
    adapter: MIPAdapter
    combine: Combine = MERGES[0]
    _pipes: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return self.adapter.fingerprint

    @property
    def base_fingerprint(self) -> str:
        return fingerprint(*self.base.models)

    def select(self, reference: Reference) -> SelectedObject:
        shown = (reference.picture, *reference.more)
        if reference.more and (reference.mask is not None or reference.points):
            raise ValueError("A mask or points belong to one picture, and this reference has several; cut them out beforehand.")
        mask = None if reference.mask is None else reference.mask[None]
        return SelectedObject(mip.encode(self.base, self.adapter, References(shown, mask, reference.points), reference.words))

    def draw(
        self,
        selections: Sequence[Sequence[SelectedObject]],
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Image.Image]:
        if sampling.sampler not in self._pipes:
            self._pipes[sampling.sampler] = generate.pipeline(self.base, sampling.sampler)
        latents = mip.sample(
            self._pipes[sampling.sampler],
            self.adapter,
            [tuple(one.thing for one in of_picture) for of_picture in selections],
            prompts,
            generate.noise(self.base, seeds, sampling.size, sampling.size),
            manner=Manner(sampling.strength),
            combine=self.combine,
            negative=sampling.negative,
            steps=sampling.steps,
            guidance=sampling.guidance,
        )
        return generate.decode(self.base, latents)
