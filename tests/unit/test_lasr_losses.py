"""LASR's objective, where it differs from the authors': what counts, what does not, and what gradients reach."""

import pytest
import torch
from support.lasr_subjects import WIDTH, embedder

from ssr_core.methods.lasr import losses
from ssr_core.methods.lasr.losses import AS_COMMITTED, REPAIRED, Contexts, RateSchedule


def contexts(seed, layers=4):
    generator = torch.Generator().manual_seed(seed)
    return Contexts(*(torch.randn(2, layers, 7, WIDTH, generator=generator) for _ in range(2)))


def test_what_lies_outside_the_mask_does_not_count():
    predicted, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    mask = torch.zeros(2, 8, 8)
    mask[:, 2:6, 2:6] = 1
    changed = predicted.clone()
    changed[:, :, 0] += 9
    assert torch.equal(losses.reconstruction(predicted, noise, mask), losses.reconstruction(changed, noise, mask))
    torch.testing.assert_close(
        losses.reconstruction(predicted, noise, torch.ones(2, 8, 8)), losses.reconstruction(predicted, noise)
    )


def test_a_class_that_is_encoded_once_stands_for_all_layers():
    subject, of_class = contexts(0), contexts(1, layers=1)
    whole = Contexts(*(part.expand(-1, 4, -1, -1) for part in of_class))
    one, other = (losses.composition_delta(subject, reference).total for reference in (of_class, whole))
    torch.testing.assert_close(one, other)


def test_no_gradient_passes_through_the_reference():
    subject, of_class = contexts(0), contexts(1)
    for part in (*subject, *of_class):
        part.requires_grad_()
    losses.composition_delta(subject, of_class, subject).total.backward()
    assert subject.composed.grad.any()
    assert of_class.composed.grad is None


def test_the_repaired_delta_is_not_divided_by_the_layers():
    subject, of_class, adaptive = contexts(0), contexts(1), contexts(2)
    repaired = losses.composition_delta(subject, of_class, adaptive)
    committed = losses.composition_delta(subject, of_class, adaptive, AS_COMMITTED)
    torch.testing.assert_close(repaired.total, repaired.static + 2.5 * repaired.adaptive)
    torch.testing.assert_close(committed.total, (committed.static + 5 * committed.adaptive) / 16)
    assert (REPAIRED.weight, AS_COMMITTED.weight) == (1e-3, 5e-3)


def test_rows_before_the_phrase_can_be_left_out():
    single, composed = torch.tensor([[0, 5, 6, 9, 9, 9, 9]] * 2), torch.tensor([[0, 5, 6, 7, 9, 9, 9]] * 2)
    rows = losses.phrase_rows(single, composed)
    assert rows.tolist() == [[False] * 3 + [True] * 4] * 2
    subject, of_class = contexts(0), contexts(1)
    found = losses.composition_delta(subject, of_class, rows=rows).static
    cut = [Contexts(*(part[:, :, 3:] for part in group)) for group in (subject, of_class)]
    torch.testing.assert_close(found, losses.composition_delta(*cut).static)


def test_the_same_change_costs_nothing():
    change = torch.randn(2, 4, 7, WIDTH).sign()
    assert losses.delta_loss(change, change).item() == pytest.approx(0, abs=1e-6)
    assert losses.delta_loss(-change, change).item() == pytest.approx(2, abs=1e-6)


def test_the_regulariser_pulls_towards_the_words():
    made = embedder()
    vectors = torch.randn(2, WIDTH)
    found = losses.regulariser(made, vectors)
    torch.testing.assert_close(found.total, found.static + found.adaptive)
    found.total.backward()
    with torch.no_grad():
        made.static.pre_vecs -= made.static.pre_vecs.grad
    assert losses.regulariser(made, vectors).static < found.static


def test_drawn_alphas_lie_in_their_range_and_follow_the_seed():
    alphas = losses.drawn_alphas(1000, torch.Generator().manual_seed(0))
    assert alphas.min() >= 0.4
    assert alphas.max() <= 0.7
    assert alphas.std() > 0.05
    assert torch.equal(alphas, losses.drawn_alphas(1000, torch.Generator().manual_seed(0)))


def test_a_schedule_ends_where_it_says():
    schedule = RateSchedule(warm_up=10, until=20, first=0.1, most=1.0, last=0.2)
    assert [schedule.factor(step) for step in (0, 10, 20, 1000)] == pytest.approx([0.1, 1.0, 0.2, 0.2])
    assert RateSchedule(warm_up=0, until=0).factor(0) == pytest.approx(1.0)
