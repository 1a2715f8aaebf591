"""csyxwei/ELITE's numbers (data/elite/cases.json) in whole models: a tiny UNet, sampling from a picture, and both training stages."""

import pytest
import torch
from PIL import Image
from support import golden_elite as golden
from support import golden_recipe

from ssr_core import prompt
from ssr_core.methods.elite.encode import Encoder, Selection, encode_subjects
from ssr_core.methods.elite.losses import global_objective, local_objective

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
from ssr_core.hosts.diffusers.encoders import vision_model  # noqa: E402


@torch.no_grad()
def test_a_whole_unet():
    name = "unet_tiny"
    unet, elite = golden.unet(name), golden.elite(name)
    params = golden.case(name)["params"]
    latent, text, step = golden.given(name, "latent"), golden.given(name, "context"), params["timestep"]
    tokens = golden.given(name, "local") * torch.from_numpy(golden_recipe.ellipse(16, 16)).flatten()[:, None]
    golden.check(name, "plain_sd", unet(latent, step, text).sample)
    with golden.attached(unet, elite, [[params["index"]]], None, 1.0):
        golden.check(name, "global_only", unet(latent, step, text).sample)
    for strength in (0.0, 0.6, 0.8):
        with golden.attached(unet, elite, [[params["index"]]], tokens, strength):
            golden.check(name, f"lambda_{strength}", unet(latent, step, text).sample)


@torch.no_grad()
@pytest.mark.parametrize(("name", "count"), [("sample_local", 1), ("sample_global_w0", 1), ("sample_global_full", 5)])
def test_sampling_from_a_picture_and_its_mask(name, count):
    case, expected = golden.case(name), golden.outputs(name)
    params, seed = case["params"], case["case_seed"]
    elite, unet, encoder, vision = golden.elite(name), golden.unet(name), golden.text_encoder(name), golden.vision_encoder(name)
    picture = Image.fromarray(golden_recipe.picture(seed, "input:photo", 300, 420))
    mask = torch.from_numpy(golden_recipe.ellipse(300, 420))
    own = Encoder(elite.config, "", elite.global_mapper, elite.local_mapper)
    (subject,) = encode_subjects(own, vision_model(vision), [picture], Selection(mask, "stretch"))
    golden.check(name, "word_embeddings", subject.first_words(count)[None])
    if "local" in expected:
        golden.check(name, "local", subject.tokens[None])

    ids = expected["input_ids"]
    words = {golden.PLACEHOLDER: subject.first_words(count)[None]}
    embeds, places = prompt.embeds_in_place(golden.embedding(encoder)(ids), ids, words, golden.END)
    text = golden.encode(encoder, ids, embeds)
    golden.check(name, "encoder_hidden_states", text)
    null = golden.encode(encoder, torch.tensor([[golden.START] + [golden.END] * 76]))
    golden.check(name, "uncond", null)

    scheduler = diffusers.LMSDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    scheduler.set_timesteps(params["steps"])
    torch.testing.assert_close(scheduler.sigmas, expected["sigmas"].float())
    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(params["seed"]))
    golden.check(name, "initial_noise", noise)
    latents = noise * scheduler.sigmas.max()
    tokens = subject.tokens[None] if params["llambda"] is not None else None
    where = [places[0][golden.PLACEHOLDER]]
    for step in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, step)
        with golden.attached(unet, elite, where, tokens, params["llambda"] or 0.0):
            cond = unet(scaled, step, text).sample
        with golden.attached(unet, elite, [[]], None, 0.0):
            uncond = unet(scaled, step, null).sample
        latents = scheduler.step(uncond + params["guidance"] * (cond - uncond), step, latents).prev_sample
    golden.check(name, "last_noise_cond", cond)
    golden.check(name, "last_noise_uncond", uncond)
    golden.check(name, "latents_final", latents)


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
    elite, unet, encoder = golden.elite(name), golden.unet(name), golden.text_encoder(name)
    words = elite.global_mapper(stored_features(name))
    golden.check(name, "step0.inj_embedding", words)
    ids = expected["step0.input_ids"]
    embeds, places = prompt.embeds_in_place(golden.embedding(encoder)(ids), ids, {golden.PLACEHOLDER: words}, golden.END)
    assert [own[golden.PLACEHOLDER] for own in places] == [(place,) for place in told["index"]]
    text = golden.encode(encoder, ids, embeds)
    golden.check(name, "step0.encoder_hidden_states", text)
    with golden.attached(unet, elite, [[], []], None, 0.0):
        predicted = unet(expected["step0.noisy_latents"], expected["step0.timesteps"], text).sample
        loss = global_objective(predicted, expected["step0.noise"], words)
        loss.total.backward()
    golden.check(name, "step0.noise_pred", predicted)
    assert loss.total.item() == pytest.approx(told["loss"], rel=1e-4)
    assert loss.noise.item() == pytest.approx(told["loss_mle"], rel=1e-4)
    assert 0.01 * loss.size.item() == pytest.approx(told["loss_reg"], rel=1e-4)
    check_gradients_and_step(name, elite.global_mapper)


def test_loss_and_gradients_of_the_second_stage():
    name = "train_local"
    expected, told = golden.outputs(name), golden.case(name)["params"]["steps"][0]
    elite, unet = golden.elite(name), golden.unet(name)
    elite.global_mapper.requires_grad_(False)
    tokens = elite.local_mapper(stored_features(name), expected["step0.mask16"][..., 0])
    golden.check(name, "step0.inj_embedding_local", tokens)
    places = [[place] for place in told["index"]]
    with golden.attached(unet, elite, places, tokens, 1.0, coupled=True) as pairs:
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
    check_gradients_and_step(name, elite.local_mapper)
