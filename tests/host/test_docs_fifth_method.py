"""docs/a_fifth_method.md: a copy of the pack with its method draws in both hosts, the same latent, and keeps the pack's rules.

In a process of its own, where that copy is the pack.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import comfy_host, fifth_method

SCRIPT = Path(__file__).parents[1] / "support" / "draw_with_fifth_method.py"


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return fifth_method.copy(tmp_path_factory.mktemp("pack"))


def test_every_block_is_a_file_or_added_to_one(pack):
    blocks = fifth_method.blocks()
    assert list(blocks) == [
        "ssr_core/methods/tint.py", "ssr_core/hosts/diffusers/tint.py", "", "ssr_core/hosts/comfyui/tint.py",
        "nodes/wires.py, added", "nodes/tint.py", "nodes/__init__.py, added", "tests/host/test_tint.py",
    ]  # fmt: skip
    assert all((pack / name.removesuffix(fifth_method.ADDED)).is_file() for name in blocks if name)


def test_the_imports_keep_the_packs_directions(pack, monkeypatch):
    from unit import test_directions as directions

    monkeypatch.setattr(directions, "PACK", pack)
    assert "ssr_core.hosts.comfyui.tint" in directions.imports()
    directions.test_no_file_imports_one_that_stands_above_it()
    for folder in directions.APART:
        directions.test_tenants_of_a_folder_do_not_know_each_other(folder)
    directions.test_no_imports_go_round_in_a_circle()


def test_its_own_test_passes(pack):
    tests = Path(__file__).parents[1]
    for name in ("conftest.py", "host/conftest.py", "support"):
        (pack / "tests" / name).symlink_to(tests / name)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/host/test_tint.py"],
        cwd=pack,
        env={**os.environ, "PYTHONPATH": str(pack), "COMFYUI_PATH": str(comfy_host.find())},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.timeout(1800)
def test_it_draws_in_both_hosts_the_same_latent(pack):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(pack), str(comfy_host.find())],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "all of it holds"
