"""Golden cases of MIP-Adapter: outputs of hqhQAQ/MIP-Adapter for deterministic weights (recipe in golden_recipe.py), thinned as
data/mip/cases.json says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from support import golden_recipe
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ssr_core.hosts.diffusers.base import Base
from ssr_core.layout import UNetLayout
from ssr_core.methods.mip import formats
from ssr_core.methods.mip.adapter import AdapterConfig, MIPAdapter, ResamplerShape
from ssr_core.methods.mip.objects import MIPObject

DATA = Path(__file__).parents[1] / "golden" / "data" / "mip"


@cache
def listing() -> dict[str, Any]:
    return json.loads((DATA / "cases.json").read_text())


@cache
def case(name: str) -> dict[str, Any]:
    return next(one for one in listing()["cases"] if one["name"] == name)


def names(kind: str) -> list[str]:
    return [one["name"] for one in listing()["cases"] if one["kind"] == kind]


@cache
def outputs(name: str) -> dict[str, Tensor]:
    found = {key.partition("/"): tensor for key, tensor in load_file(DATA / "vectors.safetensors").items()}
    return {key: tensor for (of, _, key), tensor in found.items() if of == name}


def check(name: str, key: str, actual: Tensor, **tolerance: float) -> None:
    """Whether a tensor is the case's, within the case's tolerance."""
    assert list(actual.shape) == case(name)["shapes"][key]
    every = case(name)["every"].get(key)
    kept = actual if every is None else actual.flatten()[::every]
    torch.testing.assert_close(kept.detach().float(), outputs(name)[key].float(), **{**case(name)["tolerance"], **tolerance})


def weight(name: str, key: str, shape: Any) -> Tensor:
    return torch.from_numpy(golden_recipe.weight(case(name)["case_seed"], key, tuple(shape)))


def given(name: str, key: str, shape: Any = None) -> Tensor:
    """An input of a case."""
    shape = case(name)["inputs"][key] if shape is None else shape
    return torch.from_numpy(golden_recipe.raw(case(name)["case_seed"], f"input:{key}", tuple(shape)))


def fill(name: str, module: torch.nn.Module, prefix: str = "", keys: Mapping[str, str] | None = None) -> torch.nn.Module:
    """A module with the case's weights. keys: our names -> the case's, where they differ."""
    state = {
        key: weight(name, prefix + (keys or {}).get(key, key), value.shape) if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }
    module.load_state_dict(state)
    return module.requires_grad_(False).eval()


TINY = UNetLayout(channels=(32, 64, 128), depths=(0, 2, 3), resnets=2, heads=(1, 2, 4), mid_depth=3)
"""Of the cases with a whole UNet."""


def adapter(name: str, vision_width: int = 48, prefixes: tuple[str, str] = ("image_proj.", "ip_adapter.")) -> Any:
    """The case's adapter for the tiny UNet. prefixes: of the keys of its projector and of its layers in the recipe."""
    plus = "plus" in name
    config = AdapterConfig(
        TINY,
        text_width=96,
        vision_width=32 if plus and vision_width == 48 else vision_width,
        tokens=16 if plus else 4,
        resampler=ResamplerShape() if plus else None,
    )
    made = MIPAdapter(config)
    state = {}
    for key, value in made.state_dict().items():
        part, _, official = formats.official_name(key, config).partition(".")
        shape = (1, *value.shape) if key.endswith("gate") else value.shape
        state[key] = weight(name, prefixes[part == "ip_adapter"] + official, shape).view(value.shape)
    made.load_state_dict(state)
    return made.requires_grad_(False).eval()


