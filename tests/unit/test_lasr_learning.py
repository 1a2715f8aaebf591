"""Learning a subject: what a run does, keeps and refuses, on models of milliseconds."""

from pathlib import Path

import pytest
import torch
from support import toy_learning
from support.toy_learning import ToyModels, recipe, run, views

from ssr_core.methods.lasr import inversion, learning, progress, subject_file
from ssr_core.methods.lasr.recipe import begin
from ssr_core.methods.lasr.subject import weights_of


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_falls_and_the_models_stay_as_they_are():
    models = ToyModels()
    before = [tensor.clone() for tensor in (models.table, models.text, *models.entering, *models.out)]
    made = run(recipe(steps=300, batch=4, rate=5e-3), models)
    totals = [losses["total"] for losses in made.until(300)]
    assert sum(totals[-50:]) < 0.9 * sum(totals[:50])
    after = (models.table, models.text, *models.entering, *models.out)
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_the_same_seed_makes_the_same_subject_and_another_seed_another():
    runs = [run(recipe(seed=seed)) for seed in (5, 5, 6)]
    for one in runs:
        list(one.until(12))
    weights = [weights_of(one.learner.module) for one in runs]
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    whole = run()
    list(whole.until(12))
    first = run()
    list(first.until(5))
    begun = begin(ToyModels(), recipe())
    path = tmp_path / "z.safetensors"
    progress.keep(first, begun, path)
    kept = progress.load(path, recipe())
    second = run(kept=kept)
    list(second.until(12))
    assert same(weights_of(second.learner.module), weights_of(whole.learner.module))
    assert first.history + second.history == whole.history
    assert subject_file.load(path).learning.step == 5


def test_a_run_goes_on_with_its_own_recipe_and_optimizer_only(tmp_path):
    made, begun = run(), begin(ToyModels(), recipe())
    list(made.until(2))
    path = tmp_path / "z.safetensors"
    progress.keep(made, begun, path)
    for changes in ({"words": "tabby dog"}, {"weights": (1.0, 3.0)}, {"placeholder": "y"}, {"delta": "none"}):
        with pytest.raises(ValueError, match="Give the same words, weights, class word and placeholder"):
            progress.load(path, recipe(**changes))
    state = progress.state_path(path).read_bytes()
    list(made.until(3))
    progress.keep(made, begun, path)
    progress.state_path(path).write_bytes(state)
    with pytest.raises(ValueError, match="belongs to another subject"):
        progress.load(path, recipe())


