"""An exponential moving average of the trained weights, kept where the weights are (also as shards).

The step is torch's get_ema_multi_avg_fn. The rest is ours because with either library a run's numbers or files would change.
torch's AveragedModel deep-copies the wrapped module (so no shards), copies at its first update where ours averages, and cannot put
its values in place. diffusers' EMAModel has this decay with update_after_step=-1, but rounds otherwise (with foreach=True still up
to a decay of a half, the first eight steps), moves the weights to the CPU and back for every swap, and saves under other names,
from which the checkpoints that exist would have to be translated: more code than this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """Average of parameters: decay * average + (1 - decay) * weights after every step."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay
        self.values: list[Tensor] = [parameter.detach().clone() for parameter in self.parameters]
        self.updates = 0

    def update(self) -> None:
        """One step of the average. It follows faster at first, so that it forgets the start."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        get_ema_multi_avg_fn(decay)(self.values, [parameter.detach() for parameter in self.parameters], self.updates)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters hold the average for the length of a with-block."""
        before = [parameter.detach().clone() for parameter in self.parameters]
        self._put(self.values)
        try:
            yield
        finally:
            self._put(before)

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where it is not the state of these parameters."""
        values, updates = state["values"], state["updates"]
        if [value.shape for value in values] != [own.shape for own in self.values] or type(updates) is not int or updates < 0:
            raise ValueError("The average in the checkpoint does not fit the configuration. Go on from another checkpoint.")
        self.values = [value.to(own.device) for value, own in zip(values, self.values, strict=True)]
        self.updates = updates
