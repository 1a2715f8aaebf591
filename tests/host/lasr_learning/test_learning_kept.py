"""What a run of learning keeps when it ends early or is done, and when another run goes on from that."""

import pytest
import torch
from support.host_learning import learn, part, recipe


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
