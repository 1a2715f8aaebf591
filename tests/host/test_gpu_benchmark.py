"""benchmarks/gpu.py in ComfyUI's own UNets, on the CPU at a tiny size."""

import importlib
import sys
import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench(clip):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        gpu, host = (importlib.import_module(name) for name in ("gpu", "gpu_comfyui"))
        yield gpu.Bench(host, torch.device("cpu"), tiny=True, until=time.monotonic() + 3600)


def told(bench, *plan):
    with torch.inference_mode():
        return {row["row"]: row for row in bench.run(sys.modules["gpu"].Plan(*plan))}


SD15 = {"SSR, one", "SSR, three", "SSR, three in regions", "ELITE", "LASR"}
SDXL = {"MIP, two", "MIP, two of 16 tokens"}


@pytest.mark.parametrize(("kind", "names"), [("sd15", SD15), ("sdxl", SDXL)])
def test_every_method_acts_and_waits_for_nothing(bench, kind, names):
    found = told(bench, "profile", kind, "bf16")
    plain = found.pop("plain")
    assert set(found) == names
    for row in found.values():
        assert row["launches"] > plain["launches"] + 16, row
        assert row["waits"] == 0, row


def test_several_pictures_are_timed(bench):
    found = told(bench, "time", "sd15", "fp32", 2)
    assert set(found) == SD15
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in found.values())
