"""ELITE's two files at their real shapes with generated weights, as their authors save them, beside SD1.5's own (sd15.py)."""

from __future__ import annotations

from pathlib import Path

import torch
from support import comfy_host, sd15

GLOBAL, LOCAL = "global_mapper.pt", "local_mapper.pt"
"""The published names, by which the pair is told apart."""
BYTES = "3.1 GB"


def write(models: Path) -> None:
    """Write all files below a models folder: SD1.5's, and 0.2 GB in float32 for each mapper."""
    sd15.write_base(models)
    mapper = comfy_host.part("ssr_core.methods.elite.mapper")
    with torch.device("meta"):
        made = mapper.Elite(mapper.EliteConfig())
    (models / "ssr_elite").mkdir(parents=True, exist_ok=True)
    both = {f"{name}.{key}": value.shape for name, own in made.named_children() for key, value in own.state_dict().items()}
    state = sd15.generated(both, torch.float32)
    for name, file in (("global_mapper", GLOBAL), ("local_mapper", LOCAL)):
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        torch.save(own, models / "ssr_elite" / file)
