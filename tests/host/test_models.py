"""Sizes, types and wrong pairings: what users connect to Apply."""

from dataclasses import replace

import pytest
import torch
from support import comfy_host, tiny
from support.golden import relative_error


@pytest.mark.parametrize("batch", [1, 2, 5, 16])
def test_every_picture_of_a_batch_is_what_it_is_alone(model, encoder, subject, batch):
    import comfy.sample

    patched = tiny.apply(model, encoder, subject, 0.65)
    together = tiny.sample(patched, batch=batch)
    noise = torch.randn(batch, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        alone = comfy.sample.sample(
            patched, noise[-1:], 2, 5.0, "euler", "normal", tiny.cond(11), tiny.cond(12), torch.zeros(1, 4, 16, 16), seed=3,
            disable_pbar=True,
        )  # fmt: skip
    assert relative_error(together[-1:], alone) <= 1e-5


@pytest.mark.parametrize("size", [(8, 8), (13, 9), (9, 64), (31, 17)], ids=str)
def test_odd_latent_sizes(model, encoder, subject, size):
    patched = tiny.apply(model, encoder, subject, 0.65)
    out = tiny.sample(patched, size=size)
    assert out.shape == (1, 4, *size)
    assert torch.isfinite(out).all()
    assert not torch.allclose(out, tiny.sample(model, size=size))


@pytest.mark.parametrize(
    ("weights", "cast"),
    [
        (torch.float32, None),
        (torch.bfloat16, None),
        (torch.float16, torch.float32),
        (torch.float8_e4m3fn, torch.bfloat16),
        (torch.float8_e4m3fn, torch.float32),
    ],
    ids=str,
)
def test_weight_types(apply, encoder, subject, weights, cast):
    model = tiny.model(dtype=weights, cast=cast)
    plain = tiny.sample(model)
    patched = tiny.apply(model, encoder, subject, 0.65)
    stored = apply.applied_to(patched)[0].branches[0][0][0].dtype
    assert stored == (cast or weights)
    out = tiny.sample(patched)
    assert torch.isfinite(out).all()
    assert not torch.allclose(out, plain)
    assert torch.equal(tiny.sample(model), plain)


def test_a_bf16_model_draws_nearly_what_the_fp32_model_draws(model, encoder, subject):
    full = tiny.sample(tiny.apply(model, encoder, subject, 0.65), steps=1)
    half = tiny.sample(tiny.apply(tiny.model(dtype=torch.bfloat16), encoder, subject, 0.65), steps=1)
    assert relative_error(half, full) <= 0.05


def test_low_vram_mode_keeps_the_subject(encoder, subject):
    """The host streams weights layer by layer; K and V are none of its business."""
    import comfy.model_management as management

    model = tiny.model()
    patched = tiny.apply(model, encoder, subject, 0.65)
    expected = tiny.sample(patched)
    management.unload_all_models()
    patched.load(torch.device("cpu"), lowvram_model_memory=64)
    assert torch.equal(tiny.sample(patched), expected)
    management.unload_all_models()


def sdxl():
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    config = {
        **tiny.UNET_CONFIG, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10, "context_dim": 2048,
        "adm_in_channels": 2816, "num_classes": "sequential", "use_linear_in_transformer": True, "num_head_channels": 8,
        "num_heads": -1,
    }  # fmt: skip
    described = comfy.supported_models.SDXL(config)
    described.set_inference_dtype(torch.float32, None)
    base = comfy.model_base.SDXL(described, device="meta")
    return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))


class Flux(torch.nn.Module):
    """A model without UNet blocks, as the host wraps it."""

    def __init__(self):
        super().__init__()
        self.diffusion_model = torch.nn.Linear(1, 1)


def test_an_sdxl_model_is_refused_with_what_was_found_and_what_to_do(encoder, subject):
    with pytest.raises(ValueError, match=r"SDXL with text width 2048 \(SDXL\); the SSR-Encoder needs 768.*Stable Diffusion 1"):
        tiny.apply(sdxl(), encoder, subject, 0.65)


def test_a_model_without_a_unet_is_refused_by_name(encoder, subject):
    import comfy.model_patcher

    patcher = comfy.model_patcher.ModelPatcher(Flux(), torch.device("cpu"), torch.device("cpu"))
    with pytest.raises(ValueError, match=r"This MODEL is a Flux without the cross-attentions.*Stable Diffusion 1.x"):
        tiny.apply(patcher, encoder, subject, 0.65)


def test_a_unet_of_other_widths_is_refused(encoder, subject):
    wide = tiny.model({**tiny.UNET_CONFIG, "model_channels": 64})
    with pytest.raises(ValueError, match=r"does not fit the SSR-Encoder: layer .* has width 64, expected 32"):
        tiny.apply(wide, encoder, subject, 0.65)


def test_a_subject_that_half_precision_cannot_hold_is_refused_and_not_drawn_black(encoder, subject):
    loud = (replace(subject[0], tokens=torch.full_like(subject[0].tokens, 1e5)),)
    with pytest.raises(ValueError, match=r"keys or values are beyond float16, in which this model computes"):
        tiny.apply(tiny.model(dtype=torch.float16), encoder, loud, 1.0)


def test_a_subject_from_another_encoder_is_refused(model, encoder):
    with pytest.raises(ValueError, match=r'subject "dog" was made by another encoder \(abc\).*Encode it again'):
        tiny.apply(model, encoder, (tiny.subject("abc"),), 0.65)


def test_an_empty_region_is_refused(model, encoder, subject):
    with pytest.raises(ValueError, match="region is empty"):
        tiny.apply(model, encoder, subject, 0.65, region=torch.zeros(1, 64, 64))


def test_encoder_loads_and_unloads_with_the_hosts_memory_management(encoders, encoder, subject):
    import comfy.model_management as management

    management.unload_all_models()
    branch = comfy_host.part("ssr_core.methods.ssr.subject").branch_inputs(subject, "joint", "official")[0]
    encoder.keys_values(branch, torch.float32)
    assert any(loaded.model is encoder.patcher for loaded in management.current_loaded_models)
    management.unload_all_models()
    assert not any(loaded.model is encoder.patcher for loaded in management.current_loaded_models)
