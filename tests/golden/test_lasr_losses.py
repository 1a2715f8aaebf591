"""Losses, learning rates and training steps of askerlee/AdaFace-dev at 6b1560fa (data/lasr/cases.json), with all gradients."""

import pytest
import torch
from support import golden_lasr
from support.golden_lasr import assert_close, auto, cases, near, of_kind, raw, value
from support.golden_lasr_steps import CaseModels, check_training_steps

from ssr_core.methods.lasr import losses
from ssr_core.methods.lasr.losses import AS_COMMITTED, Contexts, RateSchedule


@pytest.mark.parametrize("name", of_kind("delta_loss"))
def test_delta_loss_and_its_gradient(name):
    case = cases()[name]
    compared = raw(case["seed"], "delta", *case["shape"])
    reference = raw(case["seed"], "ref_delta", *case["shape"]) * case["reference_scale"]
    compared[:, :, case["zero_token_rows_in_both"]] = 0
    reference[:, :, case["zero_token_rows_in_both"] + case["zero_token_rows_in_reference_only"]] = 0
    loss = losses.delta_loss(compared.requires_grad_(), reference, case["exponent"])
    loss.backward()
    assert loss.item() == value(case, "loss")
    assert_close(compared.grad.norm(dim=-1), name, "grad_l2_per_token_row")


@pytest.mark.parametrize("name", of_kind("composition_delta_loss"))
def test_composition_delta_as_committed(name):
    case = cases()[name]
    batch, layers = case["batch"], case["layers"]
    whole = raw(case["seed"], "static_contexts", *case["static_contexts"]["shape"])
    single, composed, class_single, class_composed = whole.view(4, batch, layers, 77, 768)
    adaptive = None
    if case["with_adaptive"]:
        rows = [raw(case["seed"], f"adaptive.{layer}", 2 * batch, 77, 768) for layer in range(layers)]
        adaptive = Contexts(*torch.stack(rows, dim=1).chunk(2))
    delta = losses.composition_delta(Contexts(single, composed), Contexts(class_single, class_composed), adaptive, AS_COMMITTED)
    assert delta.total.item() == value(case, "loss")
    assert delta.static.item() == value(case, "static_part_before_scaling")


@pytest.mark.parametrize("name", of_kind("regulariser"))
def test_regulariser_and_its_gradients(name):
    case = cases()[name]
    made = golden_lasr.embedder(case["seed"], case["n_init"], case["rank"])
    found = losses.regulariser(made, auto(case["seed"], "init_vectors", case["init_vectors"]["shape"]))
    found.total.backward()
    for part, key in ((found.total, "total"), (found.static, "static_part"), (found.adaptive, "adaptive_part")):
        assert part.item() == value(case, key)
    stated = case["expected"]["grad_l2"]
    gradients = {key: parameter.grad for key, parameter in made.named_parameters()}
    assert gradients.keys() == stated["value"].keys()
    for key, norm in stated["value"].items():
        if norm is None:
            assert gradients[key] is None
        else:
            assert gradients[key].norm().item() == near(norm, stated["rtol"], stated["atol"]), key


def test_learning_rates():
    case = cases()["lr_55"]
    schedule = RateSchedule(case["warm_up_steps"], case["max_decay_steps"], case["lr_start"], case["lr_max"], case["lr_min"])
    assert schedule == RateSchedule()
    factors = [schedule.factor(step) for step in case["steps"]]
    assert factors == value(case, "factor")
    assert [case["batch_size"] * case["base_learning_rate"] * factor for factor in factors] == value(case, "learning_rate")


@pytest.mark.parametrize("name", of_kind("train_steps"))
def test_training_steps_with_all_gradients(name):
    check_training_steps(name, CaseModels(cases()[name]))
