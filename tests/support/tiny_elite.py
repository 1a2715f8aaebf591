"""The models of ELITE's golden cases in the real host, and a small ELITE for SD1.5's tiny UNet."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from support import comfy_host, golden_elite, tiny

from ssr_core.layout import UNetLayout
from ssr_core.methods.elite import formats
from ssr_core.methods.elite.mapper import Elite, EliteConfig
from ssr_core.methods.elite.subject import EliteSubject

CONFIG = EliteConfig(UNetLayout(**{key: tuple(value) if isinstance(value, list) else value for key, value in tiny.LAYOUT.items()}),
                     text_width=768, vision_width=64, hidden_width=16, vision_layers=(24, 4, 8, 12, 16), grid=16)  # fmt: skip


def model(name: str) -> Any:
    """The case's UNet as a MODEL of the host."""
    comfy_host.start()
    import comfy.utils

    config = {**tiny.UNET_CONFIG, **golden_elite.case(name)["params"]["comfy_unet_config"]}
    patcher = tiny.model(config)
    told = ("num_res_blocks", "channel_mult", "transformer_depth", "transformer_depth_output", "transformer_depth_middle")
    names = comfy.utils.unet_to_diffusers({key: config[key] for key in told})
    state = {names[key]: value for key, value in golden_elite.unet(name).state_dict().items()}
    patcher.model.diffusion_model.load_state_dict(state, strict=True)
    return patcher


def clip(name: str, folder: Path) -> Any:
    """The case's text encoder behind the host's own tokenizer."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models_base

    told = golden_elite.case(name)["params"]["text_config"]
    config = {
        "hidden_size": told["hidden"], "intermediate_size": 96, "num_hidden_layers": told["layers"],
        "num_attention_heads": told["heads"], "max_position_embeddings": 77, "hidden_act": "quick_gelu", "vocab_size": 49408,
        "eos_token_id": 49407, "model_type": "clip_text_model",
    }  # fmt: skip
    path = folder / "clip.json"
    path.write_text(json.dumps(config))

    class Target(comfy.supported_models_base.ClipTarget):
        pass

    def make(device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> Any:
        options = {**(model_options or {}), "clip_l_model_config": config}
        return comfy.sd1_clip.SD1ClipModel(device=device, dtype=dtype, model_options=options)

    made = comfy.sd.CLIP(Target(comfy.sd1_clip.SD1Tokenizer, make), embedding_directory=None, tokenizer_data={}, parameters=0)
    own = made.cond_stage_model.clip_l.transformer
    theirs = {_inside(key, "text_model."): value for key, value in golden_elite.text_encoder(name).state_dict().items()}
    missing, unexpected = own.load_state_dict(theirs, strict=False)
    assert not [key for key in unexpected if "position_ids" not in key]
    assert all("text_projection" in key for key in missing)
    return made


def clip_vision(name: str, folder: Path) -> Any:
    import comfy.clip_vision

    told = golden_elite.case(name)["params"]["vision_config"]
    config = {
        "hidden_size": told["hidden"], "intermediate_size": 64, "num_hidden_layers": told["layers"], "num_attention_heads": told["heads"],
        "patch_size": told["patch"], "image_size": told["image"], "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
        "model_type": "clip_vision_model", "num_channels": 3, "projection_dim": 32, "attention_dropout": 0.0,
    }  # fmt: skip
    path = folder / "vision.json"
    path.write_text(json.dumps(config))
    made = comfy.clip_vision.ClipVisionModel(str(path))
    made.load_sd(
        {_inside(key, "vision_model."): value for key, value in golden_elite.vision_encoder(name).state_dict().items()}
    )
    return made


def _inside(key: str, prefix: str) -> str:
    """transformers 5 dropped the prefix that every published checkpoint has."""
    return key if key.startswith(prefix) else prefix + key


def file(path: Path, made: Elite) -> Path:
    """ELITE in our own format."""
    states = {"global": made.global_mapper.state_dict(), "local": made.local_mapper.state_dict()}
    formats.write(formats.of_state(made.config, {stage: states[stage] for stage in ("global", "local")}), path)
    return path


def small(seed: int = 0, layout: Any = None) -> Elite:
    """layout: of another UNet than the tiny one."""
    own = CONFIG if layout is None else replace(CONFIG, layout=UNetLayout(**layout.to_dict()))
    made = Elite(own)
    tiny.fill(made, seed)
    return made


def subject(maker: str, seed: int = 0, **changes: Any) -> Any:
    """A subject for the tiny UNet, of random numbers, as the pack has it."""
    generator = torch.Generator().manual_seed(seed)
    patches = (torch.rand(256, generator=generator) < 0.5).float()
    given = EliteSubject(
        words=torch.randn(5, 768, generator=generator) / 4,
        tokens=torch.randn(256, 768, generator=generator) * patches[:, None],
        patches=patches,
        picture=torch.zeros(8, 8, 3, dtype=torch.uint8),
        source_size=(64, 48),
        box=(0.0, 0.0, 48.0, 64.0),
        framing="stretch",
        encoder=maker,
    )
    own = {name: getattr(given, name) for name in asdict(given)}
    return comfy_host.part("ssr_core.methods.elite.subject").EliteSubject(**{**own, **changes})
