"""benchmarks/gpu.py on the CPU at a tiny size, in diffusers' UNets; tests/host/test_gpu_benchmark.py has it in ComfyUI's."""

import subprocess
import sys
import time

import pytest
import torch
from support.gpu_bench import (
    BENCHMARKS,
    NAMES,
    check_that_every_method_acts_and_waits_for_nothing,
    rows,
    tiny_bench,
)


@pytest.fixture(scope="module")
def bench():
    with tiny_bench("gpu_diffusers") as made:
        yield made


@pytest.mark.parametrize("kind", NAMES)
def test_every_method_acts_and_waits_for_nothing(bench, kind):
    check_that_every_method_acts_and_waits_for_nothing(bench, kind)


def test_every_method_is_timed_against_plain_calls(bench):
    found = rows(bench, "time", "sd15", "fp32", 2)
    assert set(found) == NAMES["sd15"]
    assert all(row["ms"] > 0 and row["plain_ms"] > 0 and row["ratio"] > 0 for row in found.values())


def test_a_known_picture_is_encoded_without_the_vision_model(bench):
    found = rows(bench, "encode", "")
    assert list(found) == ["the first picture", "another picture", "a known picture, other words"]
    assert found["a known picture, other words"]["ms"] < found["another picture"]["ms"]


def test_what_there_is_no_time_for_is_said(bench):
    late = type(bench)(bench.host, bench.device, True, time.monotonic())
    assert all(row["left_out"] == "no time left" for row in rows(late, "time", "sd15", "fp32").values())


def test_without_a_gpu_it_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu.py"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode != 0