@pytest.mark.parametrize("cut", ["before the subject", "after the subject"])
def test_a_run_that_is_killed_while_it_writes_goes_on_from_files_that_fit(tmp_path, monkeypatch, cut):
    made, begun, path = run(), begin(ToyModels(), recipe()), tmp_path / "z.safetensors"
    list(made.until(2))
    progress.keep(made, begun, path)
    list(made.until(4))

    def killed(*_, **__):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(*((subject_file, "save") if cut == "before the subject" else (Path, "replace")), killed)
        with pytest.raises(SystemExit):
            progress.keep(made, begun, path)
    kept = progress.load(path, recipe())
    assert kept.subject.learning.step == kept.state.step == (2 if cut == "before the subject" else 4)
    whole, further = run(), run(kept=kept)
    list(whole.until(12))
    list(further.until(12))
    assert same(weights_of(further.learner.module), weights_of(whole.learner.module))
    progress.forget_state(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_learned_is_kept_however_a_run_ends(error):
    made, kept = run(), []

    def interrupted():
        with learning.kept_whatever_happens(lambda: kept.append(made.step)):
            for _ in made.until(12):
                if made.step == 3:
                    raise error

    with pytest.raises(error):
        interrupted()
    assert kept == [3]


def test_a_loss_that_is_no_number_changes_nothing(monkeypatch):
    made = run()
    made.advance()
    before, state = weights_of(made.learner.module), made.state
    monkeypatch.setattr(made.models, "predict", lambda noisy, *_: noisy * float("nan"))
    monkeypatch.setattr(made.learner, "compares", False)
    monkeypatch.setattr(made.learner, "losses", lambda models, step: {"total": models.predict(step.noisy).mean()})
    with pytest.raises(FloatingPointError, match=r"The loss is nan at step 2\. Lower the rate"):
        made.advance()
    assert same(weights_of(made.learner.module), before)
    assert same(made.state.means, state.means)
    assert made.step == 1


def test_gradients_that_half_precision_cannot_hold_make_the_scale_smaller_and_no_step_is_lost(monkeypatch):
    """Gradients above 65,504 overflow here, as they do in a UNet of float16."""

    def half_and_half(made):
        parameter = next(made.learner.module.parameters())
        parameter.register_hook(lambda gradient: torch.where(gradient.abs() > 65504, torch.inf, gradient))
        losses = made.learner.losses
        monkeypatch.setattr(made.learner, "losses", lambda *given: {"total": losses(*given)["total"] * scale})
        return made

    models, scale = ToyModels(), 1e3
    monkeypatch.setattr(ToyModels, "half", True)
    halves = half_and_half(run(models=models))
    monkeypatch.setattr(ToyModels, "half", False)
    whole = half_and_half(run(models=models))
    before = halves._scaler.get_scale()
    list(halves.until(3))
    assert halves._scaler.get_scale() < before, "the first scale overflows"
    list(whole.until(3))
    assert halves.step == 3
    for name, value in weights_of(whole.learner.module).items():
        torch.testing.assert_close(weights_of(halves.learner.module)[name], value, rtol=1e-3, atol=1e-5)
    scale = float(2**40)
    with pytest.raises(FloatingPointError, match=r"gradients are not finite, with a loss of .* at step 4"):
        halves.advance()


def test_a_caption_whose_placeholder_is_cut_off_is_refused_before_the_first_step():
    told = ("a {} on a table", " ".join(["very"] * 12 + ["big", "{}"]), "the {}")
    with pytest.raises(ValueError, match=r"caption of picture 2, .* the placeholder \"z\" is cut off"):
        run(captions=told)


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        made = run(models=ToyModels(checkpointing))
        made.learner.losses(made.models, made._drawn())["total"].backward()
        gradients.append({name: one.grad for name, one in made.learner.module.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-9)


def test_every_part_of_the_subject_is_learned():
    made = run()
    before = weights_of(made.learner.module)
    list(made.until(3))
    after = weights_of(made.learner.module)
    assert not [name for name in before if torch.equal(before[name], after[name])]


def test_class_prompts_take_one_row_for_all_layers():
    """Counted: 6 layers; single and composed prompts for each, the class's once, and adaptive ones."""
    made = run(recipe(batch=2, phrases=2))
    layers = len(made.models.layers)
    made.advance()  # compares, R = 1
    assert made.models.encoded == layers * (2 + 2) + (2 + 2) + layers * (2 + 2)
    made.models.encoded = 0
    made.advance()
    assert made.models.encoded == layers * (2 + 4) + (2 + 4) + layers * 2


def test_without_the_composition_delta_no_class_is_encoded():
    made = run(recipe(delta="none"))
    losses = made.advance()
    assert "composition" not in losses
    assert made.models.encoded == len(made.models.layers) * (2 + 2)


def test_a_subject_whose_file_keeps_no_vectors_is_not_learned_further():
    import dataclasses

    subject = dataclasses.replace(begin(ToyModels(), recipe()), vectors=None)
    with pytest.raises(ValueError, match="Learn it anew"):
        learning.LayerwiseLearner(subject, recipe(), torch.device("cpu"))


def test_textual_inversion_learns_one_vector_and_nothing_else(tmp_path):
    models, made = ToyModels(), recipe(steps=200, batch=4)
    learner = inversion.InversionLearner(models, made, rate=2e-3)
    cat = models.tokens("cat")[0][0]
    assert torch.equal(learner.module.vector, models.table[cat])
    found = learning.Learning(models, learner, made, views())
    totals = [losses["total"] for losses in found.until(200)]
    assert sum(totals[-40:]) < sum(totals[:40])
    path = tmp_path / "z.safetensors"
    inversion.save(learner.module.vector, path)
    from safetensors.torch import load_file

    (saved,) = load_file(path).values()
    assert torch.equal(saved, learner.module.vector.detach()[None])


def test_words_that_do_not_do_are_refused_before_the_first_step():
    models = ToyModels()
    for changes, expected in (
        ({"placeholder": "two words"}, r'The placeholder "two words" must be one token'),
        ({"class_word": "a cat"}, "The class word .* must be one token"),
        ({"placeholder": "cat"}, "cannot be both the placeholder and the class word"),
        ({"placeholder": "Photo"}, '"Photo" cannot be the placeholder: it stands in every prompt'),
        ({"words": " "}, "no words that describe"),
        ({"weights": (1.0,)}, "1 weights for 2 words"),
    ):
        with pytest.raises(ValueError, match=expected):
            begin(models, recipe(**changes))
    for changes, expected in (
        ({"steps": 0}, "steps is 0"),
        ({"batch": 1.5}, "batch is 1.5"),
        ({"rate": float("nan")}, "rate"),
        ({"delta": "as committed"}, "delta"),
    ):
        with pytest.raises(ValueError, match=expected):
            recipe(**changes)
    assert toy_learning.begin(models, recipe()).learning.class_word == "cat"
