"""Learning a subject inside a real ComfyUI: the steps that diffusers makes, on the host's own weights, which stay what they are."""

import random

import numpy as np
import pytest
import torch
from support import comfy_host, learned, tiny

WORDS = {"words": "star", "placeholder": "moon"}
"""Mini's tokenizer knows the words of its world only."""


def part(name):
    return comfy_host.part(f"ssr_core.{name}")


@pytest.fixture(scope="module")
def mini():
    with torch.inference_mode():
        return part("hosts.comfyui.mini").load()


@pytest.fixture(scope="module")
def pictures():
    scene = part("mini.scene")
    chance = random.Random(4)
    instance = scene.instances(True)[5]
    drawn = [np.asarray(scene.random_scene(chance, [instance]).drawn.picture) for _ in range(2)]
    return torch.from_numpy(np.stack(drawn).astype(np.float32) / 255)


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def few_views(monkeypatch):
    monkeypatch.setattr(part("methods.lasr.views"), "SCALES", (0.75,))


def recipe(**changes):
    return part("methods.lasr.recipe").Recipe(**WORDS | {"steps": 3, "seed": 11} | changes)


def learn(mini, pictures, made=None, **wanted):
    run = part("hosts.comfyui.learning_run")
    with torch.inference_mode():
        return run.learn(
            mini.model, mini.clip, mini.vae, list(pictures), [None] * len(pictures), run.Wanted(made or recipe(), **wanted)
        )


class Weights:
    """Of a MODEL and a CLIP: the very tensors, and their values."""

    def __init__(self, *modules):
        self.modules = modules
        self.tensors = [one for module in modules for one in (*module.parameters(), *module.buffers())]
        self.values = [one.detach().clone() for one in self.tensors]

    def are_untouched(self):
        now = [one for module in self.modules for one in (*module.parameters(), *module.buffers())]
        hooks = [
            part for module in self.modules for part in module.modules() if part._forward_pre_hooks or "forward" in vars(part)
        ]
        return (
            not hooks
            and all(one is before for one, before in zip(now, self.tensors, strict=True))
            and all(torch.equal(one, value) for one, value in zip(now, self.values, strict=True))
        )


@pytest.fixture
def weights(mini):
    return Weights(mini.model.model, mini.clip.cond_stage_model)


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


def interrupted_at(monkeypatch, step):
    """As the host's progress bar ends a run when somebody presses the button."""
    import comfy.model_management as management
    import comfy.utils

    def update(self, value, total=None, preview=None):
        if value == step:
            raise management.InterruptProcessingException()

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", update)
    return management.InterruptProcessingException


def failing_after(monkeypatch, steps):
    """In the middle of a step."""
    models, calls = part("hosts.comfyui.learning").HostModels, []
    predict = models.predict

    def failing(self, *inputs):
        calls.append(1)
        predicted = predict(self, *inputs)
        if len(calls) > steps:
            raise RuntimeError("out of luck")
        return predicted

    monkeypatch.setattr(models, "predict", failing)
    return RuntimeError


@pytest.mark.parametrize("kind", ["interrupted", "error"])
def test_a_run_that_ends_early_keeps_what_was_learned_and_goes_on(mini, pictures, weights, outputs, monkeypatch, kind):
    whole = learn(mini, pictures)
    with monkeypatch.context() as patch:
        error = interrupted_at(patch, 2) if kind == "interrupted" else failing_after(patch, 2)
        with pytest.raises(error):
            learn(mini, pictures, resumes=False)
    assert weights.are_untouched()
    (kept,) = (outputs / "ssr_lasr" / "unfinished").glob("*.safetensors")
    assert part("methods.lasr.subject_file").load(kept).learning.step == 2
    found = learn(mini, pictures)
    assert found.report[1] == "Went on from step 2, where a run was stopped."
    assert [step for step, _ in found.history] == [3]
    for name, value in whole.subject.weights.items():
        assert torch.equal(found.subject.weights[name], value), name


