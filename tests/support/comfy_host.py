"""A real ComfyUI in this process: found where users have it, on the CPU, with the pack loaded the way the host loads it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

PACK = Path(__file__).parents[2]


@cache
def find() -> Path | None:
    """$COMFYUI_PATH, else the ComfyUI that encloses this pack, else ~/comfy/ComfyUI."""
    named = os.environ.get("COMFYUI_PATH")
    places = [Path(named)] if named else [*PACK.parents, Path.home() / "comfy" / "ComfyUI"]
    return next((place for place in places if (place / "comfy" / "model_patcher.py").is_file()), None)


@cache
def missing() -> str | None:
    """What keeps the host tests from running here, and what to do about it; None where nothing does."""
    place = find()
    if place is None:
        return "no ComfyUI found: set COMFYUI_PATH or install it at ~/comfy/ComfyUI to run the host tests"
    needed = (place / "requirements.txt").read_text(encoding="utf-8").partition("#non essential")[0]
    lacking = [name for name in re.findall(r"^[\w.-]+", needed, re.MULTILINE) if not _installed(name)]
    if lacking:
        return f"ComfyUI is at {place}, but this Python lacks {', '.join(lacking)}: pip install -r {place / 'requirements.txt'}"
    return None


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@cache
def start(cpu: bool = True) -> None:
    """Make comfy importable, with torch's own attention; cpu False leaves the device to the host."""
    sys.path.insert(0, str(find()))
    from comfy.cli_args import args

    args.cpu = cpu
    args.use_pytorch_cross_attention = True
    args.disable_api_nodes = True
    args.fp32_text_enc = True


def started() -> None:
    """Make comfy importable, on the device that it was started on if it was."""
    if "comfy" not in sys.modules:
        start()


@cache
def pack() -> ModuleType:
    """The pack as a package of its own name, like load_custom_node does it."""
    started()
    name = "ssr_encoder_pack"
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def part(path: str) -> Any:
    """A module of the pack: part("ssr_core.hosts.comfyui.apply")."""
    return importlib.import_module(f"{pack().__name__}.{path}")