def objects(name: str) -> tuple[MIPObject, ...]:
    """The objects of a case that gives tokens and names' encodings: rows 0 are unconditional."""
    told = case(name)["params"]
    count, tokens = told["objects"], told["tokens"]
    both = given(name, "ip_tokens", (2, count * tokens, 96)).unflatten(1, (count, tokens))
    uncond, cond = given(name, "entity_uncond", (77, 96)), given(name, "entity_text", (count, 77, 96))
    return tuple(
        MIPObject(
            tokens=both[1, number],
            null_tokens=both[0, number],
            name=f"object {number}",
            name_embeds=cond[number, 1 : 1 + length],
            null_name_embeds=uncond[1 : 1 + length],
            pictures=torch.zeros(1, 8, 8, 3, dtype=torch.uint8),
            count=1,
            adapter="",
        )
        for number, length in enumerate(told["entity_lengths"])
    )


def reference_keys(name: str) -> list[str]:
    """Of the case's pictures: prompt, object, number."""
    counts = case(name)["params"]["images_per_object"]
    return [
        f"input:ref_{prompt}_{thing}_{number}"
        for prompt, things in enumerate(counts)
        for thing, count in enumerate(things)
        for number in range(count)
    ]


def check_rows(name: str, key: str, actual: Tensor, row: int) -> None:
    """Whether row `row` of the last but one axis of a thinned tensor is `actual`, as far as it was kept."""
    shape, every = case(name)["shapes"][key], case(name)["every"].get(key) or 1
    place = torch.arange(0, torch.Size(shape).numel(), every)
    kept = (place // shape[-1]) % shape[-2] == row
    full = torch.zeros(shape)
    full[..., row, :] = actual
    assert bool(kept.any())
    torch.testing.assert_close(full.flatten()[::every][kept], outputs(name)[key][kept], **case(name)["tolerance"])


def tokenizer(pad: str) -> Any:
    """CLIP's, with the words of the cases' prompts alone."""
    kept = json.loads((DATA / "tokenizer.json").read_text())
    merges = [tuple(merge) for merge in kept["merges"]]
    return CLIPTokenizer(vocab=kept["vocab"], merges=merges, model_max_length=77, pad_token=pad)


def schedule(told: Mapping[str, Any]) -> Any:
    return EulerDiscreteScheduler(
        beta_start=told["beta_start"],
        beta_end=told["beta_end"],
        beta_schedule=told["schedule"],
        timestep_spacing=told["spacing"],
        steps_offset=told["steps_offset"],
    )


def base(name: str) -> Base:
    """The case's models: a tiny SDXL, and a tiny tower that sees 224 pixels in 7 x 7 patches."""
    told = case(name)["params"]
    texts = [
        CLIPTextConfig(
            hidden_size=one["hidden"],
            intermediate_size=2 * one["hidden"],
            num_hidden_layers=one["layers"],
            num_attention_heads=one["heads"],
            hidden_act=one["act"],
            projection_dim=one.get("projection", 64),
            bos_token_id=49406,
            eos_token_id=49407,
        )
        for one in told["text_config"]
    ]
    seen = told["vision_config"]
    tower = CLIPVisionConfig(
        hidden_size=seen["hidden"],
        intermediate_size=64,
        num_hidden_layers=seen["layers"],
        num_attention_heads=seen["heads"],
        patch_size=seen["patch"],
        projection_dim=seen["projection"],
    )
    return Base(
        unet=fill(name, UNet2DConditionModel(**told["diffusers_unet_config"]), "unet."),
        vae=AutoencoderTiny(),
        text_encoder=_filled(name, CLIPTextModel(texts[0]), "text_encoder.", "text_model."),
        text_encoder_2=_filled(name, CLIPTextModelWithProjection(texts[1]), "text_encoder_2.", "text_model."),
        tokenizer=tokenizer("<|endoftext|>"),
        tokenizer_2=tokenizer("!"),
        vision_encoder=_filled(name, CLIPVisionModelWithProjection(tower), "image_encoder.", "vision_model."),
        noise_schedule=None,
    )


def _filled(name: str, module: torch.nn.Module, prefix: str, inner: str) -> torch.nn.Module:
    """transformers 5 dropped the inner prefix of a text model's keys; the recipe keeps it."""
    outside = ("text_projection.", "visual_projection.", inner)
    return fill(name, module, prefix, {key: inner + key for key in module.state_dict() if not key.startswith(outside)})
