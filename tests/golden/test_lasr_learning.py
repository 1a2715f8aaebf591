"""Training steps of askerlee/AdaFace-dev at 6b1560fa through the run itself: its prompts, its UNet batch, its parts of the loss."""

import pytest
import torch
from support import golden_lasr
from support.golden_lasr import auto, cases, raw

from ssr_core.methods.lasr.contexts import Learned
from ssr_core.methods.lasr.draws import Draw
from ssr_core.methods.lasr.learning import LayerwiseLearner, Step
from ssr_core.methods.lasr.recipe import Recipe
from ssr_core.methods.lasr.subject import LasrSubject, Learning, weights_of


class CaseModels:
    half = checkpointing = False
    device = torch.device("cpu")

    def __init__(self, case):
        self.text, self.unet, self.layout = golden_lasr.TextEncoder(case), golden_lasr.unet(case["seed"]), golden_lasr.TINY
        self.encode, self.embeds, self.ids = self.text, self.text.embeds, golden_lasr.token_ids

    def predict(self, noisy, timesteps, context):
        return golden_lasr.run_with_contexts(self.unet, noisy, timesteps, context)


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


@pytest.mark.parametrize("name", golden_lasr.of_kind("train_steps"))
def test_the_first_step_of_the_authors(name):
    """Their later steps follow another weight of the composition delta (test_lasr.py has them)."""
    case = cases()[name]
    seed, stated, step = case["seed"], case["subject"], case["steps"][0]
    made = golden_lasr.embedder(seed, stated["n_init"], stated["rank"], golden_lasr.TINY)
    subject = LasrSubject(
        made.shapes, weights_of(made), "z", stated["token_id"], learning=Learning((), "person"),
        vectors=auto(seed, "init_vectors", case["init_vectors"]["shape"]),
    )  # fmt: skip
    learner = LayerwiseLearner(subject, Recipe("person"), torch.device("cpu"))
    assert isinstance(learner.learned, Learned)
    latents, noise = (raw(seed, f"{part}.{step['step']}", 2, 4, 16, 16) for part in ("z0", "noise"))
    drawn = as_drawn(step)
    mask = golden_lasr.mask(step["mask_rects_y0_y1_x0_x1"], 16, 16)
    noisy = golden_lasr.noisy(latents, noise, drawn.timesteps)
    found = learner.losses(CaseModels(case), Step(drawn, noisy, noise, drawn.timesteps, mask))
    allowed = case["tolerance"]["losses"]["rtol"]
    assert found["reconstruction"].item() == pytest.approx(step["losses"]["loss_simple"], rel=allowed)
    assert found["regulariser"].item() == pytest.approx(step["losses"]["loss_emb_reg"], rel=allowed)
    found["total"].backward()
    assert sum(one.grad is not None for one in learner.module.parameters()) == len(step["grad_l2"]) == 170
