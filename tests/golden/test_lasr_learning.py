"""Training steps of askerlee/AdaFace-dev at 6b1560fa through the run itself: its prompts, its UNet batch, its parts of the loss."""

import pytest
import torch
from support import golden_lasr
from support.golden_lasr import auto, cases, raw
from support.golden_lasr_steps import CaseModels

from ssr_core.methods.lasr import losses
from ssr_core.methods.lasr.contexts import prompts_of, static_contexts
from ssr_core.methods.lasr.draws import Draw
from ssr_core.methods.lasr.learning import LayerwiseLearner, Step
from ssr_core.methods.lasr.losses import Contexts
from ssr_core.methods.lasr.recipe import Recipe
from ssr_core.methods.lasr.subject import LasrSubject, Learning, weights_of


def as_drawn(step):
    """What the run would have drawn."""
    prompts = step["prompts"]
    batch = len(step["timesteps"])
    singles, composed = prompts["subject_single"][:batch], prompts["subject_composition"]
    frames = tuple(" ".join("{}" if word == "z" else word for word in single.split()) for single in singles)
    phrases = [text.removeprefix(singles[number % batch]).strip() for number, text in enumerate(composed)]
    rows = tuple(tuple(phrases[start : start + batch]) for start in range(0, len(phrases), batch))
    alphas = torch.tensor(step["adaptive_weight_per_layer"])
    return Draw(
        (0,) * batch,
        (0,) * batch,
        frames,
        rows,
        torch.tensor(step["timesteps"]),
        torch.empty(0),
        alphas,
        step["adaptive_delta"],
    )


def of_step(case, number):
    """A run's learner, with weights as they are before the first step, and one of the case's steps as the run would have drawn it."""
    seed, stated, step = case["seed"], case["subject"], case["steps"][number]
    made = golden_lasr.embedder(seed, stated["n_init"], stated["rank"], golden_lasr.TINY)
    subject = LasrSubject(
        made.shapes, weights_of(made), "z", stated["token_id"], learning=Learning((), "person"),
        vectors=auto(seed, "init_vectors", case["init_vectors"]["shape"]),
    )  # fmt: skip
    learner = LayerwiseLearner(subject, Recipe("person"), torch.device("cpu"))
    latents, noise = (raw(seed, f"{part}.{step['step']}", 2, 4, 16, 16) for part in ("z0", "noise"))
    drawn, mask = as_drawn(step), golden_lasr.mask(step["mask_rects_y0_y1_x0_x1"], 16, 16)
    return learner, Step(drawn, golden_lasr.noisy(latents, noise, drawn.timesteps), noise, drawn.timesteps, mask)


@pytest.mark.parametrize("name", golden_lasr.of_kind("train_steps"))
def test_the_first_step_of_the_authors(name):
    """Their later steps follow another weight of the composition delta (test_lasr_losses.py has them)."""
    case = cases()[name]
    step, allowed = case["steps"][0], case["tolerance"]["losses"]["rtol"]
    learner, drawn = of_step(case, 0)
    found = learner.losses(CaseModels(case), drawn)
    assert found["reconstruction"].item() == pytest.approx(step["losses"]["loss_simple"], rel=allowed)
    assert found["regulariser"].item() == pytest.approx(step["losses"]["loss_emb_reg"], rel=allowed)
    found["total"].backward()
    assert sum(one.grad is not None for one in learner.module.parameters()) == len(step["grad_l2"]) == 170


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_compares_each_prompt_with_its_own_phrases(number):
    """Two for each picture on step 1, whose prompts the authors' code lists in full; with a run's own form of the comparison."""
    case = cases()["train_71"]
    step, models = case["steps"][number], CaseModels(case)
    learner, drawn = of_step(case, number)
    assert len(step["prompts"]["subject_single"]) == (2, 4)[number]

    def encoded(which):
        ids = models.ids(step["prompts"][which])
        return ids, static_contexts(models.encode, prompts_of(ids, models.embeds(ids), [learner.token]), [learner.learned])

    (_, single), (_, composed) = encoded("subject_single"), encoded("subject_composition")
    (ids, class_single), (composed_ids, class_composed) = encoded("class_single"), encoded("class_composition")
    found = learner.losses(models, drawn)["composition"].item()
    rows = losses.phrase_rows(ids, composed_ids)
    static = losses.composition_delta(Contexts(single, composed), Contexts(class_single, class_composed), rows=rows)
    if number:
        assert found == pytest.approx(static.total.item(), rel=1e-5)
    else:  # compares adaptive contexts too
        assert found > static.total.item()
