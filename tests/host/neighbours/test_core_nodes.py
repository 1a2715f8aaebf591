"""ComfyUI's own model nodes beside subjects: both act, their order does not matter, and what they were given stays as it was."""

import pytest
import torch
from support import comfy_host, learned, model_nodes, neighbours, tiny
from support.golden import relative_error


def sample(model):
    torch.manual_seed(0)  # HyperTile and token merging throw dice of their own
    return tiny.sample(model, size=(16, 32))


@pytest.mark.parametrize("neighbour", model_nodes.ALL, ids=lambda neighbour: neighbour.__name__)
def test_both_act_and_their_order_does_not_matter(model, encoder, subject, neighbour):
    theirs, ours = neighbour(model), tiny.apply(model, encoder, subject, 0.65)
    plain, only_theirs, only_ours = (sample(one) for one in (model, theirs, ours))
    before = sample(tiny.apply(theirs, encoder, subject, 0.65))
    after = sample(neighbour(ours))
    assert torch.isfinite(before).all()
    assert relative_error(before, after) <= 1e-5
    for lacking in (only_theirs, only_ours):
        assert relative_error(before, lacking) > 1e-4
    for patched, expected in ((model, plain), (theirs, only_theirs), (ours, only_ours)):
        assert torch.equal(sample(patched), expected)


@pytest.mark.parametrize("neighbour", model_nodes.ALL, ids=lambda neighbour: neighbour.__name__)
def test_a_learned_subject_whose_vectors_are_the_words_own_is_the_word_beside_theirs(model, clip, neighbour, caplog):
    itself = (learned.itself(clip),)
    conds = {"negative": learned.plain(clip, "blurred"), "size": (16, 32), "steps": 1}
    text = "a photo of a z"

    def draw(patched, positive):
        torch.manual_seed(0)
        return tiny.sample(patched, positive=positive, **conds)

    expected = draw(neighbour(model), learned.plain(clip, text))
    prompt = learned.prompt(clip, itself, text)
    for patched in (neighbour(learned.apply(model, clip, itself)), learned.apply(neighbour(model), clip, itself)):
        assert relative_error(draw(patched, prompt), expected) <= 1e-3
    assert "SSR-Encoder:" not in caplog.text
    moved = learned.apply(neighbour(model), clip, (learned.subject(1),))
    assert relative_error(draw(moved, learned.prompt(clip, (learned.subject(1),), text)), expected) > 1e-2


def test_every_sampler_and_every_scheduler_sees_the_subject(model, encoder, subject):
    import comfy.samplers

    recording = comfy_host.part("ssr_core.hosts.comfyui.recording").recording
    # dpm_adaptive chooses its own steps, and on random weights takes hundreds.
    samplers = [(name, "normal") for name in comfy.samplers.KSampler.SAMPLERS if name != "dpm_adaptive"]
    schedulers = [("euler", name) for name in comfy.samplers.KSampler.SCHEDULERS]
    assert len(samplers) > 30
    assert len(schedulers) > 7
    blind = []
    for sampler, scheduler in samplers + schedulers:
        patched, recorder = recording(tiny.apply(model, encoder, subject, 0.65))
        drawn = []
        for one in (model, patched):
            torch.manual_seed(0)
            drawn.append(tiny.sample(one, steps=2, size=(8, 8), sampler=sampler, scheduler=scheduler))
        if not torch.isfinite(drawn[1]).all() or relative_error(drawn[1], drawn[0]) < 1e-4:
            blind.append((sampler, scheduler))
        if recorder.footprint is None or not (recorder.footprint.maps().max() > 0):
            blind.append(("footprint", sampler, scheduler))
    assert blind == []


