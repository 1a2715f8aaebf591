"""Learned subjects along wires: renamed, together, and refused where they do not fit."""

from dataclasses import replace

import pytest
import torch
from support.lasr_subjects import TINY, WIDTH, embedder, make

from ssr_core.layout import SD15
from ssr_core.methods.lasr.contexts import ALPHA
from ssr_core.methods.lasr.subject import (
    MOST_SUBJECTS,
    active,
    check_base,
    other_text_encoder,
    set_alpha,
    table_fingerprint,
    together,
    weights_of,
)


def test_a_renamed_subject_is_the_same_subject():
    subject = make()
    renamed = subject.renamed(" y ", 344)
    assert (renamed.placeholder, renamed.token) == ("y", 344)
    assert renamed.fingerprint == subject.fingerprint
    assert subject.placeholder == "z"


def test_two_subjects_with_one_placeholder_are_refused():
    with pytest.raises(ValueError, match=r'Two subjects have the placeholder "z"\. Give one of them another in Load Subject'):
        together((make(),), (make(1),))
    with pytest.raises(ValueError, match=r'"Z" \(as "z", the same token\)'):
        together((make(),), (make(1, placeholder="Z"),))
    assert len(together((make(),), (make(1).renamed("y", 344),))) == 2


def test_a_set_has_a_limit():
    one = make()
    subjects = tuple(one.renamed(f"p{index}", index) for index in range(MOST_SUBJECTS))
    assert together(subjects) == subjects
    with pytest.raises(ValueError, match="17 subjects are too many"):
        together(subjects, (one,))


def test_subjects_of_different_models_do_not_go_together():
    wide = embedder(width=32)
    other = replace(make().renamed("y", 344), shapes=wide.shapes, weights=weights_of(wide), vectors=None)
    with pytest.raises(ValueError, match=r"different kinds of models: .*width 24 and .*width 32"):
        together((make(),), (other,))


def test_another_kind_of_model_is_refused_by_what_differs():
    check_base((make(),), TINY, WIDTH)
    for layout, width in ((SD15, WIDTH), (TINY, 1024)):
        with pytest.raises(ValueError, match=r'"z" was learned on a tiny model, with 4 layers .*; this model has'):
            check_base((make(),), layout, width)


def test_another_text_encoder_of_the_same_shapes_is_told():
    subject = make()
    assert other_text_encoder((subject,), subject.base.text_encoder) is None
    assert '"z" (learned on a tiny model)' in (other_text_encoder((subject,), "f" * 32) or "")


def test_the_text_encoder_is_known_in_full_and_in_half_precision():
    table = torch.randn(256, 64)
    assert table_fingerprint(table) == table_fingerprint(table.half())
    other = table.clone()
    other[64, 8] += 1
    assert table_fingerprint(table) != table_fingerprint(other)


def test_an_embedder_of_a_subject_is_its_own():
    subject = make()
    before = subject.fingerprint
    made = subject.embedder()
    assert not any(parameter.requires_grad for parameter in made.parameters())
    made.static.bias.data.add_(1)
    assert subject.fingerprint == before
    assert torch.equal(embedder(0).static(), make(0).embedder().static())


def test_the_last_subjects_alpha_counts_for_the_set():
    assert set_alpha((make(alpha=0.2), make(alpha=0.7))) == 0.7
    assert set_alpha(()) == ALPHA


def test_a_strength_of_zero_removes_a_subject():
    subject = make()
    assert active((subject.scaled(0), subject)) == (subject,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"placeholder": " "}, "is no placeholder"),
        ({"placeholder": "z" * 100}, "is no placeholder"),
        ({"token": -1}, "token of the"),
        ({"token": 1.5}, "token of the"),
        ({"alpha": 2}, "alpha"),
        ({"strength": float("inf")}, "strength of the"),
    ],
)
def test_what_is_no_subject_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_an_embedder_is_made_without_random_numbers_and_shares_no_memory_with_its_subject():
    """Samplers draw their noise from the same generator."""
    subject = make()
    before = torch.get_rng_state()
    made = subject.embedder()
    assert torch.equal(torch.get_rng_state(), before)
    made.static.bias.add_(1.0)
    assert not torch.equal(made.static.bias, subject.weights["static.bias"])
