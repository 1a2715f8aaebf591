"""ComfyUI's own nodes between MODELs, with settings under which they act on the tiny UNets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import neighbours


def lora(model: Any) -> Any:
    import comfy.sd

    generator = torch.Generator().manual_seed(1)
    state = {}
    for part in ("attn1_to_q", "attn2_to_q", "attn2_to_out_0"):
        name = f"lora_unet_mid_block_attentions_0_transformer_blocks_0_{part}"
        state |= {
            f"{name}.lora_up.weight": torch.randn(128, 4, generator=generator) / 4,
            f"{name}.lora_down.weight": torch.randn(4, 128, generator=generator) / 4,
            f"{name}.alpha": torch.tensor(4.0),
        }
    return comfy.sd.load_lora_for_models(model, None, state, 1.0, 0.0)[0]


def freeu(model: Any) -> Any:
    from comfy_extras.nodes_freelunch import FreeU_V2

    return neighbours.run(FreeU_V2, model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2)[0]


def perturbed_attention_guidance(model: Any) -> Any:
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    return neighbours.run(PerturbedAttentionGuidance, model=model, scale=3.0)[0]


def self_attention_guidance(model: Any) -> Any:
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    return neighbours.run(SelfAttentionGuidance, model=model, scale=0.5, blur_sigma=2.0)[0]


def rescale_cfg(model: Any) -> Any:
    from comfy_extras.nodes_model_advanced import RescaleCFG

    return neighbours.run(RescaleCFG, model=model, multiplier=0.7)[0]


def hypertile(model: Any) -> Any:
    from comfy_extras.nodes_hypertile import HyperTile

    return neighbours.run(HyperTile, model=model, tile_size=64, swap_size=1, max_depth=1, scale_depth=False)[0]


def token_merging(model: Any) -> Any:
    from comfy_extras.nodes_tomesd import TomePatchModel

    return neighbours.run(TomePatchModel, model=model, ratio=0.3)[0]


def deep_shrink(model: Any) -> Any:
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

    return neighbours.run(
        PatchModelAddDownscale, model=model, block_number=3, downscale_factor=2.0, start_percent=0.0, end_percent=1.0,
        downscale_after_skip=True, downscale_method="bicubic", upscale_method="bicubic",
    )[0]  # fmt: skip


def lcm_sampling(model: Any) -> Any:
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    return neighbours.run(ModelSamplingDiscrete, model=model, sampling="lcm", zsnr=False)[0]


def normalized_attention_guidance(model: Any) -> Any:
    """Only the newer host has it."""
    nodes = pytest.importorskip("comfy_extras.nodes_nag")
    return neighbours.run(nodes.NAGuidance, model=model, nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5)[0]


ALL = [
    lora, freeu, perturbed_attention_guidance, self_attention_guidance, rescale_cfg, hypertile, token_merging, deep_shrink,
    lcm_sampling, normalized_attention_guidance,
]  # fmt: skip
