"""benchmarks/gpu.py on the CPU at a tiny size, in diffusers' UNets and without; tests/host/test_gpu_benchmark.py has it in ComfyUI's."""

import json
import os
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


@pytest.fixture(scope="module")
def alone():
    with tiny_bench("gpu_modules") as made:
        yield made


@pytest.mark.parametrize("kind", NAMES)
def test_cross_attentions_alone_do_what_a_unet_does_there(alone, kind):
    check_that_every_method_acts_and_waits_for_nothing(alone, kind)


def test_cross_attentions_alone_are_those_of_the_unet_that_the_operations_are_counted_for(alone):
    (plain, *_) = alone.rows(sys.modules["gpu"].Plan("time", "sd15", "fp32"))
    with plain.open() as call:
        assert call().shape == (2, 16 * 16, 32)
    assert len(alone.unet("sd15", "fp32").layers) == 16
    assert len(alone.unet("sdxl", "fp32").layers) == 70


WITHOUT = """
import runpy, sys
for name in ("diffusers", "transformers", "safetensors", "einops", "pydantic", "pytest", "comfy"):
    sys.modules[name] = None
sys.argv = ["gpu.py", "--device", "cpu", "--tiny", "--seconds", "75"]
sys.path.insert(0, "benchmarks")
runpy.run_path("benchmarks/gpu.py", run_name="__main__")
"""


def test_with_torch_alone_the_cross_attentions_are_measured(tmp_path):
    environment = {**os.environ, "COMFYUI_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False, timeout=600, env=environment, cwd=BENCHMARKS.parent
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["passed_over"] for one in told if "passed_over" in one] == ["comfyui", "diffusers"]
    assert any(one.get("host") == "cross-attentions alone" for one in told)
    measured = {one["row"] for one in told if one.get("what") == "time" and "ratio" in one}
    assert measured >= NAMES["sd15"] - {"LASR"}
    assert not any("goal" in one for one in told)
    failed = {one["what"] for one in told if "error" in one}
    assert failed <= {"encode"}, told


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
