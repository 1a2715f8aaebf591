"""A small weight file as a hub and a drive offer it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from ssr_core.weights import WeightFile, staged_path

CHUNK = 1024
PATH = "/someone/a-model/resolve/main/model.safetensors"
FOLDER_ID = "F" * 33
FILE_ID = "A" * 33
LISTING = f"/embeddedfolderview?id={FOLDER_ID}"
DRIVE_PATH = f"/uc?id={FILE_ID}"


def model(seed: int = 0) -> bytes:
    """A small safetensors file with the tensor that identifies it; another seed is another file of the same size."""
    noise = np.random.default_rng(seed).integers(0, 255, (60, CHUNK), dtype=np.uint8)
    return save({"vision.weight": np.zeros((4, 3), np.float32), "noise": noise})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


BODY = model()
WEIGHT = WeightFile(
    id="tiny",
    part="clip_vision",
    purpose="a model for tests",
    name="tiny.safetensors",
    folders=("clip_vision", "older"),
    url="https://example.org/someone/a-model",
    host="hub",
    repository="someone/a-model",
    remote_name="model.safetensors",
    size=None,
    sha256=None,
    licence="MIT",
    default=True,
    holds={"vision.weight": (4, 3)},
)
DRIVEN = replace(WEIGHT, host="drive", repository=FOLDER_ID, remote_name="pytorch_model.bin")


def names(models: Path) -> list[str]:
    """Every file below the models folder."""
    return sorted(path.relative_to(models).as_posix() for path in models.rglob("*") if path.is_file())


def staged(models: Path, content: bytes, weight: WeightFile = WEIGHT) -> Path:
    """What an earlier run had when it was stopped."""
    path = staged_path(weight, weight.place(models))
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path
