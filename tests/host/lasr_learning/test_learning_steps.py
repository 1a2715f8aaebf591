"""Learning a subject inside a real ComfyUI: the steps that diffusers makes, on the host's own weights, which stay what they are."""

import numpy as np
import pytest
import torch
from support import learned, tiny
from support.host_learning import WORDS, learn, part, recipe


def test_both_hosts_make_the_same_first_steps_from_the_same_seed(mini, pictures):
    from PIL import Image

    from ssr_core.hosts.diffusers.learning import BaseModels, views_of_pictures
    from ssr_core.hosts.diffusers.load import load_base
    from ssr_core.methods.lasr import learning, views
    from ssr_core.methods.lasr import recipe as recipes

    here = learn(mini, pictures)
    base, made = load_base("mini", vision_named=None), recipes.Recipe(**WORDS, steps=3, seed=11)
    files = [Image.fromarray((picture.numpy() * 255).round().astype(np.uint8)) for picture in pictures]
    models = BaseModels(base, "mini", torch.device("cpu"))
    before = views.SCALES
    views.SCALES = (0.75,)
    try:
        seen = views_of_pictures(base, files, [None] * len(files), 128)
    finally:
        views.SCALES = before
    begun = recipes.begin(models, made)
    there = learning.Learning(
        models, learning.LayerwiseLearner(begun, made, models.device), made, seen, knows_photos=models.knows_photos
    )
    list(there.until(3))
    for (_, one), (_, other) in zip(here.history, there.history, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-7)
    subject = learning.learned_subject(there, begun)
    assert (subject.shapes.identity, subject.token) == (here.subject.shapes.identity, here.subject.token)
    assert subject.base.text_encoder == here.subject.base.text_encoder
    for name, value in subject.weights.items():
        torch.testing.assert_close(here.subject.weights[name], value, atol=2e-4, rtol=1e-3)


def test_what_is_learned_is_drawn_and_the_weights_are_what_they_were(mini, pictures, weights):
    assert any(one.is_inference() for one in weights.tensors)
    before = tiny.sample(mini.model, positive=learned.plain(mini.clip, "a star"), negative=learned.plain(mini.clip))
    found = learn(mini, pictures, checkpointing="off")
    assert weights.are_untouched()
    after = tiny.sample(mini.model, positive=learned.plain(mini.clip, "a star"), negative=learned.plain(mini.clip))
    assert torch.equal(after, before)
    prompt = learned.prompt(mini.clip, (found.subject,), "a picture of a moon")
    drawn = tiny.sample(
        learned.apply(mini.model, mini.clip, (found.subject,)), positive=prompt, negative=learned.plain(mini.clip)
    )
    assert torch.isfinite(drawn).all()
    assert found.subject.learning.step == 3
    assert "beside the models" in found.report[0]


def test_checkpointed_blocks_make_the_same_steps(mini, pictures, weights):
    whole, again = (learn(mini, pictures, checkpointing=how, resumes=False) for how in ("off", "on"))
    assert weights.are_untouched()
    for (_, one), (_, other) in zip(whole.history, again.history, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert "with gradient checkpointing" in again.report[0]


def test_previews_are_the_hosts_own_and_change_no_step(mini, pictures, weights, monkeypatch):
    import comfy.utils
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod

    shown = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, **_: shown.append((value, total, preview))
    )
    plain = learn(mini, pictures, recipe(steps=4))
    assert all(preview is None for *_, preview in shown)
    shown.clear()
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Latent2RGB)
    found = learn(mini, pictures, recipe(steps=4), preview_every=2, resumes=False)
    assert weights.are_untouched()
    ((value, total, preview),) = [one for one in shown if one[2] is not None]
    assert (value, total, preview[1].size) == (2, 4, (16, 16))
    assert shown[-1][:2] == (4, 4)
    assert found.history == plain.history


def test_blocks_are_checkpointed_by_themselves_where_a_step_would_not_fit(mini, pictures, monkeypatch, caplog):
    import comfy.model_management as management

    def room(least):
        monkeypatch.setattr(management, "get_total_memory", lambda *_, **__: least / part("hosts.comfyui.learning_run").SPARE)

    def told(found):
        return "with gradient checkpointing" in found.report[0]

    models, memory = part("hosts.comfyui.learning").HostModels(mini.model, mini.clip), part("methods.lasr.memory")
    layers = models.text.model.transformer.text_model.encoder.layers
    shape = memory.TextShape(models.table.shape[1], len(layers))
    needs = memory.estimate(models.layout, shape, 128, recipe(), models.unet_bytes).total
    weights = models.patcher.model_size() + models.text.patcher.model_size()
    room(weights + needs + 1)
    whole = learn(mini, pictures, resumes=False)
    assert not told(whole)
    room(weights + needs - 1)
    again = learn(mini, pictures, resumes=False)
    assert told(again)
    assert "more memory than there is" not in caplog.text
    room(weights)
    assert told(learn(mini, pictures, resumes=False))
    assert "more memory than there is" in caplog.text
    assert [step for step, _ in again.history] == [1, 2, 3]


@pytest.fixture
def changed():
    """SSR Mini once more, to be changed for good."""
    with torch.inference_mode():
        return part("hosts.comfyui.mini").load()


@pytest.mark.parametrize(
    ("which", "key"),
    [
        ("model", "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_q.weight"),
        ("clip", "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"),
    ],
)
def test_a_lora_counts_as_if_it_were_in_the_weights(mini, pictures, changed, which, key):
    owner = mini.model.model if which == "model" else mini.clip.cond_stage_model
    there = changed.model.model if which == "model" else changed.clip.cond_stage_model
    added = torch.randn(owner.get_parameter(key).shape, generator=torch.Generator().manual_seed(5)) * 0.3
    plain = learn(mini, pictures)
    patched = getattr(mini, which).clone()
    assert patched.add_patches({key: (added,)}, 0.5) or which == "clip"
    found = learn(mini._replace(**{which: patched}), pictures)
    with torch.inference_mode():
        there.get_parameter(key).add_(0.5 * added)
    expected = learn(changed, pictures, resumes=False)
    for (_, one), (_, other), (_, before) in zip(found.history, expected.history, plain.history, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
        assert one["total"] != pytest.approx(before["total"], rel=1e-4)
    assert learn(mini, pictures, resumes=False).history == plain.history


def test_clip_skip_leaves_out_the_last_layer(mini, pictures, changed):
    skipping = mini.clip.clone()
    skipping.clip_layer(-2)
    found = learn(mini._replace(clip=skipping), pictures)
    layers = changed.clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers
    del layers[-1]
    expected = learn(changed, pictures)
    for (_, one), (_, other) in zip(found.history, expected.history, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert found.history != learn(mini, pictures).history
