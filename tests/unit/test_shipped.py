"""What goes into the registry's zip: everything a user needs, and nothing that its scanner flags."""

import os
import re
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST_ZIP = 40e6
"""Bytes. Everybody who installs the pack downloads it."""
NOT_SHIPPED = ("tests/", "benchmarks/", "docs/", ".", "constraints.txt")

FLAGGED = {
    "network": r"\burllib\b|\brequests\b|http\.client|\bsocket\b|aiohttp|httpx",
    "databases": r"\bsqlite3\b",
    "process": r"\bsubprocess\b|os\.system|os\.popen",
    "environment": r"os\.environ|os\.getenv",
    "code from text": r"\beval\(|\bexec\(|importlib\.import_module|__import__",
    "unsafe pickles": r"weights_only\s*=\s*False|pickle\.load",
    "output": r"\bprint\(",
}
MAY_PRINT = ("install.py", "ssr_core/cli/")


def listed(*options: str) -> list[str]:
    return subprocess.run(
        ["git", "ls-files", *options], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()


@cache
def shipped() -> list[str]:
    """What comfy-cli packs: tracked files but those that .comfyignore matches, read by git's own rules."""
    left_out = set(listed("--cached", "--ignored", "--exclude-from=.comfyignore"))
    return [path for path in listed() if path not in left_out]


def test_the_zip_holds_what_users_need():
    files = set(shipped())
    needed = {
        "__init__.py", "nodes/__init__.py", "ssr_core/__init__.py", "ssr_core/hosts/comfyui/apply.py", "install.py",
        "weights_manifest.json", "pyproject.toml", "requirements.txt", "LICENSE", "README.md",
        "example_workflows/05 A subject by words.json", "locales/zh/nodeDefs.json", "web/docs/SSR_EncodeSubject.md",
        "web/ssr_subject.js", "web/lib/subject_view.js", "ssr_core/mini/weights/unet.safetensors",
        "ssr_core/mini/weights/mip_adapter.safetensors", "ssr_core/mini/weights/elite_global.safetensors",
        "ssr_core/mini/weights/elite_local.safetensors", "ssr_core/mini/weights/lasr_star.safetensors",
        "ssr_core/mini/weights/lasr_mushroom.safetensors",
    }  # fmt: skip
    assert needed <= files


@pytest.fixture(scope="module")
def comfy(tmp_path_factory):
    """Runs the registry's own tool on a clone of what is committed."""
    program = shutil.which("comfy")
    if program is None:
        pytest.skip("comfy-cli is not installed: the registry's own checks are left out")
    clone = tmp_path_factory.mktemp("registry") / "pack"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)

    def run(*arguments: str) -> tuple[str, Path]:
        command = [program, "--skip-prompt", "--no-enable-telemetry", *arguments]
        quiet = {**os.environ, "DO_NOT_TRACK": "1"}
        done = subprocess.run(command, cwd=clone, env=quiet, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr, clone

    return run


def test_the_registrys_tool_finds_nothing_to_complain_about(comfy):
    said, _ = comfy("node", "validate")
    assert "passed" in said
    assert not re.search(r"warning|error\b(?!\W+null)", said, re.IGNORECASE), said


def test_the_registrys_tool_packs_what_these_tests_look_at(comfy):
    _, clone = comfy("node", "pack")
    with zipfile.ZipFile(clone / "node.zip") as packed:
        assert sorted(name for name in packed.namelist() if not name.endswith("/")) == sorted(shipped())
    assert (clone / "node.zip").stat().st_size < LARGEST_ZIP


def test_every_template_has_a_thumbnail():
    templates = [Path(path) for path in shipped() if path.startswith("example_workflows/")]
    assert {path.stem for path in templates if path.suffix == ".jpg"} == {
        path.stem for path in templates if path.suffix == ".json"
    }


def test_everything_is_shipped_but_what_only_developers_need():
    assert [path for path in listed() if path not in shipped()] == [path for path in listed() if path.startswith(NOT_SHIPPED)]


@pytest.mark.parametrize("reason", FLAGGED)
def test_nothing_shipped_is_what_the_registrys_scanner_flags(reason):
    found = []
    for path in shipped():
        if path.endswith((".py", ".js")) and not (reason == "output" and path.startswith(MAY_PRINT)):
            for number, line in enumerate((ROOT / path).read_text().splitlines(), start=1):
                if re.search(FLAGGED[reason], line):
                    found.append(f"{path}:{number}: {line.strip()}")
    assert found == []


def test_sources_are_ascii_and_small():
    """Windows consoles still read sources as CP1252, and a reader needs one screen's subject at a time."""
    for path in shipped():
        if path.endswith(".py"):
            text = (ROOT / path).read_text()
            assert text.isascii(), path
            assert len(text.splitlines()) <= 350, path
