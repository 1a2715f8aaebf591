"""The nodes of learned subjects as the executor runs them, and the latent that diffusers samples with the same weights."""

import pytest
import torch
from support import comfy_host, golden_lasr, learned, tiny
from support.golden import relative_error


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The host's folders in an empty place."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    place = tmp_path / "ssr_lasr"
    place.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ssr_lasr", ([str(place)], {".safetensors", ".pt"}))
    folder_paths.filename_list_cache.clear()
    return place


def run(nodes, name, *inputs, **named):
    with torch.inference_mode():
        return nodes[name].execute(*inputs, **named)


def test_a_subject_goes_through_all_nodes_into_a_picture(nodes, model, clip, folders):
    saved = run(nodes, "SSR_SaveSubjectLASR", (learned.subject(1),), "cats/rex")
    assert saved.ui["text"] == ["Saved ssr_lasr/cats/rex_00001_.safetensors"]
    loaded = run(nodes, "SSR_LoadSubjectLASR", "cats/rex_00001_.safetensors")
    assert '1. "z" (token 345), strength 1, learned for alpha 0.5' in loaded.ui["text"][0]
    again = run(nodes, "SSR_LoadSubjectLASR", "cats/rex_00001_.safetensors", " y ", 0.5).args[0]
    assert [(one.placeholder, one.token, one.strength) for one in again] == [("y", 344, 0.5)]
    both = run(nodes, "SSR_CombineSubjectsLASR", loaded.args[0], again, strength_2=2.0).args[0]
    assert [one.strength for one in both] == [1.0, 1.0]
    prompt = run(nodes, "SSR_PromptWithSubjectLASR", clip, both, "a z beside a y").args[0]
    patched = run(nodes, "SSR_ApplySubjectLASR", model, clip, both, 0.5, 0.0, 1.0, "constant", "all").args[0]
    negative = learned.plain(clip)
    drawn = tiny.sample(patched, positive=prompt, negative=negative)
    assert torch.isfinite(drawn).all()
    assert relative_error(drawn, tiny.sample(model, positive=prompt, negative=negative)) > 1e-2
    stamp = nodes["SSR_LoadSubjectLASR"].fingerprint_inputs(
        subject_file="cats/rex_00001_.safetensors", placeholder="", strength=1.0
    )
    assert stamp[0] == "cats/rex_00001_.safetensors"
    assert run(nodes, "SSR_SaveSubjectLASR", both, "two").ui["text"] == [
        "Saved ssr_lasr/two_00001_.safetensors, ssr_lasr/two_00002_.safetensors"
    ]


def test_embeddings_of_the_authors_code_load(nodes, folders):
    (folders / "embeddings_gs-500.pt").write_bytes((golden_lasr.DATA / "legacy.pt").read_bytes())
    (subject,) = run(nodes, "SSR_LoadSubjectLASR", "embeddings_gs-500.pt").args[0]
    assert subject.placeholder == golden_lasr.cases()["legacy_81"]["placeholder"]