def test_what_was_learned_lies_on_the_disk_until_it_is_saved_under_a_name(nodes, mini, pictures, outputs):
    folder, subject_file = outputs / "ssr_lasr" / "unfinished", part("methods.lasr.subject_file")
    first = learn(mini, pictures)
    (kept,) = folder.glob("*.safetensors")
    assert subject_file.load(kept).fingerprint == first.subject.fingerprint
    assert "ssr_lasr/unfinished" in first.report[-1]
    again = learn(mini, pictures)
    assert again.history == []
    assert again.subject.fingerprint == first.subject.fingerprint
    assert "Turn resume off" in again.report[1]
    assert len(learn(mini, pictures, resumes=False).history) == 3
    shorter = learn(mini, pictures, recipe(steps=2))
    assert [step for step, _ in shorter.history] == [1, 2], "a run of another length is another run once it is done"
    other = part("methods.lasr.recipe").begin(part("hosts.comfyui.learning").HostModels(mini.model, mini.clip), recipe(seed=1))
    subject_file.save(other, folder / "other.safetensors")
    nodes["SSR_SaveSubjectLASR"].execute((shorter.subject.scaled(0.5),), "star")
    assert [path.name for path in folder.iterdir()] == ["other.safetensors"]


def test_a_run_writes_every_so_many_steps_since_a_killed_process_keeps_nothing(mini, pictures, outputs, monkeypatch):
    import comfy.utils

    seen = []

    def update(self, value, total=None, preview=None):
        files = list((outputs / "ssr_lasr" / "unfinished").glob("*.safetensors"))
        seen.append((value, [part("methods.lasr.subject_file").load(one).learning.step for one in files]))

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", update)
    monkeypatch.setattr(part("hosts.comfyui.learning_run"), "SAVE_EVERY", 2)
    learn(mini, pictures, recipe(steps=5))
    assert seen == [(0, []), (1, []), (2, []), (3, [2]), (4, [2]), (5, [4])]


