"""Sets of tokens on a UNet: one that all pictures share, or one for each, and which of a pipeline's batch belongs to which side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from ...attention import NULL, SUBJECT
from ...branches import BranchInput, check_representable
from ...layout import UNetLayout
from ...schedule import Manner
from .attach import Rows, branches_attached


class Projects(Protocol):
    """A module with a key and a value projection for every layer."""

    def project(self, tokens: Tensor, key_scale: Tensor, value_scale: Tensor, /) -> Iterator[tuple[Tensor, Tensor]]: ...
    def parameters(self) -> Iterator[Tensor]: ...


@contextmanager
def sets_attached(
    unet: Any,
    layout: UNetLayout,
    module: Projects,
    inputs: Sequence[Sequence[BranchInput]],
    manner: Manner,
    guidance: bool | None = None,
    places: Sequence[Manner] = (),
    gates: Sequence[Tensor] = (),
) -> Iterator[None]:
    """Attach the branches of one set, or of one set for each picture, for the length of a with-block.

    inputs: every set's branches. guidance: whether pipelines draw with classifier-free guidance; None finds it out from what they hand to
    the UNet (sides_of). places, gates: as Attachment takes them. Raises ValueError where sets differ in their branches, and where a batch
    is not arranged as `guidance` says.
    """
    if len({tuple(branch.tokens.shape for branch in branches) for branches in inputs}) > 1:
        raise ValueError("The pictures of a batch have different numbers of subjects; give every picture as many.")
    home, own = next(module.parameters()), next(unet.parameters()).dtype
    attached = []
    for parts in zip(*inputs, strict=True):  # one branch, every picture's
        # [2, N, D] each -> [unconditional rows of all pictures, then conditional ones]
        tokens, key_scale, value_scale = (
            torch.stack(part, dim=1).flatten(0, 1).to(home.device, home.dtype)
            for part in zip(*(one.rows for one in parts), strict=True)
        )
        made = list(module.project(tokens, key_scale, value_scale))
        check_representable(((key.to(own), value.to(own)) for key, value in made), own)
        attached.append(made)
    named = [[branch.word_embeds for branch in branches if branch.word_embeds is not None] for branches in inputs]
    words = [[embeds[min(side, len(embeds) - 1)] for embeds in of_picture] for side in (NULL, SUBJECT) for of_picture in named]
    rows_of = rows_of_pictures(len(inputs), guidance, lambda side, number: side * len(inputs) + number)
    with branches_attached(unet, layout, attached, rows_of, manner, words if any(named) else (), len(inputs), places, gates):
        yield


def rows_of_pictures(
    pictures: int, guidance: bool | None, row: Callable[[int, int], int | None]
) -> Callable[[Tensor, Tensor], Rows]:
    """What tells the rows of a UNet call's chunks, one for each picture on each side of the guidance. row: of a side and the number of a
    picture, None for none."""
    last: tuple[Any, int, tuple[int, ...]] | None = None

    def rows_of(latents: Tensor, text: Tensor) -> list[int | None]:
        """The batch is looked at once a sampling, since that waits for the device: pipelines hand over the same text at every step."""
        nonlocal last
        count = latents.shape[0]
        if last is None or last[0] is not text or last[1] != count:
            last = text, count, sides_of(latents, text, guidance)
            if count % (len(last[2]) * pictures):
                raise ValueError(
                    f"The UNet got {count} latents for the subjects of {pictures} pictures; expected as many on each side."
                )
        return [row(side, number) for side in last[2] for number in range(pictures)]

    return rows_of


def sides_of(latents: Tensor, text: Tensor, guidance: bool | None = None) -> tuple[int, ...]:
    """Which sides of the guidance a batch is made of, in order: NULL and SUBJECT.

    Pipelines lay the same latents behind each other, once a side: [unconditional | conditional], or with perturbed-attention guidance
    [unconditional | conditional | conditional]. Different latents are different pictures, all of them conditional.
    """
    if isinstance(text, tuple):  # an IP-Adapter's pictures lie behind it
        text = text[0]
    count = latents.shape[0]
    repeated = next((times for times in (3, 2) if count % times == 0 and _repeats(latents, times)), 1)
    if guidance is False:
        return (SUBJECT,) * repeated
    if repeated == 1:
        if guidance:
            raise ValueError(
                f"The UNet got {count} different latents, expected every picture's twice, for classifier-free guidance. Pass a "
                "guidance_scale above 1 to the pipeline, or guidance=False here."
            )
        return (SUBJECT,)
    if guidance is None and _repeats(text, repeated):
        raise ValueError(
            "The prompt and the negative prompt are the same, so it cannot be found out which of the UNet's batch is conditional. "
            "Pass guidance=True if the pipeline draws with classifier-free guidance, else guidance=False."
        )
    return (NULL, *(SUBJECT,) * (repeated - 1))


def _repeats(batch: Tensor, times: int) -> bool:
    first, *others = batch.chunk(times)
    return all(torch.equal(first, other) for other in others)
