"""Under the host's torch.compile wrapper: the same numbers, nothing compiled anew from step to step or for another subject."""

import pytest
import torch
from support import tiny


@pytest.fixture
def compiled():
    """A function that compiles a MODEL's UNet as the host's nodes do; dynamo alone, no code generation."""
    import torch._dynamo
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    torch._dynamo.reset()

    def wrap(model):
        clone = model.clone()
        set_torch_compile_wrapper(clone, backend="eager")
        return clone

    yield wrap
    torch._dynamo.reset()


def compilations():
    import torch._dynamo

    return torch._dynamo.utils.counters["frames"]["total"]


@pytest.mark.parametrize("combine", ["joint", "by word"])
def test_compiled_once_for_all_steps_and_subjects(apply, encoder, subject, compiled, combine):
    model = tiny.model()
    other = (tiny.subject(encoder.fingerprint, seed=9, query="hat"),)
    patched = apply.apply_subjects(model, encoder, subject + other, 0.65, combine=combine)
    expected = tiny.sample(patched, steps=4)
    fast = compiled(patched)
    assert torch.equal(tiny.sample(fast, steps=4), expected)
    tiny.sample(fast, steps=4)
    warm = compilations()
    assert torch.equal(tiny.sample(fast, steps=4), expected)
    assert compilations() == warm

    exchanged = apply.apply_subjects(model, encoder, other + subject, 0.3, combine=combine)
    found = tiny.sample(compiled(exchanged), steps=4)
    assert torch.equal(found, tiny.sample(exchanged, steps=4))
    assert not torch.allclose(found, expected)
    assert compilations() == warm
