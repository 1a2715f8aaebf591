"""csyxwei/ELITE's numbers (data/elite/cases.json) in whole models: a tiny UNet, sampling from a picture, and both training stages."""

import pytest
import torch
from PIL import Image
from support import golden_elite as golden
from support import golden_recipe

from ssr_core import prompt
from ssr_core.methods.elite.losses import global_objective, local_objective
from ssr_core.methods.elite.subject import EliteSubject

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
from ssr_core.hosts.diffusers import elite, generate  # noqa: E402
from ssr_core.hosts.diffusers.base import Base  # noqa: E402


def subject_of(words, tokens, mask):
    return EliteSubject(words, tokens, mask, torch.zeros(8, 8, 3, dtype=torch.uint8), (8, 8), (0, 0, 8, 8), "stretch", "")


@torch.no_grad()
def test_a_whole_unet():
    name = "unet_tiny"
    unet, made = golden.unet(name), golden.elite(name)
    params = golden.case(name)["params"]
    latent, text, step = golden.given(name, "latent"), golden.given(name, "context"), params["timestep"]
    mask = torch.from_numpy(golden_recipe.ellipse(16, 16)).flatten().float()
    subject = subject_of(torch.zeros(1, 48), golden.given(name, "local")[0] * mask[:, None], mask)
    before = {key: (value, value.clone()) for key, value in unet.named_parameters()}
    golden.check(name, "plain_sd", unet(latent, step, text).sample)
    places = [{subject.identity: (params["index"],)}]
    for strength, key in ((0.0, "global_only"), (0.0, "lambda_0.0"), (0.6, "lambda_0.6"), (0.8, "lambda_0.8")):
        with elite.subjects_attached(unet, made, (subject,), places, strength):
            golden.check(name, key, unet(latent, step, text).sample)
    for key, value in unet.named_parameters():
        assert value is before[key][0], key
        assert torch.equal(value, before[key][1]), key


@pytest.mark.parametrize(("name", "count"), [("sample_local", 1), ("sample_global_w0", 1), ("sample_global_full", 5)])
def test_sampling_from_a_picture_and_its_mask(name, count):
    case, expected = golden.case(name), golden.outputs(name)
    params, seed = case["params"], case["case_seed"]
    picture = Image.fromarray(golden_recipe.picture(seed, "input:photo", 300, 420))
    mask = torch.from_numpy(golden_recipe.ellipse(300, 420))
    made = golden.elite(name)
    base = Base(
        unet=golden.unet(name),
        vae=diffusers.AutoencoderTiny(),
        text_encoder=golden.text_encoder(name),
        tokenizer=golden.tokenizer(),
        vision_encoder=golden.vision_encoder(name),
        noise_schedule=diffusers.LMSDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
    )
    subjects = elite.encode(base, made, picture, mask, "stretch")
    golden.check(name, "word_embeddings", subjects[0].first_words(count)[None])
    if "local" in expected:
        golden.check(name, "local", subjects[0].tokens[None])
    prompts = elite.encode_prompts(base.tokenizer, base.text_encoder, subjects, [params["prompt"]], words=count)
    golden.check(name, "encoder_hidden_states", prompts.embeds)
    assert prompts.places == [{subjects[0].identity: (params["index"],)}]
    golden.check(name, "uncond", base.embed([""]))

    pipe = generate.pipeline(base)
    pipe.scheduler = base.noise_schedule
    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(params["seed"]))
    golden.check(name, "initial_noise", noise)
    manner, steps = params["llambda"] or 0.0, params["steps"]
    kinds = {"steps": steps, "guidance": params["guidance"]}
    found = elite.sample(pipe, made, subjects, [params["prompt"]], noise, manner, words=count, **kinds)
    torch.testing.assert_close(pipe.scheduler.sigmas.cpu(), expected["sigmas"].float())
    golden.check(name, "latents_final", found)


