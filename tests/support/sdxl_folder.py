"""A tiny Stable Diffusion XL as people have it on disk: a diffusers folder, a vision model's folder, an adapter, data to train on.

Its models are those of the golden case pipeline_sdxl, its words those of the cases' prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from diffusers import DDPMScheduler
from PIL import Image, ImageDraw
from support import golden_mip

from ssr_core.methods.mip import formats
from ssr_core.methods.mip.adapter import MIPAdapter, fingerprint

CASE = "pipeline_sdxl"
SIDE = 128
"""Of its pictures; its VAE halves them three times, to the UNet's 16."""


class Folders(NamedTuple):
    model: Path
    vision: Path

    @property
    def named(self) -> dict[str, str]:
        """As a training configuration names them."""
        return {"base": str(self.model), "vision_encoder": str(self.vision)}


def folders(parent: Path) -> Folders:
    base = golden_mip.base(CASE)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        getattr(base, name).save_pretrained(parent / "model" / name)
    noise_schedule().save_pretrained(parent / "model" / "scheduler")
    base.vision_encoder.save_pretrained(parent / "vision")
    return Folders(parent / "model", parent / "vision")


def noise_schedule() -> Any:
    told = golden_mip.case(CASE)["params"]["scheduler"]
    return DDPMScheduler(
        beta_start=told["beta_start"],
        beta_end=told["beta_end"],
        beta_schedule=told["schedule"],
        timestep_spacing=told["spacing"],
        steps_offset=told["steps_offset"],
    )


def adapter_file(path: Path, name: str = CASE, gated: bool = True) -> Path:
    """A case's adapter in our format; not gated: as it is converted from a plain IP-Adapter."""
    adapter: MIPAdapter = golden_mip.adapter(name)
    state = {
        key: value.zero_() if key.endswith(".gate") and not gated else value for key, value in adapter.state_dict().items()
    }
    formats.write(formats.Weights(adapter.config, state, fingerprint(state, adapter.config)), path)
    return path


def scenes(folder: Path, count: int = 4) -> Path:
    """Pictures with two named things each, and masks of them, as jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (150, 180, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        subjects = []
        for name, left in (("cat", 20), ("chair", 100)):
            mask = Image.new("L", (180, 150))
            ImageDraw.Draw(mask).rectangle((left, 30, left + 50 + number, 110), fill=255)
            mask.save(folder / f"{number}_{name}.png")
            subjects.append({"query": name, "mask": f"{number}_{name}.png"})
        lines.append(json.dumps({"file_name": f"{number}.png", "text": "a cat sitting on a chair", "subjects": subjects}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder
