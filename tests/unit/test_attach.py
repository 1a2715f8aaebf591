"""Subjects on a UNet of diffusers: which half of a batch they see, where and when they act, and beside what."""

import random
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPAGPipeline
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    IPAdapterAttnProcessor2_0,
    SlicedAttnProcessor,
)

from ssr_core.attention import NULL, SUBJECT, add_branches, plan_spans, scaled_dot_product
from ssr_core.hosts.diffusers import generate, mini, sets, ssr
from ssr_core.hosts.diffusers.attach import Attachment, BranchProcessor
from ssr_core.layout import CrossAttention
from ssr_core.methods.ssr import formats
from ssr_core.mini import files
from ssr_core.mini.scene import SIDE, random_cast, random_scene
from ssr_core.schedule import Manner, StepSchedule

PROMPTS = ["a star in the desert", "a cat in the white snow"]


@pytest.fixture(scope="module")
def base():
    return mini.load()


@pytest.fixture(scope="module")
def encoder():
    return formats.load([files.FOLDER / files.ENCODER], dtype=torch.float32)


@pytest.fixture(scope="module")
def subject(base, encoder):
    rng = random.Random(0)
    scene = random_scene(rng, random_cast(rng, 2))
    return ssr.encode(base, encoder, scene.drawn.picture, scene.things[0].instance.kind)


def draw(pipe, base, count=2, first=0, **options):
    noise = generate.noise(base, range(first, first + count), SIDE, SIDE)
    return generate.sample(pipe, PROMPTS[first : first + count], noise, steps=2, **options)


def latents(*pictures):
    return torch.stack([torch.full((4, 2, 2), float(picture)) for picture in pictures])


@pytest.mark.parametrize(
    ("pictures", "texts", "guidance", "sides"),
    [
        ((1, 1), (0, 5), None, (NULL, SUBJECT)),
        ((1, 2, 1, 2), (0, 0, 5, 6), None, (NULL, SUBJECT)),
        ((1, 2), (5, 6), None, (SUBJECT,)),
        ((1,), (5,), None, (SUBJECT,)),
        ((1, 1, 1), (0, 5, 5), None, (NULL, SUBJECT, SUBJECT)),  # perturbed-attention guidance
        ((1, 1), (5, 5), True, (NULL, SUBJECT)),
        ((1, 1), (5, 5), False, (SUBJECT, SUBJECT)),
        ((1, 2), (5, 6), False, (SUBJECT,)),
    ],
)
def test_sides_are_told_by_what_the_pipeline_hands_to_the_unet(pictures, texts, guidance, sides):
    assert sets.sides_of(latents(*pictures), latents(*texts), guidance) == sides
    assert sets.sides_of(latents(*pictures), (latents(*texts), "an IP-Adapter's"), guidance) == sides


def test_a_batch_that_cannot_be_told_apart_is_refused():
    with pytest.raises(ValueError, match=r"The prompt and the negative prompt are the same.*guidance=True"):
        sets.sides_of(latents(1, 1), latents(5, 5))
    with pytest.raises(ValueError, match=r"2 different latents, expected every picture's twice.*guidance_scale above 1"):
        sets.sides_of(latents(1, 2), latents(5, 6), guidance=True)