def check_gradients_and_step(name, mapper):
    grads = [key.removeprefix("step0.grad.") for key in golden.outputs(name) if key.startswith("step0.grad.")]
    assert grads
    for key in grads:
        assert golden.error(name, f"step0.grad.{key}", mapper.get_parameter(key).grad) < 1e-3, key
    norm = torch.nn.utils.clip_grad_norm_(mapper.parameters(), 1.0)
    assert norm.item() == pytest.approx(golden.case(name)["params"]["steps"][0]["grad_norm_before_clip"], rel=1e-3)
    before = {key: mapper.get_parameter(key).detach().clone() for key in grads}
    lr = golden.case(name)["params"]["steps"][0]["lr"]
    torch.optim.AdamW(mapper.parameters(), lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01).step()
    for key in grads:
        stored = golden.outputs(name).get(f"step1.param.{key}")
        if stored is not None:
            after, start = (golden.thinned(name, f"step1.param.{key}", one) for one in (mapper.get_parameter(key), before[key]))
            assert float(((after - start) - (stored - start)).norm() / (stored - start).norm()) < 1e-2, key


def stored_features(name):
    return torch.stack([golden.outputs(name)[f"step0.feature_{scale}"] for scale in range(5)], dim=1)


def test_loss_and_gradients_of_the_first_stage():
    name = "train_global"
    expected, told = golden.outputs(name), golden.case(name)["params"]["steps"][0]
    made, unet, encoder = golden.elite(name), golden.unet(name), golden.text_encoder(name)
    words = made.global_mapper(stored_features(name))
    golden.check(name, "step0.inj_embedding", words)
    ids = expected["step0.input_ids"]
    embeds, places = prompt.embeds_in_place(golden.embedding(encoder)(ids), ids, {golden.PLACEHOLDER: words}, golden.END)
    assert [own[golden.PLACEHOLDER] for own in places] == [(place,) for place in told["index"]]
    text = golden.encode(encoder, ids, embeds)
    golden.check(name, "step0.encoder_hidden_states", text)
    with golden.attached(unet, made, [[], []], None, 0.0):
        predicted = unet(expected["step0.noisy_latents"], expected["step0.timesteps"], text).sample
        loss = global_objective(predicted, expected["step0.noise"], words)
        loss.total.backward()
    golden.check(name, "step0.noise_pred", predicted)
    assert loss.total.item() == pytest.approx(told["loss"], rel=1e-4)
    assert loss.noise.item() == pytest.approx(told["loss_mle"], rel=1e-4)
    assert 0.01 * loss.size.item() == pytest.approx(told["loss_reg"], rel=1e-4)
    check_gradients_and_step(name, made.global_mapper)


def test_loss_and_gradients_of_the_second_stage():
    name = "train_local"
    expected, told = golden.outputs(name), golden.case(name)["params"]["steps"][0]
    made, unet = golden.elite(name), golden.unet(name)
    made.global_mapper.requires_grad_(False)
    tokens = made.local_mapper(stored_features(name), expected["step0.mask16"][..., 0])
    golden.check(name, "step0.inj_embedding_local", tokens)
    places = [[place] for place in told["index"]]
    with golden.attached(unet, made, places, tokens, 1.0, coupled=True) as pairs:
        text = expected["step0.encoder_hidden_states"]
        predicted = unet(expected["step0.noisy_latents"], expected["step0.timesteps"], text).sample
        loss = local_objective(predicted, expected["step0.noise"], expected["step0.mask_values"], [value for _, value in pairs])
        loss.total.backward()
    golden.check(name, "step0.noise_pred", predicted)
    assert loss.total.item() == pytest.approx(told["loss"], rel=1e-4)
    assert loss.noise.item() == pytest.approx(told["loss_mle"], rel=1e-4)
    assert 1e-4 * loss.size.item() == pytest.approx(told["loss_reg"], rel=1e-4)
    means = [value.abs().mean().item() for _, value in pairs]
    assert sorted(means) == pytest.approx(sorted(told["value_local_abs_mean"]), rel=1e-4)
    check_gradients_and_step(name, made.local_mapper)
