"""The SSR-Encoder on Stable Diffusion XL: trained on a tiny one, then the same picture in the real host and in diffusers."""

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDPMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from PIL import Image
from support import comfy_host, golden, golden_mip, tiny, tiny_sdxl
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ssr_core.hosts.diffusers import ssr
from ssr_core.hosts.diffusers.base import Base
from ssr_core.methods.ssr import formats
from ssr_core.training import loop
from ssr_core.training.ssr import SSRConfig

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STEPS, GUIDANCE = 3, 5.0


def text_config(width):
    return CLIPTextConfig(
        hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=width // 64, projection_dim=width,
        bos_token_id=49406, eos_token_id=49407,
    )  # fmt: skip


@pytest.fixture(scope="module")
def base():
    """tiny_sdxl's shapes in diffusers' classes."""
    torch.manual_seed(0)
    told = golden_mip.case("unet_tiny_n2")["params"]["diffusers_config"]
    shapes = {
        "cross_attention_dim": 2048,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1280 + 6 * 256,
    }
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4, patch_size=14, projection_dim=32
    )
    made = Base(
        unet=UNet2DConditionModel(**{**told, **shapes}),
        vae=AutoencoderTiny(),
        text_encoder=CLIPTextModel(text_config(768)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(1280)),
        tokenizer=golden_mip.tokenizer("<|endoftext|>"),
        tokenizer_2=golden_mip.tokenizer("!"),
        vision_encoder=CLIPVisionModelWithProjection(vision),
        noise_schedule=DDPMScheduler(**NOISE),
    )
    tiny.fill(made.unet)
    for model in made.models:
        model.requires_grad_(False).train(False)
    return made


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """The file of an encoder after twenty steps."""
    folder = tmp_path_factory.mktemp("data")
    picture = np.random.default_rng(0).integers(0, 256, (140, 128, 3), np.uint8)
    Image.fromarray(picture).save(folder / "cat.png")
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "cat.png", "text": "a cat on a chair"}))
    own = SSRConfig(
        base="a folder", data=str(folder), out=str(folder / "out"), steps=20, save_every=20, batch_size=1, size=128, workers=0, lr=1e-3,
        inner_width=32, heads=2, vision_layers=(2, 4), drop_prompt=0.5, drop_subject=0.2,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "load_base", lambda *named: base)
        return loop.train(own, cpu=True) / "encoder.safetensors"


@pytest.fixture(scope="module")
def model(base):
    """The same UNet as a MODEL of the host."""
    import comfy.utils

    made, config = tiny_sdxl.model(), tiny_sdxl.UNET_CONFIG
    told = ("num_res_blocks", "channel_mult", "transformer_depth", "transformer_depth_output", "transformer_depth_middle")
    names = comfy.utils.unet_to_diffusers(
        {key: list(config[key]) if isinstance(config[key], list) else config[key] for key in told}
    )
    names |= {
        f"add_embedding.linear_{n}.{part}": f"label_emb.0.{2 * n - 2}.{part}" for n in (1, 2) for part in ("weight", "bias")
    }
    state = {names[key]: value for key, value in base.unet.state_dict().items()}
    made.model.diffusion_model.load_state_dict(state, strict=True)
    return made


def in_diffusers(base, encoder, subjects, noise):
    """Euler steps as the host takes them."""
    scheduler = EulerDiscreteScheduler(**NOISE, timestep_spacing="linspace")
    scheduler.set_timesteps(STEPS)
    latents = noise * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    (negative, null), (positive, told) = tiny_sdxl.cond(12)[0], tiny_sdxl.cond(11)[0]
    added = {
        "text_embeds": torch.cat([null["pooled_output"], told["pooled_output"]]),
        "time_ids": torch.tensor([[128, 128, 0, 0, 128, 128]] * 2).float(),
    }
    with torch.inference_mode(), ssr.subjects_attached(base.unet, encoder, subjects):
        for step in scheduler.timesteps:
            scaled = scheduler.scale_model_input(torch.cat([latents, latents]), step)
            text = torch.cat([negative, positive])
            without, conditional = base.unet(scaled, step, text, added_cond_kwargs=added).sample.chunk(2)
            latents = scheduler.step(without + GUIDANCE * (conditional - without), step, latents).prev_sample
    return latents


def test_an_encoder_trained_on_sdxl_draws_the_same_in_the_host_and_in_diffusers(base, trained, model, encoders):
    encoder = formats.load([trained])
    assert encoder.config.text_width == 2048
    assert encoder.config.layout == base.layout
    subjects = ssr.encode(base, encoder, Image.fromarray(np.full((64, 80, 3), 90, np.uint8)), "a cat")
    loaded = encoders.load_encoder([str(trained)])
    core = comfy_host.part("ssr_core.methods.ssr.subject")
    theirs = tuple(core.Subject(**vars(one)) for one in subjects)
    plain = tiny_sdxl.sample(model, steps=STEPS, cfg=GUIDANCE)
    found = tiny_sdxl.sample(tiny.apply(model, loaded, theirs), steps=STEPS, cfg=GUIDANCE)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    expected = in_diffusers(base, encoder, subjects, noise) / model.model.latent_format.scale_factor
    assert golden.relative_error(found, plain) > 1e-3
    assert golden.relative_error(found, expected) <= 1e-3


def test_the_nodes_take_such_an_encoder_with_sdxls_own_clip(trained, model, encoders, nodes, clip, tmp_path):
    loaded, tower = encoders.load_encoder([str(trained)]), tiny_sdxl.clip_vision(tmp_path)
    subject = tiny.encode(nodes, loaded, tiny_sdxl.clip(), tower, query="a cat")
    assert subject[0].tokens.shape[1] == 2048
    drawn = tiny_sdxl.sample(tiny.apply(model, loaded, subject))
    assert torch.isfinite(drawn).all()
    assert golden.relative_error(drawn, tiny_sdxl.sample(model)) > 1e-4
    with pytest.raises(ValueError, match="needs SDXL's CLIP-L and CLIP-bigG together"):
        tiny.encode(nodes, loaded, clip, tower, query="a cat")
    with pytest.raises(ValueError, match=r"text width 768 \(SD1\.x\); the SSR-Encoder needs 2048.*Stable Diffusion XL"):
        tiny.apply(tiny.model(), loaded, subject)
