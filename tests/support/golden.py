"""Golden cases: expected outputs of Xiaojiu-z/SSR_Encoder for deterministic weights (recipe in golden_weights.py)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from support import golden_inputs, golden_weights
from torch import Tensor

DATA = Path(__file__).parents[1] / "golden" / "data"


@cache
def cases() -> dict[str, Any]:
    listing = json.loads((DATA / "cases.json").read_text())
    return {case["name"]: case for case in listing["cases"]}


@cache
def aligner_shapes() -> dict[str, list[int]]:
    return json.loads((DATA / "cases.json").read_text())["aligner_shapes"]


@cache
def mapping() -> dict[str, Any]:
    return json.loads((DATA / "mapping_sd15.json").read_text())


@cache
def outputs(name: str) -> dict[str, Tensor]:
    return load_file(DATA / cases()[name]["file"])


def weights(seed: int, shapes: dict[str, Any]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in golden_weights.state_dict(seed, shapes).items()}


def tensor(name: str, key: str, shape: tuple[int, ...]) -> Tensor:
    """An input of a case, with its gain."""
    case = cases()[name]
    gains = case.get("input_gain", {})
    return torch.from_numpy(golden_weights.tensor(case["seed"], key, shape)) * gains.get(key, 1.0)


def picture(width: int, height: int, variant: int) -> Tensor:
    """ComfyUI's IMAGE of a synthetic picture: [1, H, W, 3] in 0..1."""
    return torch.from_numpy(golden_inputs.image(width, height, variant)).float()[None] / 255


def mask(name: str, width: int, height: int) -> Tensor:
    """[H, W] in 0..1."""
    return torch.from_numpy(golden_inputs.mask(name, width, height)).float() / 255


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected| over the whole tensor."""
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-30))
