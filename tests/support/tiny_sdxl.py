"""What tiny.py has, shaped like Stable Diffusion XL: a MODEL, its two text encoders, and adapters, all with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from support import comfy_host, tiny
from torch import Tensor

POOLED, TEXT_WIDTH = 1280, 2048
UNET_CONFIG: dict[str, Any] = {
    "image_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 3, 3],
    "transformer_depth_middle": 3,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 3, 3, 3],
    "context_dim": TEXT_WIDTH,
    "num_heads": -1,
    "num_head_channels": 32,
    "use_linear_in_transformer": True,
    "use_spatial_transformer": True,
    "adm_in_channels": POOLED + 6 * 256,
    "num_classes": "sequential",
    "legacy": False,
}
"""The golden cases' tiny UNet (mip/cases.json, comfy_tiny) with the text that real SDXL has, so that real text encoders fit it."""

LAYOUT = {"channels": [32, 64, 128], "depths": [0, 2, 3], "resnets": 2, "heads": [1, 2, 4], "mid_depth": 3}
"""28 cross-attentions."""
CHOICES = {"start": 0.0, "end": 1.0, "curve": "constant", "layers": "all", "combine": "by word, gated"}
"""Of Apply Objects (MIP)."""


def model(config: dict[str, Any] | None = None, seed: int = 0, dtype: torch.dtype = torch.float32, cast: Any = None) -> Any:
    """MODEL: a ModelPatcher around the host's SDXL model, on the CPU. dtype: of weights; cast: of activations."""
    comfy_host.start()
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    described = comfy.supported_models.SDXL({**(config or UNET_CONFIG)})
    described.unet_config.update(num_head_channels=(config or UNET_CONFIG)["num_head_channels"])  # SDXL sets its own 64
    described.unet_config.update(dtype=dtype)
    described.set_inference_dtype(dtype, cast)
    base = comfy.model_base.SDXL(described, device="cpu")
    tiny.fill(base.diffusion_model, seed)
    base.eval()
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)


def clip(refiner: bool = False) -> Any:
    """CLIP: SDXL's two text encoders (the refiner's one), three narrow layers each, with their own tokenizers."""
    comfy_host.start()
    import comfy.sd
    import comfy.sdxl_clip
    import comfy.supported_models_base

    files = {}
    for name, width in (("l", 768), ("g", POOLED)):
        config = {
            "hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": width // 64,
            "max_position_embeddings": 77, "hidden_act": "gelu", "vocab_size": 49408, "eos_token_id": 49407, "projection_dim": width,
            "model_type": "clip_text_model",
        }  # fmt: skip
        files[f"clip_{name}_model_config"] = config
    kind = comfy.sdxl_clip.SDXLRefinerClipModel if refiner else comfy.sdxl_clip.SDXLClipModel

    def build(device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> Any:
        return kind(device=device, dtype=dtype, model_options={**(model_options or {}), **files})

    target = comfy.supported_models_base.ClipTarget(comfy.sdxl_clip.SDXLTokenizer, build)
    made = comfy.sd.CLIP(target, embedding_directory=None, tokenizer_data={}, parameters=0)
    tiny.fill(made.cond_stage_model, 5)
    return made


def clip_vision(folder: Path, layers: int = 4) -> Any:
    """CLIP_VISION with an embedding: hidden states of width 64, an embedding of width 32."""
    comfy_host.start()
    import comfy.clip_vision

    config = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": layers, "num_attention_heads": 4, "image_size": 224,
        "patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "model_type": "clip_vision_model",
        "num_channels": 3, "projection_dim": 32, "attention_dropout": 0.0,
    }  # fmt: skip
    path = folder / "vision.json"
    path.write_text(json.dumps(config))
    model = comfy.clip_vision.ClipVisionModel(str(path))
    tiny.fill(model.model, 6)
    return model


def adapter_file(path: Path, vision_width: int = 32, plus: bool = False, seed: int = 1) -> Path:
    """An adapter in our own format that fits the tiny UNet. vision_width: of the embedding, or with plus of the hidden states."""
    adapter = comfy_host.part("ssr_core.methods.mip.adapter")
    formats = comfy_host.part("ssr_core.methods.mip.formats")
    layout = comfy_host.part("ssr_core.layout").UNetLayout(**LAYOUT)
    shape = adapter.ResamplerShape(32, 32, 16, 1, 64) if plus else None
    config = adapter.AdapterConfig(layout, TEXT_WIDTH, vision_width, 6 if plus else 4, shape)
    module = adapter.MIPAdapter(config)
    tiny.fill(module, seed)
    state = module.state_dict()
    formats.write(formats.Weights(config, state, adapter.fingerprint(state, config)), path)
    return path


def mip_object(maker: str, seed: int = 0, name: str = "cat", **changes: Any) -> Any:
    """An object for the tiny UNet, of random numbers, as the pack has it. Its name has two tokens."""
    generator = torch.Generator().manual_seed(seed)
    rows = {"tokens": 4, "null_tokens": 4, "name_embeds": 2, "null_name_embeds": 2}
    given = {key: torch.randn(count, TEXT_WIDTH, generator=generator) for key, count in rows.items()}
    picture = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    core = comfy_host.part("ssr_core.methods.mip.objects")
    return core.MIPObject(**{**given, "name": name, "pictures": picture, "count": 1, "adapter": maker, **changes})


def cond(seed: int, **extra: Any) -> list[Any]:
    """CONDITIONING of random text."""
    generator = torch.Generator().manual_seed(seed)
    embeds, pooled = torch.randn(1, 77, TEXT_WIDTH, generator=generator), torch.randn(1, POOLED, generator=generator)
    return [[embeds, {"pooled_output": pooled, "width": 128, "height": 128, **extra}]]


def sample(patched: Any, **options: Any) -> Tensor:
    """tiny.sample with texts of SDXL."""
    return tiny.sample(patched, **{"positive": cond(11), "negative": cond(12), **options})
