"""Which methods can be trained: the one place in training that knows them by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import config
from .elite import ELITE
from .method import Method
from .mip import MIP
from .ssr import SSR

METHODS: dict[str, type[Method]] = {"ssr": SSR, "mip": MIP, "elite": ELITE}


def read_config(path: Path, changes: Mapping[str, Any] | None = None) -> config.TrainingConfig:
    """The configuration in a YAML file, of the class of the method that it names."""
    return config.read(path, changes or {}, {name: method.config_class for name, method in METHODS.items()})
