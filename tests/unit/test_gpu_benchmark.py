"""benchmarks/gpu.py on the CPU at a tiny size, in diffusers' UNets; tests/host/test_gpu_benchmark.py has it in ComfyUI's."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def gpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("gpu")


@pytest.fixture(scope="module")
def bench(gpu):
    host = importlib.import_module("gpu_diffusers")
    return gpu.Bench(host, torch.device("cpu"), tiny=True, until=time.monotonic() + 3600)


def told(bench, *plan):
    with torch.inference_mode():
        return {row["row"]: row for row in bench.run(sys.modules["gpu"].Plan(*plan))}


SD15 = {"SSR, one", "SSR, three", "SSR, three in regions", "ELITE", "LASR"}
SDXL = {"MIP, two", "MIP, two of 16 tokens"}


@pytest.mark.parametrize(("kind", "names"), [("sd15", SD15), ("sdxl", SDXL)])
def test_every_method_acts_and_waits_for_nothing(bench, kind, names):
    """In a warm call; more operations than a plain one, so that none is timed that does nothing."""
    found = told(bench, "profile", kind, "bf16")
    plain = found.pop("plain")
    assert set(found) == names
    for row in found.values():
        assert row["launches"] > plain["launches"] + 16, row
        assert row["waits"] == 0, row


def test_every_method_is_timed_against_plain_calls(bench):
    found = told(bench, "time", "sd15", "fp32", 2)
    assert set(found) == SD15
    assert all(row["ms"] > 0 and row["plain_ms"] > 0 and row["ratio"] > 0 for row in found.values())


def test_a_known_picture_is_encoded_without_the_vision_model(bench):
    found = told(bench, "encode", "")
    assert list(found) == ["the first picture", "another picture", "a known picture, other words"]
    assert found["a known picture, other words"]["ms"] < found["another picture"]["ms"]


def test_what_there_is_no_time_for_is_said(gpu, bench):
    late = gpu.Bench(bench.host, bench.device, True, time.monotonic())
    assert all(row["left_out"] == "no time left" for row in told(late, "time", "sd15", "fp32").values())


def test_without_a_gpu_it_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
    assert "torch finds no GPU here" in done.stderr


def test_what_fails_costs_its_own_group_alone(gpu):
    lines = []

    def run(plan):
        yield {"row": "one", "ms": 1.0}
        raise RuntimeError("out of memory")

    gpu._guarded(run, gpu.PLANS[0], lambda plan, found: lines.append(json.dumps(found)))
    assert lines == ['{"row": "one", "ms": 1.0}', '{"error": "RuntimeError: out of memory"}']
