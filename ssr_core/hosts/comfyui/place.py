"""Which part of which picture the positions of a layer are: crops, tiles, frames, and the weights that a region gives them."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ...schedule import Area, Manner, frame_index, frame_weights, positions_where, region_weights
from .conditions import Conditions, window_of
from .layer import Layer
from .run import Run


class Batch(NamedTuple):
    """The batch of a UNet call: tiles x chunks x pictures. frames: which of the whole animation the pictures are, None for all."""

    tiles: int
    pictures: int
    frames: tuple[int, ...] | None


class Weighted(NamedTuple):
    """What a manner leaves of a branch in a layer: `weight` and `where` as a Branch has them."""

    weight: Tensor | None
    where: Tensor | None


class Spread(NamedTuple):
    """A region laid over the positions of a layer. view: areas, canvas and grid that it was made for.

    weights: [chunks, frames, L, 1] on the CPU, of all frames, since every pass may need another context window of them.
    """

    view: tuple[tuple[Area | None, ...], tuple[int, int], tuple[int, int]]
    weights: Tensor


class Place:
    """Where the chunks of one call of the UNet lie. conditions: of the sampler's batch, None if there is no sampler."""

    def __init__(self, run: Run, conditions: Conditions | None, latent: Tensor, batch: Batch) -> None:
        self.run = run
        self.conditions = conditions
        self.latent = latent
        self.batch = batch
        self.canvas = conditions.canvas if conditions else _size(latent)
        """Height and width of the whole picture in latent cells."""

    def grid(self, layer: Layer) -> tuple[int, int] | None:
        """Height and width of the layer's tokens, or None, with a warning, where they are no grid."""
        height, width = layer.grid or self.canvas
        if height * width == layer.query.shape[1]:
            return height, width
        self.run.warn(f"a layer has {layer.query.shape[1]} tokens for a {height} x {width} grid; its region mask is ignored.")
        return None

    def areas(self, layer: Layer) -> tuple[Area | None, ...] | None:
        """The crop of the picture that each chunk works on, None for all of it; None instead of a tuple where crops cannot be told."""
        count = len(layer.labels)
        if self.conditions is None:
            return (None,) * count
        if not self.conditions.whole:
            self.run.warn("context windows along the picture's height or width: region masks and footprints are left out.")
            return None
        told = []
        if len(layer.uuids) == count:
            told = [self.conditions.area(*pair) for pair in zip(layer.labels, layer.uuids, strict=True)]
        size = _size(self.latent)
        if all((area or (*self.canvas, 0, 0))[:2] == size for area in told or [None]):
            return tuple(told) or (None,) * count
        # A pack that draws in tiles calls the UNet on parts of the latent and does not say where they lie.
        tiles = self._tiles
        if any(tile is None for tile in tiles):
            self.run.warn(
                "the UNet works on a part of the picture that is not to be found in it; region masks and footprints leave it out."
            )
            return None
        return tuple(tiles[chunk * len(tiles) // count] for chunk in range(count))

    def weighted(self, manner: Manner, layer: Layer) -> Weighted:
        """What region and pictures of a manner leave at every position of the layer.

        Computed on the CPU, where both are, so that no device is waited for, and kept for the whole sampling.
        """
        spread = None if manner.region is None else self._spread(manner, layer)
        weight = None if spread is None else self._of_region(manner, spread, layer)
        if manner.pictures:
            strengths = self._of_pictures(manner.pictures, layer)
            weight = strengths if weight is None else weight * strengths
        return Weighted(weight, None if weight is None else self._where(manner, spread, layer))

    def _spread(self, manner: Manner, layer: Layer) -> Spread | None:
        grid, areas = self.grid(layer), self.areas(layer)
        if grid is None or areas is None:
            return None
        view = (areas, self.canvas, grid)

        def make() -> Tensor:
            assert manner.region is not None
            spread = {
                area: region_weights(manner.region, self.canvas, area, grid) for area in set(areas)
            }  # [frames, L, 1] each
            return torch.stack([spread[area] for area in areas])

        return Spread(view, self.run.kept(("spread", manner, view), make))

    def _of_region(self, manner: Manner, spread: Spread, layer: Layer) -> Tensor:
        """[chunks, 1 or pictures, L, 1] on the layer's device."""
        device, dtype = layer.query.device, layer.query.dtype
        weights = self.run.kept(("region", manner, spread.view, device, dtype), lambda: spread.weights.to(device, dtype))
        count = weights.shape[1]
        if count == 1:
            return weights
        index = self.run.kept(
            ("frame index", count, layer.pictures, layer.frames, device),
            lambda: frame_index(count, layer.pictures, layer.frames).to(device),
        )
        return weights.index_select(1, index)

    def _of_pictures(self, pictures: tuple[float, ...], layer: Layer) -> Tensor:
        """[chunks, pictures, 1, 1] on the layer's device."""
        device, dtype, chunks = layer.query.device, layer.query.dtype, len(layer.labels)

        def make() -> Tensor:
            weights = frame_weights(pictures, layer.pictures, layer.frames)  # [1, pictures, 1, 1]
            return weights.to(device, dtype).expand(chunks, -1, 1, 1)

        return self.run.kept(("pictures", pictures, chunks, layer.pictures, layer.frames, device, dtype), make)

    def _where(self, manner: Manner, spread: Spread | None, layer: Layer) -> Tensor | None:
        """The positions where the weight is not zero.

        Every pass may have another context window, so all windows share one answer as to a region; strengths of pictures are each
        window's own.
        """
        view = None if spread is None else spread.view
        count, length = layer.pictures, layer.query.shape[1]
        pictures = manner.pictures
        shared = layer.frames is not None and not pictures
        frames = None if shared else layer.frames

        def make() -> Tensor | None:
            weights = torch.ones(1, 1, 1, 1) if spread is None else spread.weights
            if shared:
                weights = weights.amax(dim=1, keepdim=True)
            else:
                weights = weights[:, frame_index(weights.shape[1], count, frames)]  # [chunks, pictures, 1 or L, 1]
                if pictures:
                    weights = weights * frame_weights(pictures, count, frames)
            found = positions_where(weights, count, length)
            return None if found is None else found.to(layer.query.device)

        return self.run.kept(("where", manner, view, count, length, shared, frames, layer.query.device), make)

    @cached_property
    def _tiles(self) -> list[Area | None]:
        """Where each tile of this call lies."""
        assert self.conditions is not None
        whole = _frames(self.conditions.latent, self.batch.frames)
        return [window_of(part[: whole.shape[0]], whole) for part in self.latent.chunk(self.batch.tiles)]


def batch_of(latent: Tensor, chunks: int, conditions: Conditions | None, frames: tuple[int, ...] | None) -> Batch:
    """What a latent holds. Packs that draw in tiles append every tile's chunks to the batch, and leave the list of labels as it was."""
    tiles, latents = 1, latent.shape[0]
    if conditions is not None and _size(latent) != conditions.canvas:
        one_tile = chunks * len(_frames(conditions.latent, frames))
        tiles = latents // one_tile if latents % one_tile == 0 else 1
    return Batch(tiles, latents // (chunks * tiles), frames)


def _frames(latent: Tensor, frames: tuple[int, ...] | None) -> Tensor:
    """The pictures of a context window; a latent that holds only these stays as it is."""
    return latent if frames is None or len(frames) >= latent.shape[0] else latent[list(frames)]


def _size(latent: Tensor) -> tuple[int, int]:
    height, width = latent.shape[-2:]
    return height, width