def test_steps_that_easycache_leaves_out_are_no_fault(encoder, subject, caplog):
    """It answers some of the calls itself, without the UNet."""
    from comfy_extras.nodes_easycache import EasyCacheNode

    model, calls = tiny.model(), []
    model.model.diffusion_model.time_embed.register_forward_hook(lambda *_: calls.append(1))
    settings = {"reuse_threshold": 1e6, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
    cached = neighbours.run(EasyCacheNode, model=model, **settings)[0]
    both = tiny.apply(cached, encoder, subject, 0.65)
    drawn = tiny.sample(both, steps=8)
    assert 0 < len(calls) < 8
    assert "had no effect" not in caplog.text
    assert relative_error(drawn, tiny.sample(cached, steps=8)) > 1e-4
    ours = neighbours.run(EasyCacheNode, model=tiny.apply(model, encoder, subject, 0.65), **settings)[0]
    assert torch.equal(tiny.sample(ours, steps=8), drawn)


def test_a_custom_sampler_draws_what_ksampler_draws(model, encoder, subject):
    from comfy_extras import nodes_custom_sampler as custom

    patched = tiny.apply(model, encoder, subject, 0.65)
    guider = neighbours.run(custom.CFGGuider, model=patched, positive=tiny.cond(11), negative=tiny.cond(12), cfg=5.0)[0]
    sigmas = neighbours.run(custom.BasicScheduler, model=patched, scheduler="normal", steps=2, denoise=1.0)[0]
    euler = neighbours.run(custom.KSamplerSelect, sampler_name="euler")[0]

    class Noise:
        seed = 3

        def generate_noise(self, latent):
            return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))

    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    drawn = neighbours.run(
        custom.SamplerCustomAdvanced, noise=Noise(), guider=guider, sampler=euler, sigmas=sigmas, latent_image=latent
    )[0]
    assert torch.equal(drawn["samples"], tiny.sample(patched))


def test_a_second_pass_at_another_size_puts_the_region_where_it_was(model, encoder, subject):
    """Hires fix: the same MODEL samples a small picture and then, half denoised, a larger one of another shape."""
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1.0
    patched = tiny.apply(model, encoder, subject, 1.0, region=left)

    def two_passes(one):
        small = tiny.sample(one, steps=1)
        large = torch.nn.functional.interpolate(small, size=(24, 40), mode="bicubic")
        return large, tiny.sample(one, steps=1, size=(24, 40), latent=large, denoise=0.5, cfg=1.0)

    start, _ = two_passes(patched)
    drawn, without = (tiny.sample(one, steps=1, size=(24, 40), latent=start, denoise=0.5, cfg=1.0) for one in (patched, model))
    effect = (drawn - without).abs().mean(dim=(0, 1, 2))  # by column
    assert effect[:20].mean() > 1.5 * effect[20:].mean()
    assert torch.equal(two_passes(patched)[1], drawn)


def test_inpainting_keeps_what_is_outside_of_the_mask(model, encoder, subject):
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 8:] = 1.0
    patched = tiny.apply(model, encoder, subject, 0.65)
    drawn, without = (tiny.sample(one, latent=latent, noise_mask=mask) for one in (patched, model))
    torch.testing.assert_close(drawn[..., :8], latent[..., :8], rtol=1e-4, atol=1e-4)
    assert relative_error(drawn[..., 8:], without[..., 8:]) > 1e-3


def test_an_inpainting_model_takes_the_subject(encoder, subject):
    """Nine input channels: noise, mask, and the masked picture."""
    from nodes import InpaintModelConditioning

    model = tiny.model({**tiny.UNET_CONFIG, "in_channels": 9})
    model.model.set_inpaint()

    class Vae:
        def encode(self, pixels):
            return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)[:, [0, 1, 2, 0]]

    mask = torch.zeros(1, 128, 128)
    mask[..., 64:] = 1.0
    positive, negative, latent = InpaintModelConditioning().encode(
        tiny.cond(11), tiny.cond(12), torch.rand(1, 128, 128, 3), Vae(), mask, noise_mask=True
    )
    patched = tiny.apply(model, encoder, subject, 0.65)
    drawn, without = (
        tiny.sample(one, positive=positive, negative=negative, latent=latent["samples"], noise_mask=latent["noise_mask"])
        for one in (patched, model)
    )
    assert torch.isfinite(drawn).all()
    assert relative_error(drawn[..., 8:], without[..., 8:]) > 1e-3
    torch.testing.assert_close(drawn[..., :8], without[..., :8], rtol=1e-4, atol=1e-4)
