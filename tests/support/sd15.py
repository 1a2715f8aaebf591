"""Files at SD1.5's real shapes with generated weights: checkpoint, CLIP vision, and the pair that Xiaojiu-z/SSR_Encoder releases.

No pretrained weights are needed to show that files load and numbers agree; what such a model draws is noise. Run as a program it
writes the files into a models folder.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from support import comfy_host, golden
from torch import Tensor, nn

CHECKPOINT = "generated-sd15.safetensors"
CLIP_VISION = "generated-clip-vit-large-patch14.safetensors"
ALIGNER, LAYERS = "pytorch_model.bin", "pytorch_model_1.bin"
BYTES = "2.8 GB"

_POOL = torch.randn(1 << 22, generator=torch.Generator().manual_seed(15))
"""Normal numbers that all weights are cut from: drawing a thousand million of them would take minutes."""


def generated(shapes: Mapping[str, torch.Size | list[int]], dtype: torch.dtype = torch.float16) -> dict[str, Tensor]:
    """N(0, 1/fan_in), gains near 1, biases near 0; each tensor a cut at an offset of its own."""
    state = {}
    for number, (name, shape) in enumerate(shapes.items()):
        size = torch.Size(shape)
        offset = (number * 7919 * 64) % (len(_POOL) // 2)
        pool = _POOL[offset:]
        repeats = -(-size.numel() // len(pool))
        noise = (pool.repeat(repeats) if repeats > 1 else pool)[: size.numel()].view(size)
        if len(size) >= 2:
            value = noise / (size[1:].numel()) ** 0.5
        elif name.endswith("bias"):
            value = 0.1 * noise
        else:
            value = 1 + 0.1 * noise
        state[name] = value.to(dtype).contiguous()
    return state


def shapes(module: nn.Module, prefix: str) -> dict[str, torch.Size]:
    return {prefix + name: tensor.shape for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


def write(models: Path) -> None:
    """Write all files below a models folder: 2.1 GB checkpoint, 0.6 GB vision model, 0.1 GB encoder."""
    write_base(models)
    (models / "ssr_encoder").mkdir(parents=True, exist_ok=True)
    table = golden.mapping()
    torch.save(generated(table["aligner_shapes"], torch.float32), models / "ssr_encoder" / ALIGNER)
    torch.save(generated(table["layers_shapes"], torch.float32), models / "ssr_encoder" / LAYERS)


def write_base(models: Path) -> None:
    """Write what every method on SD1.5 stands on: checkpoint and vision model."""
    comfy_host.start()
    import comfy.model_base
    import comfy.supported_models
    import diffusers
    import transformers
    from support import tiny

    for folder in ("checkpoints", "clip_vision"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    described = comfy.supported_models.SD15({**tiny.UNET_CONFIG, "model_channels": 320})
    described.set_inference_dtype(torch.float32, None)
    unet = comfy.model_base.BaseModel(described, device="meta").diffusion_model
    with torch.device("meta"):
        text = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT))
        vision = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VISION))
    text_shapes = {
        # transformers 5 dropped the prefix that every published checkpoint has.
        "cond_stage_model.transformer.text_model." + name.removeprefix("text_model."): shape
        for name, shape in shapes(text, "").items()
    }
    vae = diffusers.AutoencoderKL(**VAE)
    checkpoint = {**shapes(unet, "model.diffusion_model."), **text_shapes, **ldm_vae_shapes(vae)}
    save_file(generated(checkpoint), models / "checkpoints" / CHECKPOINT)

    vision_shapes = {
        (name if name.startswith("v") else f"vision_model.{name}"): shape for name, shape in shapes(vision, "").items()
    }
    save_file(generated(vision_shapes), models / "clip_vision" / CLIP_VISION)


TEXT = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu", "vocab_size": 49408, "projection_dim": 768,
}  # fmt: skip
VISION = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 224,
    "patch_size": 14, "hidden_act": "quick_gelu", "projection_dim": 768,
}  # fmt: skip
UNET = {
    "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8, "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
}  # fmt: skip
VAE = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2, "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip


def ldm_vae_shapes(vae: nn.Module) -> dict[str, list[int]]:
    """The autoencoder under the names of a single-file checkpoint."""
    levels = len(VAE["block_out_channels"])  # type: ignore[arg-type]
    renamed = {}
    for name, shape in shapes(vae, "").items():
        for level in range(levels):
            name = name.replace(f"down_blocks.{level}.resnets.", f"down.{level}.block.")
            name = name.replace(f"down_blocks.{level}.downsamplers.0.", f"down.{level}.downsample.")
            name = name.replace(f"up_blocks.{level}.resnets.", f"up.{levels - 1 - level}.block.")
            name = name.replace(f"up_blocks.{level}.upsamplers.0.", f"up.{levels - 1 - level}.upsample.")
        name = name.replace("mid_block.resnets.0.", "mid.block_1.").replace("mid_block.resnets.1.", "mid.block_2.")
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0." in name:
            name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
            for theirs, ours in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
                name = name.replace(f".{theirs}.", f".{ours}.")
            if len(shape) == 2:
                shape = [*shape, 1, 1]
        renamed["first_stage_model." + name] = list(shape)
    return renamed


if __name__ == "__main__":
    write(Path(sys.argv[1]))
