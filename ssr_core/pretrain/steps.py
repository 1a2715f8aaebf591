"""What the base trainings share: steps with a cosine schedule and an average of the weights, checkpoints to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import text_files
from ..text_files import parse_json
from ..training import state_file
from ..training.average import Average
from ..training.config import cosine


class TimeUp(Exception):
    """The time that a run was given is over; its checkpoint is written."""


def train(
    model: nn.Module,
    loss_of: Callable[[int], tuple[Tensor, dict[str, float]]],
    steps: int,
    lr: float,
    checkpoint: Path,
    warmup: int = 100,
    decay: float = 0.998,
    weight_decay: float = 0.01,
    save_every: int = 250,
    deadline: float = math.inf,
) -> dict[str, Tensor]:
    """Train until `steps`, going on from the checkpoint if there is one. Returns the averaged weights, on the CPU.

    loss_of: step number -> loss and numbers to show. It draws its batch from the step number alone, so that a run that went on
    sees the pictures it would have seen. deadline: of time.monotonic(), at which the run saves and stops; raises TimeUp.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps, warmup))
    average = Average(list(model.parameters()), decay)
    first, seconds = 0, 0.0
    if checkpoint.exists():
        saved = state_file.read_any(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        average.load_state_dict(saved["average"])
        first, seconds = saved["step"], saved["seconds"]
    started = time.monotonic()
    for step in (bar := tqdm(range(first, steps), initial=first, total=steps, mininterval=10)):
        loss, shown = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update()
        if step % 20 == 0:
            bar.set_postfix({"loss": f"{loss.item():.4f}", **{name: f"{value:.3f}" for name, value in shown.items()}})
        late = time.monotonic() > deadline
        if (step + 1) % save_every == 0 or step + 1 == steps or late:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "average": average.state_dict(),
                "step": step + 1,
                "seconds": seconds + time.monotonic() - started,
            }
            state_file.write(state, checkpoint)
        if late and step + 1 < steps:
            raise TimeUp(f"{checkpoint.name} stopped at step {step + 1} of {steps}; the same command goes on from there.")
    with average.in_place():
        return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def read_lines(path: Path) -> list[Any]:
    """The records of a jsonl file."""
    return [parse_json(line, f"{path}, line {number}") for number, line in text_files.read_lines(path)]


def batches(count: int, size: int, seed: int, first: int) -> Iterator[Tensor]:
    """Endless batches of indices, a new shuffle every epoch, from batch number `first` on."""
    each = count // size
    number = first
    while True:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 100_003 + number // each))
        start = (number % each) * size
        yield order[start : start + size]
        number += 1
