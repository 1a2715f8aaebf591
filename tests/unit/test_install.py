"""install.py as ComfyUI-Manager and people run it: a program of its own, in a pack that lies in a ComfyUI."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from support import http_server
from support.http_server import Page

from ssr_core import weights

ROOT = Path(__file__).parents[2]
DEFAULT = [weight for weight in weights.read_manifest() if weight.default]
ENTRY = json.loads((ROOT / "weights_manifest.json").read_text(encoding="utf-8"))["files"][2]


@dataclass
class Host:
    """A ComfyUI with a copy of the pack in it, as far as install.py can see."""

    base: Path

    @property
    def models(self) -> Path:
        return self.base / "models"

    @property
    def pack(self) -> Path:
        return self.base / "custom_nodes" / "ComfyUI-SSR-Encoder"

    def command(self, *arguments: str) -> dict:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "NO_PROXY": "127.0.0.1"}
        environment |= {"HF_HOME": str(self.base / "hf_home"), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
        return {
            "args": [sys.executable, "install.py", *arguments],
            "cwd": self.pack,
            "env": environment,
            "stdin": subprocess.DEVNULL,
            "text": True,
        }

    def run(self, *arguments: str, endpoint: str | None = None) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments)
        command["env"] |= {"HF_ENDPOINT": endpoint} if endpoint else {}
        return subprocess.run(**command, capture_output=True, timeout=60, check=False)

    def listing(self, folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def manifest(self, *entries: dict) -> None:
        (self.pack / "weights_manifest.json").write_text(json.dumps({"files": entries}), encoding="utf-8")


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path / "ComfyUI")
    host.models.mkdir(parents=True)
    host.pack.mkdir(parents=True)
    for name in ("install.py", "weights_manifest.json"):
        shutil.copy(ROOT / name, host.pack)
    shutil.copytree(ROOT / "ssr_core", host.pack / "ssr_core", ignore=shutil.ignore_patterns("__pycache__"))
    return host


@pytest.fixture
def hub():
    with http_server.running() as server:
        yield server


def model(rows: int = 1) -> bytes:
    """A file in which the manifest's entry "tiny" finds what it looks for."""
    return save({"vision.weight": np.zeros((4, 3), np.float32), "noise": np.arange(rows * 65_536, dtype=np.float32)})


def tiny(name: str = "tiny") -> dict:
    """An entry of the manifest for a file that a test can send."""
    changes = {"id": name, "name": f"{name}.safetensors", "remote_name": f"{name}.safetensors", "part": name}
    return ENTRY | changes | {"repository": "someone/a-model", "size": None, "sha256": None, "holds": {"vision.weight": [4, 3]}}


def path_on_hub(name: str = "tiny") -> str:
    return f"/someone/a-model/resolve/main/{name}.safetensors"


# Without arguments, as ComfyUI-Manager runs it


def test_it_makes_the_model_folder_and_lists_each_missing_file_with_address_and_folder(host):
    finished = host.run()
    assert (finished.returncode, finished.stderr) == (0, "")
    assert (host.models / "ssr_encoder").is_dir()
    assert len(DEFAULT) == 3
    for weight in DEFAULT:
        assert weight.name in finished.stdout
        assert weight.url in finished.stdout
        assert f"into {host.models / weight.folders[0]}" in finished.stdout
    assert "python install.py --download" in finished.stdout


def test_it_can_be_run_again_and_changes_nothing(host):
    first = host.run()
    before = sorted(host.base.rglob("*"))
    second = host.run()
    assert (second.returncode, second.stdout, second.stderr) == (0, first.stdout, "")
    assert sorted(host.base.rglob("*")) == before


def test_it_writes_nothing_into_the_pack(host):
    before = host.listing(host.pack)
    host.run()
    host.run("--check")
    assert host.listing(host.pack) == before


def test_it_imports_nothing_heavy_and_is_quick(host):
    for library in ("torch", "numpy", "safetensors", "comfy", "folder_paths", "huggingface_hub", "gdown"):
        (host.pack / f"{library}.py").write_text(f"raise SystemExit('imported {library}')")
    started = time.monotonic()
    finished = host.run()
    assert (finished.returncode, finished.stderr) == (0, "")
    assert time.monotonic() - started < 5


def test_with_all_files_in_place_it_says_one_line(host):
    for weight in DEFAULT:
        weight.place(host.models).parent.mkdir(exist_ok=True)
        weight.place(host.models).touch()
    finished = host.run()
    assert (finished.returncode, finished.stderr, len(finished.stdout.splitlines())) == (0, "", 1)


