"""What one sampling holds: everything that does not change from step to step, dropped when the sampling ends."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ...footprint import Footprint
from ...schedule import Manner, StepSchedule
from .applied import Applied

log = logging.getLogger("ssr_encoder")


class Sampling:
    """A cache for what does not change from step to step, the warnings that were given, and how far schedules are."""

    def __init__(self) -> None:
        self._warned: set[str] = set()
        self._kept: dict[tuple[Any, ...], Any] = {}

    def kept(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` gave when this key was asked for first. Keys hold the objects that they are about, never their id()."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def at_step(self, manners: Sequence[Manner], model_sampling: Any, sigmas: Tensor) -> tuple[float, ...]:
        """Strength of every manner at this step. Reads the step from the device only if a schedule needs it."""
        if all(manner.steps.always_full for manner in manners):
            return tuple(manner.strength for manner in manners)
        sigma = float(sigmas.max())
        return tuple(manner.strength * self._at(manner.steps, model_sampling, sigma) for manner in manners)

    def _at(self, schedule: StepSchedule, model_sampling: Any, sigma: float) -> float:
        """The host's own convention: percent_to_sigma of the sampling in force now, both ends included."""
        first, last = self.kept(
            ("window", schedule.start, schedule.end, model_sampling),
            lambda: [float(model_sampling.percent_to_sigma(share)) for share in (schedule.start, schedule.end)],
        )
        if not last <= sigma <= first:
            return 0.0
        if len(schedule.curve) == 1:
            return schedule.curve[0]
        progress = self._progress(model_sampling, sigma)
        return schedule.at(min(max(progress, schedule.start), schedule.end))

    def _progress(self, model_sampling: Any, sigma: float) -> float:
        """Share of the sampling at which the model sampling has this sigma: percent_to_sigma inverted by a table."""
        points = 512
        table = self.kept(
            ("progress", model_sampling),
            lambda: [-float(model_sampling.percent_to_sigma(point / points)) for point in range(1, points)],
        )
        right = bisect_left(table, -sigma)
        if right == 0 or right == len(table):
            return right / points
        low, high = table[right - 1], table[right]
        return (right + (0.0 if high == low else (-sigma - low) / (high - low))) / points

    def warn(self, message: str) -> None:
        """Log a message once in a sampling."""
        if message not in self._warned:
            log.warning("SSR-Encoder: %s", message)
            self._warned.add(message)


class Run(Sampling):
    """One sampling of branches: the applied parts, and where their subjects acted."""

    def __init__(self, parts: tuple[Applied, ...], guider: Any = None, recording: bool = False) -> None:
        super().__init__()
        self.parts = parts
        self.guider = guider
        self.sides: set[tuple[int, ...]] = set()
        """The sides (NULL, SUBJECT) of the chunks of every kind of batch that was met."""
        self.footprint = Footprint([part.query for applied in parts for part in applied.parts]) if recording else None
        self.expected_in = ""
        """Class of the UNet in which the subjects should have acted; empty while there was no step at which they should."""
        self.reached = False

    def strengths(self, model_sampling: Any, sigmas: Tensor) -> tuple[float, ...]:
        """Strength of every applied part at this step."""
        return self.at_step([applied.manner for applied in self.parts], model_sampling, sigmas)

    def check_reached(self) -> None:
        """Warn, at the end, if the subjects acted nowhere. In a single call they need not act: nodes that cache steps skip the UNet."""
        if self.expected_in and not self.reached:
            self.warn(
                f"no cross-attention of {self.expected_in} called its replacement, so the subject had no effect. Another node has "
                "probably exchanged the model's attention."
            )
