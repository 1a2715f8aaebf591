"""Files at SDXL's real shapes with generated weights: checkpoint, CLIP ViT-H, and the `sdxl_plus` adapter as MIP-Adapter's authors save it.

What such a model draws is noise; what it shows is that every file loads and every node runs.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from support import comfy_host, sd15, tiny
from torch import nn

CHECKPOINT = "generated-sdxl.safetensors"
CLIP_VISION = "generated-clip-vit-h.safetensors"
ADAPTER = "model_sdxl_plus.bin"
BYTES = "9.4 GB"

UNET = {
    "model_channels": 320, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10, "context_dim": 2048,
    "adm_in_channels": 2816, "num_classes": "sequential", "use_linear_in_transformer": True, "num_head_channels": 64, "num_heads": -1,
}  # fmt: skip
VISION = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16, "image_size": 224,
    "patch_size": 14, "hidden_act": "gelu", "projection_dim": 1024,
}  # fmt: skip


def write(models: Path) -> None:
    """Write all files below a models folder, in bfloat16; the adapter in float16, as published."""
    comfy_host.start()
    import comfy.model_base
    import comfy.supported_models
    import diffusers
    import transformers

    for folder in ("checkpoints", "clip_vision", "ipadapter"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    described = comfy.supported_models.SDXL({**tiny.UNET_CONFIG, **UNET})
    described.set_inference_dtype(torch.float32, None)
    unet = comfy.model_base.SDXL(described, device="meta").diffusion_model
    with torch.device("meta"):
        first = transformers.CLIPTextModel(transformers.CLIPTextConfig(**sd15.TEXT))
        vision = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VISION))
        vae = diffusers.AutoencoderKL(**sd15.VAE)
    prefix = "conditioner.embedders.0.transformer.text_model."
    texts = {prefix + name.removeprefix("text_model."): shape for name, shape in sd15.shapes(first, "").items()}
    checkpoint = {**sd15.shapes(unet, "model.diffusion_model."), **texts, **_open_clip(), **sd15.ldm_vae_shapes(vae)}
    save_file(sd15.generated(checkpoint, torch.bfloat16), models / "checkpoints" / CHECKPOINT)
    named = {name if name.startswith("v") else f"vision_model.{name}": shape for name, shape in sd15.shapes(vision, "").items()}
    save_file(sd15.generated(named, torch.bfloat16), models / "clip_vision" / CLIP_VISION)
    torch.save(_adapter(), models / "ipadapter" / ADAPTER)


def _open_clip() -> dict[str, list[int]]:
    """CLIP ViT-bigG's text encoder under the names of a single-file checkpoint."""
    width, inner, layers, vocabulary = 1280, 5120, 32, 49408
    shapes: dict[str, list[int]] = {
        "positional_embedding": [77, width],
        "token_embedding.weight": [vocabulary, width],
        "ln_final.weight": [width],
        "ln_final.bias": [width],
        "text_projection": [width, width],
        "logit_scale": [],
    }
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}."
        shapes |= {f"{block}{norm}.{part}": [width] for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
        shapes |= {f"{block}attn.in_proj_weight": [3 * width, width], f"{block}attn.in_proj_bias": [3 * width]}
        shapes |= {f"{block}attn.out_proj.weight": [width, width], f"{block}attn.out_proj.bias": [width]}
        shapes |= {f"{block}mlp.c_fc.weight": [inner, width], f"{block}mlp.c_fc.bias": [inner]}
        shapes |= {f"{block}mlp.c_proj.weight": [width, inner], f"{block}mlp.c_proj.bias": [width]}
    return {f"conditioner.embedders.1.model.{name}": shape for name, shape in shapes.items()}


def _adapter() -> dict[str, dict[str, torch.Tensor]]:
    """The adapter as its authors save it: two folders of tensors."""
    core, formats = (comfy_host.part(f"ssr_core.methods.mip.{name}") for name in ("adapter", "formats"))
    config = core.AdapterConfig(tokens=16, resampler=core.ResamplerShape())
    with torch.device("meta"):
        module: nn.Module = core.MIPAdapter(config)
    folders: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in sd15.generated({key: value.shape for key, value in module.state_dict().items()}).items():
        folder, _, official = formats.official_name(name, config).partition(".")
        folders[folder][official] = tensor[None] if name.endswith(".gate") else tensor
    return folders