@pytest.mark.parametrize("folder", ["ssr_encoder", "ssr"])
def test_the_official_pair_serves_as_well_as_the_safetensors_pair(host, folder):
    (host.models / folder).mkdir()
    for name in ("pytorch_model.bin", "pytorch_model_1.bin"):
        (host.models / folder / name).touch()
    finished = host.run()
    assert "ssr_aligner" not in finished.stdout
    assert "ssr_layers" not in finished.stdout
    assert "clip-vit-large-patch14.safetensors" in finished.stdout


def test_it_says_how_large_every_file_is_and_all_together(host):
    said = host.run("--all").stdout
    for weight in weights.read_manifest():
        assert weight.bytes_expected > 0
        (line,) = (line for line in said.splitlines() if line.startswith(f"  {weight.name}:") and weight.purpose in line)
        assert f"{weight.bytes_expected / 1e6:,.0f} MB)" in line
        assert ("about" in line.split(";")[-1]) == (weight.size is None)
    together = sum(weight.bytes_expected for weight in weights.read_manifest()) / 1e6
    assert f"Together about {together:,.0f} MB." in said


@pytest.mark.parametrize("linked", ["the pack", "custom_nodes"])
def test_it_finds_the_comfyui_through_a_symlink(host, tmp_path, linked):
    """The shell keeps the way it went; ComfyUI-Manager's own shell is in the ComfyUI."""
    what = host.pack if linked == "the pack" else host.pack.parent
    elsewhere = tmp_path / "elsewhere" / ("my clone" if linked == "the pack" else "nodes of all")
    elsewhere.parent.mkdir()
    shutil.move(what, elsewhere)
    what.symlink_to(elsewhere, target_is_directory=True)
    real = host.pack.resolve()
    command = host.command() | {"cwd": real}
    for shell in (host.pack, host.base):
        environment = {**command["env"], "PWD": str(shell)}
        finished = subprocess.run(**(command | {"env": environment}), capture_output=True, timeout=60, check=False)
        assert (finished.returncode, finished.stderr) == (0, "")
        assert f"into {host.models / 'clip_vision'}" in finished.stdout
    lost = subprocess.run(**(command | {"env": {**command["env"], "PWD": "/"}}), capture_output=True, timeout=60, check=False)
    assert "--models-dir FOLDER" in lost.stdout, "there is no way back"


@pytest.mark.parametrize("folder", ["custom_nodes", "git"])
def test_outside_a_comfyui_it_asks_for_the_models_folder_and_succeeds(host, tmp_path, folder):
    pack = tmp_path / "not a ComfyUI" / folder / host.pack.name
    shutil.copytree(host.pack, pack)
    if folder == "git":
        (pack.parent.parent / "models").mkdir()
    before = sorted((tmp_path / "not a ComfyUI").rglob("*"))
    for arguments, code in (((), 0), (("--download",), 1), (("--check",), 1)):
        finished = subprocess.run(**(host.command(*arguments) | {"cwd": pack}), capture_output=True, timeout=60, check=False)
        assert (finished.returncode, finished.stderr) == (code, ""), arguments
        assert "python install.py --models-dir FOLDER" in finished.stdout
        assert DEFAULT[0].url in finished.stdout
    assert sorted((tmp_path / "not a ComfyUI").rglob("*")) == before


def test_a_comfyui_that_has_no_models_folder_yet_gets_one(host):
    host.models.rmdir()
    (host.base / "main.py").touch()
    assert host.run().returncode == 0
    assert (host.models / "ssr_encoder").is_dir()


def test_a_model_folder_that_cannot_be_made_is_no_failure(host):
    (host.models / "ssr_encoder").write_text("a file where the folder should be")
    finished = host.run()
    assert finished.returncode == 0
    assert f"{host.models / 'ssr_encoder'} cannot be made" in finished.stdout


# With arguments


def test_the_models_folder_can_be_named(host, tmp_path):
    elsewhere = tmp_path / "more models"
    assert host.run("--models-dir", str(elsewhere)).returncode == 2
    assert not elsewhere.exists()
    elsewhere.mkdir()
    finished = host.run("--models-dir", str(elsewhere))
    assert finished.returncode == 0
    assert f"into {elsewhere / 'clip_vision'}" in finished.stdout
    assert (elsewhere / "ssr_encoder").is_dir()
    assert not (host.models / "ssr_encoder").exists()


def test_only_and_all_choose_files(host):
    only = host.run("--only", "sd15", "official-aligner").stdout
    assert [weight.id for weight in weights.read_manifest() if f"  {weight.name}:" in only] == ["official-aligner", "sd15"]
    everything = host.run("--all").stdout
    assert all(f"  {weight.name}:" in everything for weight in weights.read_manifest())
    assert host.run("--only", "sd3").returncode == 2


