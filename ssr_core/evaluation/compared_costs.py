"""What a method costs on Mini: operations and memory of a step, seconds to make a subject, and the size of its file."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..hosts.diffusers.base import Base
from ..hosts.diffusers.encoders import vision_model
from ..methods.elite import subject_file as elite_file
from ..methods.lasr import inversion
from ..methods.lasr import subject_file as lasr_file
from ..methods.mip import object_file
from ..methods.ssr import subject_file
from ..mini.scene import SIDE
from .drawer import Drawer, Sampling, Selection
from .elite import SelectedWord
from .learned import Taught
from .mip import SelectedObject
from .peak_memory import peak_of
from .selectivity import Case, Setting, select
from .ssr import SelectedSubject

TIMES = 3
"""A subject that is made at once is timed as often, after a first time that does not count."""


def operations(drawer: Drawer[Any], case: Case, setting: Setting) -> int:
    """Of one step with guidance: what a picture of one step more takes. What is computed once for a picture is not in it."""
    selections = [select(drawer, case, setting.query_by)]

    def counted(steps: int) -> int:
        sampling = Sampling(SIDE, steps, setting.guidance, setting.strength)
        # The fused attention of CPUs is no operation that torch counts; the plain one is two products of matrices, which are.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            drawer.draw(selections, [case.prompt], [0], sampling)
        return counter.get_total_flops()

    return counted(3) - counted(2)


def memory(drawer: Drawer[Any], unet: nn.Module, case: Case | None, setting: Setting, prompt: str) -> int:
    """Bytes of all tensors but weights while the UNet of a picture's drawing runs, at the most. case: whose subjects are drawn, None for
    none."""
    selections = [select(drawer, case, setting.query_by) if case else []]
    with peak_of(unet) as peak:
        drawer.draw(selections, [prompt], [0], Sampling(SIDE, 2, setting.guidance, setting.strength))
    return peak.bytes


def seconds(drawer: Drawer[Any], base: Base, case: Case, setting: Setting) -> float:
    """To make one of a case's subjects of a picture that was not seen before, the median of some times."""
    vision = vision_model(base.vision_encoder)
    taken = []
    for _ in range(1 + TIMES):
        vision.features.clear()
        vision.derived.clear()
        before = time.perf_counter()
        select(drawer, case, setting.query_by)
        taken.append(time.perf_counter() - before)
    return statistics.median(taken[1:]) / len(case.wanted)


def size(selection: Selection) -> int:
    """Bytes of the file that its method's Save node or command writes of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "subject.safetensors"
        if isinstance(selection, SelectedSubject):
            subject_file.save((selection.subject,), path)
        elif isinstance(selection, SelectedObject):
            object_file.save((selection.thing,), path)
        elif isinstance(selection, SelectedWord):
            elite_file.save((selection.subject,), path)
        elif isinstance(selection, Taught) and isinstance(selection.made, Tensor):
            inversion.save(selection.made, path)
        elif isinstance(selection, Taught):
            lasr_file.save(selection.made, path)
        else:
            raise TypeError(selection)
        return path.stat().st_size
