"""Two learned subjects on the tiny model, and prompts of one."""

import pytest
from support import learned


@pytest.fixture(scope="module")
def cat():
    return learned.subject(1)


@pytest.fixture(scope="module")
def hat():
    return learned.subject(2, "y", 344)


@pytest.fixture
def positive(clip, cat):
    return learned.prompt(clip, (cat,), "a photo of a z on a beach")


@pytest.fixture
def negative(clip):
    return learned.plain(clip, "blurred")


@pytest.fixture
def patched(model, clip, cat):
    return learned.apply(model, clip, (cat,))


@pytest.fixture
def apart(monkeypatch):
    """Makes the host run every cond as a call of its own, as for want of memory."""

    def switch(model):
        monkeypatch.setattr(model.model, "memory_required", lambda *args, **kwargs: 1e30)

    return switch