@pytest.mark.parametrize("method", ["mip", "mip-plus"])
def test_only_takes_a_method_for_all_its_files(host, method):
    wanted = [weight for weight in weights.read_manifest() if weight.method == method]
    said = host.run("--only", method).stdout
    assert [weight.name for weight in weights.read_manifest() if f"  {weight.name}:" in said] == [
        weight.name for weight in wanted
    ]
    assert "You also need an SDXL checkpoint" in said
    assert f"into {host.models / 'ssr_mip'}" in said
    assert " as CLIP-ViT-" in said, "towers get a name that tells them apart"


def test_a_method_is_downloaded_by_its_name(host, hub):
    host.manifest(tiny("first") | {"method": "mip", "default": False}, tiny("second") | {"default": False})
    hub.pages[path_on_hub("first")] = Page(model())
    finished = host.run("--download", "--only", "mip", endpoint=hub.url)
    assert finished.returncode == 0, finished.stderr
    assert sorted(host.listing(host.models)) == ["clip_vision/first.safetensors", "clip_vision/first.safetensors.sha256"]


def test_check_finds_a_wrong_file_and_fails(host):
    (host.models / "ssr_encoder").mkdir()
    (host.models / "ssr_encoder" / "ssr_aligner.safetensors").write_text("<html>")
    finished = host.run("--check")
    assert finished.returncode == 1
    assert "ssr_aligner.safetensors cannot be read" in finished.stderr
    assert "ssr_layers.safetensors" in finished.stdout


def test_download_fetches_checks_and_then_leaves_in_peace(host, hub):
    host.manifest(tiny())
    hub.pages[path_on_hub()] = Page(model())
    finished = host.run("--download", endpoint=hub.url)
    assert finished.returncode == 0, finished.stderr
    assert f"fetching tiny.safetensors from {ENTRY['url']}" in finished.stdout
    digest = hashlib.sha256(model()).hexdigest()
    assert host.listing(host.models) == {
        "clip_vision/tiny.safetensors": model(),
        "clip_vision/tiny.safetensors.sha256": f"{digest}  tiny.safetensors\n".encode(),
    }
    asked = len(hub.asked)
    assert host.run("--download", endpoint=hub.url).returncode == 0
    assert host.run("--check").returncode == 0
    assert len(hub.asked) == asked


def test_download_shows_its_progress_in_a_terminal(host, hub):
    pty, termios, fcntl = (pytest.importorskip(name) for name in ("pty", "termios", "fcntl"))
    host.manifest(tiny())
    hub.pages[path_on_hub()] = Page(model(rows=8))
    command = host.command("--download")
    command["env"]["HF_ENDPOINT"] = hub.url
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # a terminal without a width shows nothing
    os.set_blocking(ours, False)
    try:
        assert subprocess.run(**command, stdout=subprocess.DEVNULL, stderr=theirs, timeout=60, check=False).returncode == 0
        shown = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "tiny.safetensors" in shown
    assert "100%" in shown


def test_wrong_bytes_are_said_and_fail_and_the_other_files_still_arrive(host, hub):
    host.manifest(tiny("first"), tiny("second"))
    hub.pages[path_on_hub("first")] = Page(model(), stated_sha256="0" * 64)
    hub.pages[path_on_hub("second")] = Page(model())
    finished = host.run("--download", endpoint=hub.url)
    assert finished.returncode == 1
    assert f"expected {'0' * 64}" in finished.stderr
    assert sorted(host.listing(host.models)) == ["clip_vision/second.safetensors", "clip_vision/second.safetensors.sha256"]


def test_a_killed_download_goes_on_in_the_next_run(host, hub):
    body = model(rows=50)  # 13 MB: the library writes every 10 MB
    host.manifest(tiny())
    hub.pages[path_on_hub()] = page = Page(body, cuts=[11_000_000], stalls=True)
    command = host.command("--download")
    command["env"]["HF_ENDPOINT"] = hub.url
    weight = weights.read_manifest(host.pack / "weights_manifest.json")[0]
    staged = weights.staged_path(weight, weight.place(host.models))
    process = subprocess.Popen(**command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 30
        while not (staged.exists() and staged.stat().st_size) and time.monotonic() < limit:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    kept = staged.stat().st_size
    assert 0 < kept < len(body)
    page.stalls = False
    assert host.run("--download", endpoint=hub.url).returncode == 0
    assert hub.ranges(path_on_hub()) == [None, f"bytes={kept}-"]
    assert (host.models / "clip_vision" / "tiny.safetensors").read_bytes() == body


def test_a_missing_library_is_said_with_how_to_install_it(host):
    (host.pack / "huggingface_hub.py").write_text("raise ModuleNotFoundError(\"No module named 'huggingface_hub'\")")
    finished = host.run("--download", "--only", "aligner")
    assert finished.returncode == 1
    assert "No module named 'huggingface_hub'" in finished.stderr
    assert 'pip install -U "huggingface_hub" gdown' in finished.stderr
    assert "Traceback" not in finished.stderr