@pytest.mark.parametrize("scale", [5.0, 1.0], ids=["guided", "without guidance"])
def test_every_picture_of_a_batch_sees_the_subject_whatever_the_guidance(base, encoder, subject, scale):
    pipe = generate.pipeline(base)
    with ssr.subjects_attached(base.unet, encoder, subject):
        together = draw(pipe, base, guidance=scale)
        alone = torch.cat([draw(pipe, base, 1, number, guidance=scale) for number in (0, 1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert (together - draw(pipe, base, guidance=scale)).abs().amax(dim=(1, 2, 3)).min() > 0.01
    with ssr.subjects_attached(base.unet, encoder, subject, guidance=scale > 1):
        assert torch.equal(draw(pipe, base, guidance=scale), together)


def test_samplings_with_and_without_guidance_may_follow_each_other_in_one_block(base, encoder, subject):
    """One guided picture and two unguided ones are batches of the same size."""
    pipe = generate.pipeline(base)
    with ssr.subjects_attached(base.unet, encoder, subject):
        expected = draw(pipe, base, guidance=1.0)
    with ssr.subjects_attached(base.unet, encoder, subject):
        draw(pipe, base, 1, guidance=5.0)
        assert torch.equal(draw(pipe, base, guidance=1.0), expected)


def test_guidance_that_the_pipeline_does_not_do_is_refused(base, encoder, subject):
    pipe = generate.pipeline(base)
    with (
        ssr.subjects_attached(base.unet, encoder, subject, guidance=True),
        pytest.raises(ValueError, match="2 different latents"),
    ):
        draw(pipe, base, guidance=1.0)


def test_with_perturbed_attention_guidance_two_sides_of_three_see_the_subject(base, encoder, subject):
    parts = {name: getattr(base, name) for name in ("unet", "vae", "text_encoder", "tokenizer")}
    pipe = StableDiffusionPAGPipeline(
        **parts, scheduler=generate.pipeline(base).scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, pag_applied_layers="mid",
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    rows = []

    def note(module, arguments, output):
        rows.append(list(module.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2").processor.attachment.rows))

    hook = base.unet.register_forward_hook(note)
    try:
        with ssr.subjects_attached(base.unet, encoder, subject):
            draw(pipe, base, pag_scale=3.0)
    finally:
        hook.remove()
    assert rows[0] == [NULL, SUBJECT, SUBJECT]


def predict(base, timestep=500.0, count=1):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 4, 16, 16, generator=generator).repeat(2, 1, 1, 1)
    text = base.embed(["", "a star"]).repeat_interleave(count, dim=0)
    with torch.no_grad():
        return base.unet(noise, torch.tensor(timestep), text).sample


def test_steps_outside_the_schedule_and_strength_zero_change_no_bit(base, encoder, subject):
    late = Manner(1.0, steps=StepSchedule(0.5, 1.0))
    for manner, timestep, acts in ((late, 900.0, False), (late, 100.0, True), (Manner(0.0), 100.0, False)):
        plain = predict(base, timestep)
        with ssr.subjects_attached(base.unet, encoder, subject, manner):
            assert torch.equal(predict(base, timestep), plain) != acts


def test_a_picture_of_strength_zero_keeps_its_bits_and_the_others_act_by_their_own(base, encoder, subject):
    plain = predict(base, count=3).unflatten(0, (2, 3))
    with ssr.subjects_attached(base.unet, encoder, subject, Manner(1.0, (1.0, 0.0, 0.5))):
        out = predict(base, count=3).unflatten(0, (2, 3))
    moved = (out - plain).abs().amax(dim=(0, 2, 3, 4))
    assert moved[0] > moved[2] > 1e-4
    torch.testing.assert_close(out[:, 1], plain[:, 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(4, 6), (5, 3)], ids=str)
def test_a_region_acts_on_its_positions_in_every_layer(size):
    """The grid of a level is what stride 2 leaves of the latent."""
    region = torch.zeros(1, 8, 8)
    region[..., :4] = 1.0
    attachment = Attachment([[(torch.randn(1, 3, 8),) * 2] * 2], lambda *call: [0], Manner(1.0, region=region), (), 1)
    attachment.begin(torch.zeros(1, 4, *size), 0, torch.zeros(1, 1, 8))
    for level in (0, 1):
        height, width = (side if level == 0 else (side + 1) // 2 for side in size)
        layer = CrossAttention(level, "", ("input", 1, 0), 8, 2, level, 8)
        nothing = lambda: torch.zeros(1)
        (branch,) = attachment.at(layer, torch.zeros(1, height * width, 8), torch.nn.Identity(), 2, nothing, nothing)
        weight = branch.weight.view(height, width)
        assert weight[:, : width // 2].min() == 1
        assert weight[:, (width + 1) // 2 :].max() == 0
        assert branch.where.tolist() == weight.flatten().nonzero().flatten().tolist()


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return Attention(query_dim=8, cross_attention_dim=6, heads=2, dim_head=4, bias=False).eval()


def attended(layer, standing):
    """The layer with what stood there, and what a branch adds to it before the output projection."""
    attachment = Attachment([[(torch.randn(1, 3, 8),) * 2]], lambda *call: [0], Manner(0.7), (), 1)
    attachment.begin(torch.zeros(1, 4, 2, 2), 0, torch.zeros(1, 5, 6))
    processor = BranchProcessor(CrossAttention(0, "", ("input", 1, 0), 8, 2, 0, 8), standing, attachment)
    hidden, text = torch.randn(1, 4, 8), torch.randn(1, 5, 6)
    query = layer.to_q(hidden)
    (branch,) = attachment.at(processor.layer, query, layer.to_k, 2, lambda: query, lambda: layer.to_k(text))
    added = add_branches(torch.zeros_like(query), query, [branch], plan_spans([0]), 1, 2)
    return processor, hidden, text, added


@pytest.mark.parametrize(
    "standing", [AttnProcessor(), AttnProcessor2_0(), SlicedAttnProcessor(2)], ids=lambda one: type(one).__name__
)
@torch.no_grad()
def test_whatever_stands_at_a_layer_is_kept_and_the_branch_added_to_it(layer, standing):
    processor, hidden, text, added = attended(layer, standing)
    plain = scaled_dot_product(layer.to_q(hidden), layer.to_k(text), layer.to_v(text), 2)
    torch.testing.assert_close(processor(layer, hidden, text), layer.to_out[0](plain + added), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_an_ip_adapter_at_the_layer_keeps_its_picture(layer):
    theirs = IPAdapterAttnProcessor2_0(hidden_size=8, cross_attention_dim=6, num_tokens=(4,), scale=[1.0])
    processor, hidden, text, added = attended(layer, theirs)
    pictures = [torch.randn(1, 1, 4, 6)]
    alone = theirs(layer, hidden, (text, pictures))
    bias = layer.to_out[0].bias
    expected = alone + layer.to_out[0](added) - (0 if bias is None else bias)
    torch.testing.assert_close(processor(layer, hidden, (text, pictures)), expected, rtol=1e-5, atol=1e-6)
    without = scaled_dot_product(layer.to_q(hidden), layer.to_k(text), layer.to_v(text), 2)
    assert (alone - layer.to_out[0](without)).abs().max() > 0.01


def test_processors_exchanged_inside_the_block_are_refused_and_left_where_they_are(base, encoder, subject):
    before = dict(base.unet.attn_processors)
    try:
        with ssr.subjects_attached(base.unet, encoder, subject):
            base.unet.set_attn_processor(AttnProcessor())
            with pytest.raises(ValueError, match=r"exchanged while branches were attached.*before the with-block"):
                predict(base)
        assert all(type(processor) is AttnProcessor for processor in base.unet.attn_processors.values())
    finally:
        base.unet.set_attn_processor(dict(before))
    with ssr.subjects_attached(base.unet, encoder, subject):
        pass
    assert base.unet.attn_processors == before


def test_keys_and_values_beyond_half_precision_are_refused_and_not_drawn_black(base, encoder, subject):
    (loud,) = subject
    half = mini.unet().half()
    tokens = torch.full_like(loud.tokens, 1e5)
    with (
        pytest.raises(ValueError, match=r"keys or values are beyond float16.*bfloat16 or float32"),
        ssr.subjects_attached(half, encoder, (replace(loud, tokens=tokens),)),
    ):
        pass


def test_keys_and_values_follow_the_queries_type(base, encoder, subject):
    with ssr.subjects_attached(base.unet, encoder, subject), torch.autocast("cpu", dtype=torch.bfloat16):
        out = predict(base)
    assert torch.isfinite(out.float()).all()
