"""ComfyUI-Advanced-ControlNet beside subjects: its ControlNets, and its reference control, which runs the UNet by its own code."""

import pytest
import torch
from support import neighbours, tiny
from support.golden import relative_error

PACK = "ComfyUI-Advanced-ControlNet"
pytestmark = neighbours.needs(PACK)


@pytest.fixture(scope="module")
def acn():
    return neighbours.nodes(PACK)


@pytest.fixture
def controlled(acn):
    """Positive and negative with a ControlNet of theirs."""

    def control(control_net, image, **options):
        settings = {"strength": 0.8, "start_percent": 0.0, "end_percent": 1.0, **options}
        applied = neighbours.run(
            acn["ACN_AdvancedControlNetApply_v2"],
            positive=tiny.cond(11), negative=tiny.cond(12), control_net=control_net, image=image, **settings,
        )  # fmt: skip
        return dict(zip(("positive", "negative"), applied, strict=False))

    return control


def test_their_controlnet_and_the_subject_both_act(model, encoder, subject, control_net, hint, controlled):
    patched = tiny.apply(model, encoder, subject, 0.65)
    plain, only_ours = tiny.sample(model), tiny.sample(patched)
    sides, masked = controlled(control_net, hint), controlled(control_net, hint, mask_optional=torch.ones(1, 64, 64) * 0.5)
    both = tiny.sample(patched, **masked)
    for lacking in (only_ours, tiny.sample(model, **masked), tiny.sample(patched, **sides)):
        assert relative_error(both, lacking) > 1e-3
    assert torch.equal(tiny.sample(model), plain)
    assert torch.equal(tiny.sample(patched), only_ours)
    assert {context.shape[1] for context in control_net.control_model.seen} == {77}


def test_their_controlnet_sees_the_subject_where_asked(model, encoder, subject, control_net, hint, controlled, nodes):
    sides = controlled(control_net, hint)
    positive, negative = nodes["SSR_ShowToControlNet"].execute(sides["positive"], sides["negative"], subject).args
    tiny.sample(tiny.apply(model, encoder, subject, 0.65), positive=positive, negative=negative, steps=1)
    (context,) = control_net.control_model.seen  # [negative, positive]
    assert torch.equal(context[0, 77:], subject[0].null_tokens)
    assert torch.equal(context[1, 77:], subject[0].tokens)


def test_reference_control_and_the_subject_both_act(model, encoder, subject, acn, controlled):
    """It runs the UNet once more on the reference's latent, with the MODEL's own options."""
    reference = neighbours.run(
        acn["ACN_ReferenceControlNet"], reference_type="reference_attn", style_fidelity=0.5, ref_weight=1.0
    )[0]
    latent = {"samples": torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))}
    proxy = neighbours.run(
        acn["ACN_ReferencePreprocessor"], image=torch.rand(1, 128, 128, 3), vae=_Latent(latent["samples"]), latent_size=latent
    )[0]
    plain = tiny.sample(model)
    patched = tiny.apply(model, encoder, subject, 0.65)
    only_ours, only_theirs = tiny.sample(patched), tiny.sample(model, **controlled(reference, proxy))
    both = tiny.sample(patched, **controlled(reference, proxy))
    assert torch.isfinite(both).all()
    for lacking in (only_ours, only_theirs):
        assert relative_error(both, lacking) > 1e-3
    assert torch.equal(tiny.sample(model), plain)
    assert torch.equal(tiny.sample(patched), only_ours)


@pytest.mark.parametrize("beside", ["elite", "lasr"], indirect=True)
def test_their_controlnet_and_a_subject_in_the_prompt_both_act(beside, acn, control_net, hint):
    """What rides on the prompt goes through their node, and their ControlNet reads the prompt's own tensor."""
    method, model, alone = beside
    applied = neighbours.run(
        acn["ACN_AdvancedControlNetApply_v2"], positive=method.positive, negative=method.negative, control_net=control_net, image=hint,
        strength=0.8, start_percent=0.0, end_percent=1.0, mask_optional=torch.ones(1, 64, 64) * 0.5,
    )  # fmt: skip
    controlled = dict(zip(("positive", "negative"), applied, strict=False))
    both = method.draw(method.apply(model), **controlled)
    assert torch.isfinite(both).all()
    assert relative_error(both, alone) > 1e-3
    assert relative_error(both, method.draw(method.apply(model, 0.1), **controlled)) > 1e-4
    for context in control_net.control_model.seen:
        torch.testing.assert_close(context, torch.cat([method.negative[0][0], method.positive[0][0]]))
    assert torch.equal(method.draw(method.apply(model)), alone)


@pytest.mark.parametrize("beside", ["elite", "lasr"], indirect=True)
def test_reference_control_and_a_subject_in_the_prompt_both_act(beside, acn):
    method, model, alone = beside
    reference = neighbours.run(
        acn["ACN_ReferenceControlNet"], reference_type="reference_attn", style_fidelity=0.5, ref_weight=1.0
    )[0]
    latent = {"samples": torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))}
    proxy = neighbours.run(
        acn["ACN_ReferencePreprocessor"], image=torch.rand(1, 128, 128, 3), vae=_Latent(latent["samples"]), latent_size=latent
    )[0]
    applied = neighbours.run(
        acn["ACN_AdvancedControlNetApply_v2"], positive=method.positive, negative=method.negative, control_net=reference, image=proxy,
        strength=0.8, start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    controlled = dict(zip(("positive", "negative"), applied, strict=False))
    both = method.draw(method.apply(model), **controlled)
    assert torch.isfinite(both).all()
    assert relative_error(both, alone) > 1e-3
    assert relative_error(both, method.draw(method.apply(model, 0.1), **controlled)) > 1e-4
    assert torch.equal(method.draw(method.apply(model)), alone)


class _Latent:
    """A VAE that gives one latent."""

    def __init__(self, latent):
        self.latent = latent

    def vae_encode_crop_pixels(self, pixels):
        return pixels

    def encode(self, pixels):
        return self.latent
