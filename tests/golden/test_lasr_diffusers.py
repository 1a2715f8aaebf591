"""askerlee/AdaFace-dev's numbers of a whole UNet through hosts/diffusers, and pictures through its pipelines."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from support import golden_lasr
from support.golden import relative_error

from ssr_core.hosts.diffusers import lasr
from ssr_core.methods.lasr.embedder import EmbedderShapes
from ssr_core.methods.lasr.subject import LasrSubject, weights_of
from ssr_core.schedule import Manner, StepSchedule

NAMES = golden_lasr.of_kind("unet_forward")


class Tokenizer(golden_lasr.Tokenizer):
    """Knows the placeholder by itself too."""

    def __call__(self, texts, add_special_tokens=True, **named):
        if texts == "z":
            return SimpleNamespace(input_ids=[345])
        return super().__call__(texts, add_special_tokens, **named)


def subject_of(case, seed=None):
    stated = case["subject"]
    made = golden_lasr.embedder(seed or case["seed"], stated["n_init"], stated["rank"], golden_lasr.TINY)
    shapes = EmbedderShapes(golden_lasr.TINY, 768, stated["n_init"], stated["rank"])
    return LasrSubject(shapes, weights_of(made), "z", stated["token_id"], alpha=case["lasr_emb_weight"])


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_unet_with_a_context_for_every_layer(name):
    case = golden_lasr.cases()[name]
    seed, batch = case["seed"], case["batch"]
    text_encoder, unet = golden_lasr.TextEncoder(case).model, golden_lasr.unet(seed)
    prompts = lasr.SubjectPrompts(Tokenizer(), text_encoder, (subject_of(case),), [case["negative"], case["prompt"]])
    text = prompts.base[[0] * batch + [1] * batch]
    latents = golden_lasr.raw(seed, "x", *case["x"]["shape"]).repeat(2, 1, 1, 1)
    steps = torch.tensor(case["timesteps"]).repeat(2)

    def predicted():
        with torch.no_grad():
            return unet(latents, steps, text).sample

    before = {key: value.clone() for key, value in unet.state_dict().items()}
    plain = predicted()
    with lasr.subjects_attached(unet, prompts):
        golden_lasr.assert_close(predicted(), name, "eps")
    with lasr.subjects_attached(unet, prompts, 0.0):
        golden_lasr.assert_close(predicted(), name, "eps_static_only")
    assert torch.equal(predicted(), plain)
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())
    assert not any(module._forward_pre_hooks for module in unet.modules())


@pytest.fixture(scope="module")
def case():
    return golden_lasr.cases()[NAMES[0]]


@pytest.fixture(scope="module")
def pipe(case):
    """The tiny models in diffusers' own pipeline, whose prompts are handed over encoded."""
    schedule = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, clip_sample=False
    )
    made = StableDiffusionPipeline(
        vae=None, text_encoder=golden_lasr.TextEncoder(case).model, tokenizer=None, unet=golden_lasr.unet(case["seed"]),
        scheduler=schedule, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    made.tokenizer = Tokenizer()
    return made


def drawn(pipe, case, prompts=None, first=0, **options):
    prompts = prompts or [case["prompt"]] * 2
    noise = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(1))[first : first + len(prompts)]
    return lasr.sample(pipe, options.pop("subjects", (subject_of(case),)), prompts, noise, steps=3, **options)


def test_every_picture_of_a_batch_has_contexts_of_its_own_with_and_without_guidance(pipe, case):
    for guidance in (5.0, 1.0):
        together = drawn(pipe, case, guidance=guidance)
        alone = torch.cat([drawn(pipe, case, [case["prompt"]], first, guidance=guidance) for first in (0, 1)])
        assert relative_error(together, alone) <= 2e-5
    assert relative_error(drawn(pipe, case, manner=0.0, guidance=1.0), together) > 1e-3


def test_a_negative_prompt_may_name_the_subject(pipe, case):
    assert relative_error(drawn(pipe, case, negative=case["prompt"]), drawn(pipe, case)) > 1e-3


def test_the_adaptive_part_acts_in_its_layers_and_steps_only(pipe, case):
    encoder, batches = pipe.text_encoder, []
    handle = encoder.register_forward_pre_hook(lambda _, args, named: batches.append(len(args[0])), with_kwargs=True)
    try:
        middle = golden_lasr.TINY.layers[-1].index
        layers = tuple(float(index == middle) for index in range(16))
        drawn(pipe, case, manner=Manner(0.5, layers=layers, steps=StepSchedule(0.0, 0.5)))
    finally:
        handle.remove()
    assert batches == [1, 16, 2]  # the negative; S of all layers; A of one layer for both pictures, in one of three steps


def test_a_subject_of_strength_zero_is_an_ordinary_word(pipe, case):
    nobody = (subject_of(case).scaled(0.0),)
    assert relative_error(drawn(pipe, case, subjects=nobody), drawn(pipe, case)) > 1e-3


def test_what_does_not_belong_together_is_refused(pipe, case):
    subject = subject_of(case)
    with pytest.raises(ValueError, match='does not have the placeholder "z"'):
        drawn(pipe, case, [""])
    with pytest.raises(ValueError, match="stands for token 999, which is another word in this text encoder"):
        drawn(pipe, case, subjects=(LasrSubject(subject.shapes, subject.weights, "z", 999),))
    prompts = lasr.SubjectPrompts(Tokenizer(), pipe.text_encoder, (subject,), [case["prompt"]])
    with (
        lasr.subjects_attached(pipe.unet, prompts),
        pytest.raises(ValueError, match=r"No row of the UNet's text is one of the prompts.*prompt_embeds"),
    ):
        pipe.unet(torch.zeros(1, 4, 16, 16), 5, torch.zeros(1, 77, 768))
