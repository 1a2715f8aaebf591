"""Objects on other MODELs than plain SDXL with guidance: inpainting UNets, those that are drawn without guidance, and in half precision."""

from dataclasses import replace

import pytest
import torch
from support import comfy_host, golden, tiny_sdxl


@pytest.fixture(scope="module")
def objects(adapter):
    return tuple(tiny_sdxl.mip_object(adapter.fingerprint, seed, name) for seed, name in ((1, "cat"), (2, "jacket")))


@pytest.fixture(scope="module")
def inpainting():
    """An SDXL of nine input channels: noise, mask, and the masked picture."""
    model = tiny_sdxl.model({**tiny_sdxl.UNET_CONFIG, "in_channels": 9})
    model.model.set_inpaint()
    return model


class Vae:
    """Stands for an SDXL VAE: eight pixels to a latent's cell."""

    def encode(self, pixels):
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)[:, [0, 1, 2, 0]]


def to_inpaint(noise_mask, pictures=1):
    """What tiny_sdxl.sample takes to draw the right half of a picture anew."""
    from nodes import InpaintModelConditioning

    mask = torch.zeros(1, 128, 128)
    mask[..., 64:] = 1.0
    picture = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(8))
    positive, negative, latent = InpaintModelConditioning().encode(
        tiny_sdxl.cond(11), tiny_sdxl.cond(12), picture, Vae(), mask, noise_mask=noise_mask
    )
    given = {"positive": positive, "negative": negative, "latent": latent["samples"].repeat(pictures, 1, 1, 1)}
    return {**given, "batch": pictures, **({"noise_mask": latent["noise_mask"]} if noise_mask else {})}


@pytest.mark.parametrize("cfg", [5.0, 1.0])
def test_an_inpainting_model_takes_objects(inpainting, applied, objects, cfg):
    scene = to_inpaint(noise_mask=True)
    drawn, without = (tiny_sdxl.sample(one, cfg=cfg, **scene) for one in (applied(objects, model=inpainting), inpainting))
    assert torch.isfinite(drawn).all()
    assert golden.relative_error(drawn[..., 8:], without[..., 8:]) > 1e-3
    torch.testing.assert_close(drawn[..., :8], without[..., :8], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cfg", [5.0, 1.0])
def test_an_inpainting_model_that_reads_no_mask_draws_what_plain_sdxl_does(sdxl, applied, objects, cfg):
    """Its five further channels with weights of zero: guided and not, two pictures, an object in the left half alone."""
    model = tiny_sdxl.model({**tiny_sdxl.UNET_CONFIG, "in_channels": 9})
    model.model.set_inpaint()
    state = dict(sdxl.model.diffusion_model.state_dict())
    first = "input_blocks.0.0.weight"
    state[first] = torch.cat([state[first], torch.zeros(32, 5, 3, 3)], dim=1)
    model.model.diffusion_model.load_state_dict(state)
    left = torch.zeros(16, 16, dtype=torch.uint8)
    left[:, :8] = 255
    here = (replace(objects[0], region=left), objects[1])
    scene = to_inpaint(noise_mask=False, pictures=2)
    drawn, expected = (tiny_sdxl.sample(applied(here, model=one), cfg=cfg, **scene) for one in (model, sdxl))
    assert golden.relative_error(drawn, expected) <= 1e-5
    assert golden.relative_error(expected, tiny_sdxl.sample(sdxl, cfg=cfg, **scene)) > 1e-3


def test_a_model_without_guidance_is_drawn_by_the_names_side_alone(sdxl, applied, objects):
    """As Turbo and Lightning are: by a guider that knows one prompt, or KSampler with a cfg of 1, whatever the negative says."""
    from comfy.samplers import calculate_sigmas, sampler_object
    from comfy_extras.nodes_custom_sampler import Guider_Basic

    patched, seen = applied(objects).clone(), []

    def spy(apply_model, arguments):
        seen.append(arguments["cond_or_uncond"])
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    patched.set_model_unet_function_wrapper(spy)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    sigmas = calculate_sigmas(patched.get_model_object("model_sampling"), "normal", 2)
    guider = Guider_Basic(patched)
    guider.set_conds(tiny_sdxl.cond(11))
    with torch.inference_mode():
        drawn = guider.sample(noise, torch.zeros_like(noise), sampler_object("euler"), sigmas, seed=3, disable_pbar=True)
    for negative in (12, 13):
        assert torch.equal(tiny_sdxl.sample(patched, cfg=1.0, negative=tiny_sdxl.cond(negative)), drawn)
    assert seen == [[0]] * 6
    assert golden.relative_error(drawn, tiny_sdxl.sample(sdxl, cfg=1.0)) > 1e-3
    assert golden.relative_error(drawn, tiny_sdxl.sample(patched)) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gates_direction_stays_in_full_precision_in_half_models(applied, adapter, objects, dtype, monkeypatch):
    """Learned numbers may be such that half rounds them, or cannot hold them: then its product with the text is no number."""
    large = replace(adapter, gates=tuple(3e5 * gate for gate in adapter.gates))
    call = comfy_host.part("ssr_core.hosts.comfyui.call")
    seen, original = [], call.text_gate

    def spy(text, direction):
        seen.append((text.dtype, direction))
        return original(text, direction)

    monkeypatch.setattr(call, "text_gate", spy)
    drawn = tiny_sdxl.sample(applied(objects, model=tiny_sdxl.model(dtype=dtype), mip_adapter=large), steps=1)
    assert {text for text, _ in seen} == {dtype}
    assert len(seen) == len(large.gates)
    assert all(any(torch.equal(direction, gate) for gate in large.gates) for _, direction in seen)
    assert torch.isfinite(drawn).all()
