"""ComfyUI_IPAdapter_plus before and after ours, on the same MODEL."""

import pytest
import torch
from support import learned, neighbours, tiny
from support.golden import relative_error

PACK = "ComfyUI_IPAdapter_plus"
pytestmark = neighbours.needs(PACK)

WIDTHS = [32, 32, 64, 64, 128, 128, 128, 128, 128, 64, 64, 64, 32, 32, 32, 128]
"""Of the tiny UNet's cross-attentions in checkpoint order."""


@pytest.fixture(scope="module")
def ipa():
    return neighbours.nodes(PACK)


@pytest.fixture
def clip_vision(clip_vision):
    """With weights in the projection too, which only IP-Adapters read."""
    tiny.fill(clip_vision.model.visual_projection, 3)
    return clip_vision


@pytest.fixture
@torch.inference_mode()
def ipadapter(clip_vision):
    """What IPAdapter Model Loader gives for the plain SD1.5 adapter, on random weights at the tiny UNet's widths."""
    generator = torch.Generator().manual_seed(4)
    layers = {
        f"{2 * index + 1}.{name}.weight": torch.randn(width, 768, generator=generator) / 768**0.5
        for index, width in enumerate(WIDTHS)
        for name in ("to_k_ip", "to_v_ip")
    }
    seen = clip_vision.encode_image(torch.rand(1, 64, 64, 3))["image_embeds"].shape[-1]
    projection = {
        "proj.weight": torch.randn(4 * 768, seen, generator=generator) / seen**0.5,
        "proj.bias": torch.zeros(4 * 768),
        "norm.weight": torch.ones(768),
        "norm.bias": torch.zeros(768),
    }
    return {"ip_adapter": layers, "image_proj": projection}


@pytest.fixture
def with_ipadapter(ipa, ipadapter, clip_vision):
    def add(model, seed=1, **options):
        image = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(seed))
        settings = {"weight": 0.8, "weight_type": "linear", "embeds_scaling": "V only", **options}
        return neighbours.run(
            ipa["IPAdapterAdvanced"], model=model, ipadapter=ipadapter, image=image, clip_vision=clip_vision, **settings
        )[0]

    return add


def test_before_or_after_gives_the_same_picture_with_both_effects(model, encoder, subject, plain, with_ipadapter):
    upstream_theirs, upstream_ours = with_ipadapter(model), tiny.apply(model, encoder, subject, 0.65)
    only_theirs, only_ours = tiny.sample(upstream_theirs), tiny.sample(upstream_ours)
    before = tiny.sample(tiny.apply(upstream_theirs, encoder, subject, 0.65))
    after = tiny.sample(with_ipadapter(upstream_ours))
    assert torch.equal(before, after)
    for lacking in (plain, only_theirs, only_ours):
        assert relative_error(before, lacking) > 1e-3
    assert torch.equal(tiny.sample(upstream_theirs), only_theirs)
    assert torch.equal(tiny.sample(upstream_ours), only_ours)
    assert torch.equal(tiny.sample(model), plain)


def test_between_two_of_theirs(model, encoder, subject, with_ipadapter):
    """Their second node adds itself to what stands at a block; ours must not stand there."""
    one = with_ipadapter(tiny.apply(with_ipadapter(model), encoder, subject, 0.65), seed=2)
    other = tiny.apply(with_ipadapter(with_ipadapter(model), seed=2), encoder, subject, 0.65)
    assert torch.equal(tiny.sample(one), tiny.sample(other))


def test_both_keep_to_their_own_halves(model, encoder, subject, with_ipadapter):
    left = torch.zeros(1, 128, 128)
    left[..., :64] = 1.0
    ours = tiny.apply(model, encoder, subject, 1.0, region=left)
    both = with_ipadapter(ours, attn_mask=1 - left)
    theirs = with_ipadapter(model, attn_mask=1 - left)
    ours, theirs, both = (tiny.sample(patched, steps=1, cfg=1.0) for patched in (ours, theirs, both))
    mine, yours = (
        (both - other).abs().mean(dim=(0, 1, 2)) for other in (theirs, ours)
    )  # what each adds to the other, by column
    # The UNet mixes places from its first layer on, so the halves are told apart by where the effect is larger.
    assert mine[:8].mean() > mine[8:].mean()
    assert yours[8:].mean() > yours[:8].mean()


def test_their_weights_per_frame_link_to_our_strength(model, encoder, subject, nodes, ipa):
    """IPAdapter Weights gives a list through a FLOAT output."""
    weights = neighbours.run(
        ipa["IPAdapterWeights"],
        weights="1.0, 0.0, 0.5", timing="custom", frames=3, start_frame=0, end_frame=3, add_starting_frames=0, add_ending_frames=0,
        method="full batch", image=torch.rand(1, 8, 8, 3),
    )[0]  # fmt: skip
    assert weights == [1.0, 0.0, 0.5]
    patched = nodes["SSR_ApplySubject"].execute(model, encoder, subject, weights).args[0]
    frames, plain = tiny.sample(patched, batch=3), tiny.sample(model, batch=3)
    assert torch.equal(frames[1], plain[1])
    assert not torch.allclose(frames[0], plain[0])
    assert not torch.allclose(frames[2], plain[2])


def test_they_are_reported_by_the_packs_name(model, encoder, subject, nodes, with_ipadapter):
    patched = with_ipadapter(tiny.apply(model, encoder, subject, 0.65))
    report = nodes["SSR_InspectModel"].execute(patched).args[0]
    assert f"also replaces cross-attentions: {PACK}.CrossAttentionPatch.Attn2Replace at input 1 2 4" in report


def test_a_learned_subject_before_or_after_theirs_gives_the_same_picture(model, clip, with_ipadapter):
    subjects = (learned.subject(1),)
    conds = {"positive": learned.prompt(clip, subjects), "negative": learned.plain(clip)}
    ours = tiny.sample(learned.apply(model, clip, subjects), **conds)
    after = tiny.sample(learned.apply(with_ipadapter(model), clip, subjects), **conds)
    before = tiny.sample(with_ipadapter(learned.apply(model, clip, subjects)), **conds)
    assert relative_error(before, after) <= 1e-5
    assert relative_error(after, ours) > 1e-3
    assert relative_error(after, tiny.sample(with_ipadapter(model), **conds)) > 1e-3


@pytest.mark.parametrize("beside", ["elite"], indirect=True)
def test_a_subject_in_the_prompt_before_or_after_theirs_gives_the_same_picture(beside, with_ipadapter):
    """Its gate goes by the text attention of the layer, whose keys are the text's alone, whatever theirs adds."""
    method, model, alone = beside
    before, after = method.draw(method.apply(with_ipadapter(model))), method.draw(with_ipadapter(method.apply(model)))
    assert relative_error(before, after) <= 1e-5
    assert relative_error(after, alone) > 1e-3
    assert relative_error(after, method.draw(with_ipadapter(method.apply(model, 0.1)))) > 1e-4
    assert torch.equal(method.draw(method.apply(model)), alone)
