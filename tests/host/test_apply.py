"""The contract with the graph: Apply's MODEL in a real ComfyUI sampler."""

import torch
from support import tiny


def test_subject_changes_the_picture_and_unpatched_model_stays_bit_identical(apply, model, encoder, subject, plain):
    patched = apply.apply_subjects(model, encoder, subject, 0.65)
    changed = tiny.sample(patched)
    assert torch.isfinite(changed).all()
    assert (changed - plain).abs().max() > 0.01
    assert torch.equal(tiny.sample(model), plain)
    assert torch.equal(tiny.sample(patched), changed)


def test_strength_zero_changes_no_bit(apply, model, encoder, subject, plain):
    assert torch.equal(tiny.sample(apply.apply_subjects(model, encoder, subject, 0.0)), plain)
    nobody = tuple(part.scaled(0.0) for part in subject)
    assert torch.equal(tiny.sample(apply.apply_subjects(model, encoder, nobody, 1.0)), plain)
