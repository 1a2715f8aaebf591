"""Small models with deterministic random weights, shaped like the real ones, for tests inside ComfyUI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from support import comfy_host, golden
from torch import Tensor

UNET_CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "legacy": False,
    "use_checkpoint": False,
}
"""SD1.5's UNet at a tenth of its width: same blocks, same sixteen cross-attentions."""

LAYOUT = {"channels": [32, 64, 128, 128], "depths": [1, 1, 1, 0], "resnets": 2, "heads": 8, "mid_depth": 1}


def fill(module: torch.nn.Module, seed: int = 0) -> None:
    """Random weights that keep activations sane: N(0, 1/fan_in), gains near 1, biases near 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                value = noise / parameter[0].numel() ** 0.5
            else:
                value = 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise
            parameter.copy_(value)


def model(config: dict[str, Any] | None = None, seed: int = 0, dtype: torch.dtype = torch.float32, cast: Any = None) -> Any:
    """MODEL: a ModelPatcher around a BaseModel with SD1.5's sampling, on the CPU. dtype: of weights; cast: of activations."""
    comfy_host.start()
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    described = comfy.supported_models.SD15({**(config or UNET_CONFIG)})
    described.unet_config.update(dtype=dtype, num_heads=(config or UNET_CONFIG)["num_heads"])  # SD15 sets its own 8
    described.set_inference_dtype(dtype, cast)
    base = comfy.model_base.BaseModel(described, device="cpu")
    fill(base.diffusion_model, seed)
    base.eval()
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)


CLIP_CONFIG: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 12,
    "max_position_embeddings": 77, "hidden_act": "quick_gelu", "vocab_size": 49408, "eos_token_id": 49407,
    "model_type": "clip_text_model",
}  # fmt: skip


def clip(path: Path, config: dict[str, Any]) -> Any:
    """CLIP: SD1.5's classes around a text encoder of this shape, with CLIP's own tokenizer. path: where to write the shape."""
    comfy_host.start()
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models_base

    path.write_text(json.dumps(config))

    class Target(comfy.supported_models_base.ClipTarget):
        pass

    def model(device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> Any:
        return comfy.sd1_clip.SD1ClipModel(
            device=device, dtype=dtype, model_options={**(model_options or {}), "clip_l_model_config": config}
        )

    target = Target(comfy.sd1_clip.SD1Tokenizer, model)
    return comfy.sd.CLIP(target, embedding_directory=None, tokenizer_data={}, parameters=0)


def encoder_file(path: Path, layout: dict[str, Any] | None = None, seed: int = 1, vision_width: int = 64) -> Path:
    """An encoder file in our own format that fits the tiny UNet and a narrow vision model."""
    core = comfy_host.part("ssr_core.methods.ssr.encoder")
    shapes = {name: tuple(value) if isinstance(value, list) else value for name, value in (layout or LAYOUT).items()}
    unet = comfy_host.part("ssr_core.layout").UNetLayout(**shapes)
    config = core.EncoderConfig(layout=unet, vision_width=vision_width, inner_width=64)
    encoder = core.SSREncoder(config)
    fill(encoder, seed)
    state = encoder.state_dict()
    metadata = {
        "format": "ssr_encoder",
        "format_version": "1",
        "config": json.dumps(config.to_dict()),
        "fingerprint": core.fingerprint(state, config),
    }
    save_file(state, path, metadata=metadata)
    return path


def subject(fingerprint: str, seed: int = 2, strength: float = 1.0, query: str = "dog") -> Any:
    core = comfy_host.part("ssr_core.methods.ssr.subject")
    generator = torch.Generator().manual_seed(seed)
    attention = torch.randn(77, 257, generator=generator).softmax(-1)
    return core.Subject(
        tokens=torch.randn(462, 768, generator=generator),
        null_tokens=torch.randn(462, 768, generator=generator),
        attention=attention,
        picture=torch.full((224, 224, 3), 128, dtype=torch.uint8),
        query=query,
        words=(core.Word(query, 1, 2),),
        encoder=fingerprint,
        source_size=(224, 224),
        strength=strength,
        word_embeds=torch.randn(1, 768, generator=generator),
    )


def apply(
    model: Any,
    encoder: Any,
    subjects: Any,
    strength: float | list[float] = 0.65,
    combine: str = "joint",
    scaling: str = "official",
    **manner: Any,
) -> Any:
    """MODEL with subjects, as the Apply nodes make it. strength: one number, or one for each picture; manner: as Manner takes it."""
    made = comfy_host.part("ssr_core.schedule").Manner
    whole, pictures = (1.0, tuple(strength)) if isinstance(strength, list) else (strength, ())
    host = comfy_host.part("ssr_core.hosts.comfyui.ssr")
    return host.apply_subjects(model, encoder, subjects, made(whole, pictures, **manner), combine, scaling)


def encode(
    nodes: Any, encoder: Any, clip: Any, clip_vision: Any, image: Any = None, query: str = "a red dog", **extra: Any
) -> Any:
    """What the node Encode Subject makes of a picture."""
    image = golden.picture(64, 48, 0) if image is None else image
    with torch.inference_mode():
        return nodes["SSR_EncodeSubject"].execute(encoder, clip, clip_vision, image, query, **extra).args[0]


def cond(seed: int, **extra: Any) -> list[Any]:
    """CONDITIONING of random text."""
    return [[torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(seed)), extra]]


def sample(
    patched: Any,
    steps: int = 2,
    cfg: float = 5.0,
    size: tuple[int, int] = (16, 16),
    batch: int = 1,
    positive: Any = None,
    negative: Any = None,
    sampler: str = "euler",
    scheduler: str = "normal",
    noise_seed: int = 7,
    **options: Any,
) -> Tensor:
    """KSampler's work on the tiny model: latents [batch, 4, *size]. options: what comfy.sample.sample takes besides (denoise, ...)."""
    import comfy.sample

    noise = torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(noise_seed))
    # As the executor runs nodes.
    with torch.inference_mode():
        return comfy.sample.sample(
            patched,
            noise,
            steps,
            cfg,
            sampler,
            scheduler,
            positive or cond(11),
            negative or cond(12),
            options.pop("latent", torch.zeros(batch, 4, *size)),
            seed=3,
            disable_pbar=True,
            **options,
        ).clone()