def test_a_run_with_a_lora_or_another_clip_skip_is_another_run(mini, pictures, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(interrupted_at(patch, 2)):
        learn(mini, pictures)
    key = "diffusion_model.input_blocks.0.0.weight"
    changed = mini.model.clone()
    changed.add_patches({key: (torch.full((1,), 0.001),)}, 0.5)
    skipping = mini.clip.clone()
    skipping.clip_layer(-2)
    for other in (mini._replace(model=changed), mini._replace(clip=skipping)):
        assert [step for step, _ in learn(other, pictures).history] == [1, 2, 3]
    assert [step for step, _ in learn(mini, pictures).history] == [3]


def test_a_preview_that_cannot_be_drawn_is_told_before_the_first_step(mini, pictures, outputs):
    lasr, manner = part("hosts.comfyui.lasr"), part("schedule").Manner(0.5)
    begun = part("methods.lasr.recipe").begin(part("hosts.comfyui.learning").HostModels(mini.model, mini.clip), recipe())
    taken = mini._replace(model=lasr.apply_subjects(mini.model, mini.clip, (begun,), manner))
    with pytest.raises(ValueError, match="already"):
        learn(taken, pictures, preview_every=1)
    assert not (outputs / "ssr_lasr").exists()
    assert len(learn(taken, pictures).history) == 3


def test_a_preview_without_memory_ends_no_run(mini, pictures, monkeypatch):
    import comfy.model_management as management

    def full(*_):
        raise management.OOM_EXCEPTION("out of memory")

    monkeypatch.setattr(part("hosts.comfyui.learning_run"), "_preview", full)
    assert len(learn(mini, pictures, preview_every=1).history) == 3


def test_an_interruption_before_the_first_step_keeps_nothing(mini, pictures, outputs, monkeypatch):
    error = failing_after(monkeypatch, 0)
    with pytest.raises(error):
        learn(mini, pictures)
    assert not (outputs / "ssr_lasr").exists()


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


def test_the_node_takes_batches_and_lists_with_masks_and_captions(nodes, mini, pictures):
    other = torch.nn.functional.interpolate(pictures[1:].movedim(-1, 1), (96, 160)).movedim(1, -1)
    masks = [torch.ones(1, 128, 128), torch.ones(96, 160)]
    with torch.inference_mode():
        made = nodes["SSR_LearnSubjectLASR"].execute(
            [mini.model], [mini.clip], [mini.vae], [pictures[:1], other], ["star"], ["2"], ["moon"], [2], [1], [5], [0],
            masks=masks, captions=["a moon on a green meadow\nthe moon"], phrases=[1],
        )  # fmt: skip
    (subject,), curve = made.args
    assert subject.learning.words == (("star", 2.0),)
    assert curve.shape == (1, 320, 640, 3)
    assert curve.max() <= 1
    assert made.ui["text"][0].startswith('"moon": 2 steps from 2 pictures.')


def refused(nodes, mini, pictures, expected, **changes):
    given = {
        "words": ["star"], "weights": [""], "placeholder": ["moon"], "steps": [1], "batch_size": [1], "learning_seed": [0],
        "preview_every": [0], "pictures": [pictures],
    } | {name: value if isinstance(value, list) else [value] for name, value in changes.items()}  # fmt: skip
    with torch.inference_mode(), pytest.raises(ValueError, match=expected):
        nodes["SSR_LearnSubjectLASR"].execute(model=[mini.model], clip=[mini.clip], vae=[mini.vae], **given)


def test_the_node_refuses_what_does_not_fit_before_work_starts(nodes, mini, pictures):
    refused(nodes, mini, pictures, "2 weights for 1 words", weights="1 2")
    refused(nodes, mini, pictures, 'weights is "one"', weights="one")
    refused(nodes, mini, pictures, "There are 1 masks for 2 pictures", masks=torch.ones(1, 128, 128))
    refused(nodes, mini, pictures, "The mask of picture 1 is 64 x 64, the picture 128 x 128", masks=torch.ones(2, 64, 64))
    refused(nodes, mini, pictures, "There are 1 captions for 2 pictures", captions="a moon")
    refused(nodes, mini, pictures, "does not have the placeholder", captions="a moon\na star")
    refused(nodes, mini, pictures, "must be one token", placeholder="red moon")
    refused(nodes, mini, pictures, "size is 100; expected a multiple of 64", size=100)
    refused(nodes, mini, pictures, 'kind is "plant"', kind="plant")
    refused(nodes, mini, pictures, "steps is 0", steps=0)


def test_a_model_that_predicts_no_noise_is_refused(mini, clip, model):
    import comfy.model_base

    learning = part("hosts.comfyui.learning")
    other = tiny.model()
    other.model.model_type = comfy.model_base.ModelType.V_PREDICTION
    with pytest.raises(ValueError, match="This MODEL predicts V_PREDICTION"):
        learning.HostModels(other, clip)
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM, ModelSamplingDiscrete

    for patched in (
        ModelSamplingDiscrete().patch(model, "v_prediction", False),
        ModelSamplingDiscrete().patch(model, "lcm", False),
        ModelSamplingContinuousEDM().patch(model, "eps", 120.0, 0.002),
    ):
        with pytest.raises(ValueError, match=r"This MODEL predicts ModelSampling.* take away the node"):
            learning.HostModels(patched[0], clip)
    learning.HostModels(ModelSamplingDiscrete().patch(model, "eps", True)[0], clip)
    found = learning.HostModels(model, clip)
    assert found.layout == part("layout").UNetLayout(**tiny.LAYOUT)
    with pytest.raises(ValueError, match="width"):
        learning.HostModels(mini.model, clip)


def test_weights_that_are_streamed_are_loaded_whole_in_a_copy(model, clip):
    """Hosts with dynamic VRAM; simulated, since there it takes a GPU."""
    learning = part("hosts.comfyui.learning")

    class Streamed:
        cached_patcher_init = None

        def is_dynamic(self):
            return True

        def clone(self, disable_dynamic=False):
            assert disable_dynamic
            return "whole"

    assert learning._loaded_whole(model, "MODEL") is model
    streamed = Streamed()
    with pytest.raises(ValueError, match=r"This CLIP streams its weights.*--disable-dynamic-vram"):
        learning._loaded_whole(streamed, "CLIP")
    streamed.cached_patcher_init = (None, ())
    assert learning._loaded_whole(streamed, "CLIP") == "whole"


def test_an_embedding_of_textual_inversion_is_one_of_the_hosts(tmp_path):
    inversion = part("methods.lasr.inversion")
    vector = torch.randn(768, generator=torch.Generator().manual_seed(3))
    inversion.save(vector, tmp_path / "learnt.safetensors")
    clip = tiny.clip(tmp_path / "config.json", tiny.CLIP_CONFIG)
    clip.tokenizer.clip_l.embedding_directory = str(tmp_path)
    tokens = [entry[0] for entry in clip.tokenize("a embedding:learnt on a beach")["l"][0]]
    (found,) = [token for token in tokens if not isinstance(token, int)]
    assert torch.equal(found.flatten(), vector)
