"""A tiny Stable Diffusion 1.x as people have it on disk, of ELITE's golden sampling case: a diffusers folder, a vision model's folder, the
two mappers' files as they are published, a picture with its mask. Its words are those of the case's prompts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import diffusers
import torch
from PIL import Image
from support import golden_elite, golden_recipe
from transformers import CLIPVisionModelWithProjection

from ssr_core.methods.elite import formats
from ssr_core.methods.elite.mapper import STAGES

CASE = "sample_local"
SIDE = 64
"""Of its UNet's latents; its VAE is AutoencoderTiny of eight pixels each."""


class Folders(NamedTuple):
    model: Path
    vision: Path


def folders(parent: Path) -> Folders:
    golden_elite.unet(CASE).save_pretrained(parent / "model" / "unet")
    torch.manual_seed(0)
    diffusers.AutoencoderTiny(encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8)).save_pretrained(
        parent / "model" / "vae"
    )
    golden_elite.text_encoder(CASE).save_pretrained(parent / "model" / "text_encoder")
    golden_elite.tokenizer().save_pretrained(parent / "model" / "tokenizer")
    diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1).save_pretrained(
        parent / "model" / "scheduler"
    )
    tower = golden_elite.vision_encoder(CASE)
    CLIPVisionModelWithProjection(tower.config).save_pretrained(parent / "vision")
    return Folders(parent / "model", parent / "vision")


def mappers(folder: Path) -> list[Path]:
    """global_mapper.pt and local_mapper.pt."""
    made = golden_elite.elite(CASE)
    weights = formats.of_state(
        made.config, {"global": made.global_mapper.state_dict(), "local": made.local_mapper.state_dict()}
    )
    paths = []
    for stage in STAGES:
        # Inside they are ours, since the tiny UNet's heads are not those that the published files leave unsaid.
        formats.write_stage(weights, stage, folder / f"{stage}.safetensors")
        paths.append((folder / f"{stage}.safetensors").rename(folder / f"{stage}_mapper.pt"))
    return paths


def reference(path: Path, mask: Path) -> None:
    seed = golden_elite.case(CASE)["case_seed"]
    Image.fromarray(golden_recipe.picture(seed, "input:photo", 300, 420)).save(path)
    Image.fromarray(golden_recipe.ellipse(300, 420) * 255).convert("RGB").save(mask)
