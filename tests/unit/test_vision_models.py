"""A host's vision model keeps one memory, and the memory keeps no model."""

import gc
import weakref

import torch

from ssr_core.vision_model import VisionModel, VisionModels


class Tower:
    """Gives its number as features."""

    def __init__(self, number):
        self.number = number


def described(tower, held):
    return VisionModel(lambda pixels: [pixels * held().number], size=1, width=3, tokens=2, layers=1)


def test_a_model_keeps_its_memory_and_another_one_has_its_own():
    models = VisionModels(described)
    one, other = Tower(1.0), Tower(2.0)
    assert models(one) is models(one)
    assert models(other) is not models(one)
    assert torch.equal(models(other).hidden_states(torch.ones(1))[0], torch.full((1,), 2.0))


def test_a_model_that_nobody_holds_goes_and_its_memory_with_it():
    models = VisionModels(described)
    tower = Tower(1.0)
    reference, memory = weakref.ref(tower), weakref.ref(models(tower))
    del tower
    gc.collect()
    assert reference() is None
    assert memory() is None
