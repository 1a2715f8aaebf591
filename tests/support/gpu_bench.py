"""benchmarks/gpu.py on the CPU at a tiny size, in either host and in neither."""

import importlib
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = {
    "sd15": {"SSR, one", "SSR, three", "SSR, three in regions", "ELITE", "LASR"},
    "sdxl": {"MIP, two", "MIP, two of 16 tokens"},
}


@contextmanager
def tiny_bench(host):
    """host: the name of the module that runs it, gpu_diffusers, gpu_comfyui or gpu_modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        gpu, module = (importlib.import_module(name) for name in ("gpu", host))
        yield gpu.Bench(module, torch.device("cpu"), tiny=True, until=time.monotonic() + 3600)


def rows(bench, *plan):
    """What a plan prints, by row."""
    with torch.inference_mode():
        return {row["row"]: row for row in bench.run(sys.modules["gpu"].Plan(*plan))}


def check_that_every_method_acts_and_waits_for_nothing(bench, kind):
    """In a warm call; more operations than a plain one, so that none is timed that does nothing."""
    found = rows(bench, "profile", kind, "bf16")
    plain = found.pop("plain")
    assert set(found) == NAMES[kind] - (set() if bench.host.WHOLE_STEP else {"LASR"})
    for row in found.values():
        assert row["launches"] > plain["launches"] + 16, row
        assert row["waits"] == 0, row
