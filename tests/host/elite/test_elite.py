"""ELITE in the real host: csyxwei/ELITE's numbers through its UNet, CLIP and vision model, and what a MODEL with subjects draws."""

import pytest
import torch
from PIL import Image
from support import comfy_host, golden_recipe, tiny, tiny_elite
from support import golden_elite as golden
from support.golden import relative_error

from ssr_core.methods.elite import formats
from ssr_core.methods.elite.subject import EliteSubject


@pytest.fixture(scope="module")
def host():
    return comfy_host.part("ssr_core.hosts.comfyui.elite")


@pytest.fixture(scope="module")
def schedule():
    return comfy_host.part("ssr_core.schedule")


@pytest.mark.parametrize(("name", "count"), [("sample_local", 1), ("sample_global_w0", 1), ("sample_global_full", 5)])
def test_sampling_from_a_picture_and_its_mask(name, count, host, schedule, tmp_path):
    """The initial noise is scaled as the authors do: by sigma, where the host has sqrt(1 + sigma^2)."""
    import comfy.sample

    case, expected, params = golden.case(name), golden.outputs(name), golden.case(name)["params"]
    encode = comfy_host.part("ssr_core.methods.elite.encode")
    clip_vision = tiny_elite.clip_vision(name, tmp_path)
    vision_model = comfy_host.part("ssr_core.hosts.comfyui.clip").vision_model(clip_vision)
    picture = Image.fromarray(golden_recipe.picture(case["case_seed"], "input:photo", 300, 420))
    mask = torch.from_numpy(golden_recipe.ellipse(300, 420))[None]
    model, clip = tiny_elite.model(name), tiny_elite.clip(name, tmp_path)
    elite = host.load_elite([str(tiny_elite.file(tmp_path / "elite.safetensors", golden.elite(name)))])
    with torch.inference_mode():
        subjects = encode.encode_subjects(elite.for_encoding(), vision_model, [picture], encode.Selection(mask, "stretch"))
        golden.check(name, "word_embeddings", subjects[0].first_words(count)[None])
        positive = host.encode_prompt(clip, subjects, params["prompt"], ["S"], count)
        golden.check(name, "encoder_hidden_states", positive[0][0])
        negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
        golden.check(name, "uncond", negative[0][0])
        patched = host.apply_subjects(model, elite, subjects, schedule.Manner(params["llambda"] or 0.0))
        noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(params["seed"]))
        golden.check(name, "initial_noise", noise)
        sigmas = expected["sigmas"].float()
        found = comfy.sample.sample(
            patched,
            noise * sigmas[0] / (1 + sigmas[0] ** 2).sqrt(),
            params["steps"],
            params["guidance"],
            "lms",
            "normal",
            positive,
            negative,
            torch.zeros(1, 4, 64, 64),
            disable_pbar=True,
            seed=params["seed"],
        )
    golden.check(name, "latents_final", found * 0.18215)


def random_subject(maker, seed, strength):
    generator = torch.Generator().manual_seed(seed)
    patches = (torch.rand(256, generator=generator) < 0.5).float()
    tokens = torch.randn(256, 48, generator=generator) * patches[:, None]
    square, words = torch.zeros(8, 8, 3, dtype=torch.uint8), torch.randn(5, 48, generator=generator)
    return EliteSubject(words, tokens, patches, square, (8, 8), (0, 0, 8, 8), "stretch", maker, strength=strength)


def test_the_same_latent_as_in_diffusers(host, schedule, tmp_path):
    """Two subjects, guided, two pictures, not square, with the host's own sampler here and the same Euler steps around diffusers' UNet
    there; each reads the prompt by itself."""
    from diffusers import EulerDiscreteScheduler

    from ssr_core.hosts.diffusers import elite as diffusers_elite

    name, steps, guidance, size = "sample_local", 3, 5.0, (12, 20)
    text, placeholders = "a S in the snow", ("S", "snow")
    path = tiny_elite.file(tmp_path / "elite.safetensors", golden.elite(name))
    made, loaded = formats.load([path]), host.load_elite([str(path)])
    subjects = tuple(random_subject(made.fingerprint, seed, strength) for seed, strength in ((1, 1.0), (2, 0.6)))
    core = comfy_host.part("ssr_core.methods.elite.subject")
    own = tuple(core.EliteSubject(**vars(subject)) for subject in subjects)

    model, clip = tiny_elite.model(name), tiny_elite.clip(name, tmp_path)
    with torch.inference_mode():
        conds = {
            "positive": host.encode_prompt(clip, own, text, placeholders),
            "negative": clip.encode_from_tokens_scheduled(clip.tokenize("")),
        }
        patched = host.apply_subjects(model, loaded, own, schedule.Manner(0.8))
    found = tiny.sample(patched, steps=steps, cfg=guidance, batch=2, size=size, **conds)
    word_alone = host.apply_subjects(model, loaded, own, schedule.Manner(0.0))
    assert relative_error(tiny.sample(word_alone, steps=steps, cfg=guidance, batch=2, size=size, **conds), found) > 1e-2

    unet, tokenizer, encoder = golden.unet(name), golden.tokenizer(), golden.text_encoder(name)
    said = diffusers_elite.encode_prompts(tokenizer, encoder, subjects, [text] * 2, placeholders)
    nothing = golden.encode(encoder, torch.tensor([[golden.START] + [golden.END] * 76] * 2))
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    scheduler.set_timesteps(steps)
    noise = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(7))
    latents = noise * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    with torch.inference_mode(), diffusers_elite.subjects_attached(unet, made, subjects, said.places, 0.8):
        for step in scheduler.timesteps:
            scaled = scheduler.scale_model_input(torch.cat([latents, latents]), step)
            without, conditional = unet(scaled, step, torch.cat([nothing, said.embeds])).sample.chunk(2)
            latents = scheduler.step(without + guidance * (conditional - without), step, latents).prev_sample
    assert relative_error(found, latents / model.model.latent_format.scale_factor) <= 1e-3
