"""benchmarks/gpu.py in ComfyUI's own UNets, on the CPU at a tiny size."""

import pytest
from support.gpu_bench import NAMES, check_that_every_method_acts_and_waits_for_nothing, rows, tiny_bench


@pytest.fixture(scope="module")
def bench(clip):
    with tiny_bench("gpu_comfyui") as made:
        yield made


@pytest.mark.parametrize("kind", NAMES)
def test_every_method_acts_and_waits_for_nothing(bench, kind):
    check_that_every_method_acts_and_waits_for_nothing(bench, kind)


def test_several_pictures_are_timed(bench):
    found = rows(bench, "time", "sd15", "fp32", 2)
    assert set(found) == NAMES["sd15"]
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in found.values())