def test_what_widgets_may_hold_is_refused_in_words(nodes, model, clip, folders):
    subject = (learned.subject(1),)
    run(nodes, "SSR_SaveSubjectLASR", subject, "cat")
    for node, inputs, expected in (
        ("SSR_LoadSubjectLASR", ("gone.safetensors",), 'There is no learned subject "gone.safetensors"'),
        (
            "SSR_LoadSubjectLASR",
            ("cat_00001_.safetensors", "z, y"),
            "placeholder names 2, and cat_00001_.safetensors has 1 subjects",
        ),
        (
            "SSR_LoadSubjectLASR",
            ("cat_00001_.safetensors", "extraordinary kitten"),
            'placeholder "extraordinary kitten" must be one token',
        ),
        ("SSR_LoadSubjectLASR", ("cat_00001_.safetensors", "", float("nan")), "strength"),
        ("SSR_CombineSubjectsLASR", (), r"Combine Subjects \(LASR\) got no subject"),
        ("SSR_CombineSubjectsLASR", (subject, subject), 'Two subjects have the placeholder "z"'),
        ("SSR_PromptWithSubjectLASR", (clip, subject, 5), "text is a int"),
        ("SSR_PromptWithSubjectLASR", (None, subject, "a z"), "CLIP is missing"),
        ("SSR_ApplySubjectLASR", (model, None, subject, 0.5, 0.0, 1.0, "constant", "all"), "CLIP is missing"),
        ("SSR_ApplySubjectLASR", (model, clip, subject, 1.5, 0.0, 1.0, "constant", "all"), "alpha"),
        ("SSR_ApplySubjectLASR", (model, clip, subject, 0.5, 0.0, 1.0, "constant", "some"), 'layers is "some"'),
        ("SSR_ApplySubjectLASR", (model, clip, subject, 0.5, 0.0, 1.0, "constant", "all", 0), "reuse_steps"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=expected):
            run(nodes, node, *inputs)


def test_a_model_of_another_shape_is_refused(nodes, clip):
    narrow = tiny.model({**tiny.UNET_CONFIG, "model_channels": 64})
    with pytest.raises(ValueError, match="does not fit the learned subject"):
        learned.apply(narrow, clip, (learned.subject(1),))


def test_comfyui_and_diffusers_sample_the_same_latent(nodes, tmp_path):
    """The golden case's UNet, text encoder and subject in both, 4 steps of Euler with guidance."""
    import comfy.sample
    import diffusers
    from transformers import CLIPTokenizer

    from ssr_core.hosts.diffusers import lasr
    from ssr_core.layout import UNetLayout
    from ssr_core.methods.lasr.embedder import EmbedderShapes
    from ssr_core.methods.lasr.subject import LasrSubject

    name = golden_lasr.of_kind("unet_forward")[0]
    case = golden_lasr.cases()[name]
    seed, text, against = case["seed"], "a photo of a z on a beach", "a blurred z"
    clip = tiny.clip(tmp_path / "config.json", {**tiny.CLIP_CONFIG, **case["clip"]})
    golden_lasr.fill(clip.cond_stage_model.clip_l.transformer, seed, lambda key: f"clip.{key}")
    own = learned.subject(1)
    noise = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    patched = learned.apply(learned.golden_unet(seed), clip, (own,), 0.5)
    with torch.inference_mode():
        drawn = comfy.sample.sample(
            patched, noise, 4, 5.0, "euler", "normal", learned.prompt(clip, (own,), text), learned.prompt(clip, (own,), against),
            torch.zeros_like(noise), seed=1, disable_pbar=True,
        )  # fmt: skip

    shapes = EmbedderShapes(UNetLayout(**tiny.LAYOUT), 768, 1, 3)
    subject = LasrSubject(shapes, own.weights, "z", 345)
    tokenizer = CLIPTokenizer.from_pretrained(comfy_host.find() / "comfy" / "sd1_tokenizer")
    encoder, unet = golden_lasr.TextEncoder(case).model, golden_lasr.unet(seed)
    prompts = lasr.SubjectPrompts(tokenizer, encoder, (subject,), [against, text])
    schedule = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    schedule.set_timesteps(4)
    latents, rows = noise * (schedule.sigmas[0] ** 2 + 1) ** 0.5, prompts.base[[0, 0, 1, 1]]
    with torch.no_grad(), lasr.subjects_attached(unet, prompts, 0.5):
        for step in schedule.timesteps:
            scaled = schedule.scale_model_input(latents.repeat(2, 1, 1, 1), step)
            without, conditional = unet(scaled, step, rows).sample.chunk(2)
            latents = schedule.step(without + 5.0 * (conditional - without), step, latents).prev_sample
    assert relative_error(drawn, latents / 0.18215) <= 1e-3  # the host saves latents divided by the scale
