"""ELITE in the real host: csyxwei/ELITE's numbers through its UNet, CLIP and vision model, and what a MODEL with subjects draws."""

import pytest
import torch
from PIL import Image
from support import comfy_host, golden_recipe, tiny_elite
from support import golden_elite as golden


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
