"""The estimate of memory before a run against what autograd really keeps, and the curve after it."""

import pytest
import torch

from ssr_core.curve import LINE, curve, smooth
from ssr_core.hosts.diffusers.learning import BaseModels
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.layout import SD15
from ssr_core.methods.lasr.learning import LayerwiseLearner, Learning
from ssr_core.methods.lasr.memory import TextShape, estimate
from ssr_core.methods.lasr.recipe import Recipe, begin
from ssr_core.methods.lasr.views import Views


@pytest.mark.parametrize(("delta", "phrases"), [("repaired", 2), ("none", 1)])
def test_a_step_keeps_what_was_told_within_a_third(delta, phrases):
    base = load_base("mini", vision_named=None)
    models, recipe = (
        BaseModels(base, "mini", torch.device("cpu")),
        Recipe("star", placeholder="moon", delta=delta, phrases=phrases),
    )
    learner = LayerwiseLearner(begin(models, recipe), recipe, models.device)
    views = Views(torch.randn(2, 2, 4, 16, 16), torch.ones(2, 2, 16, 16), 2)
    made = Learning(models, learner, recipe, views, knows_photos=False)
    own = {one.data_ptr() for part in (base.unet, base.text_encoder, learner.module) for one in part.parameters()}
    kept: dict[int, int] = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    step = made._drawn()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        losses = learner.losses(models, step)
    assert losses["total"].requires_grad
    text = base.text_encoder.config
    told = estimate(models.layout, TextShape(text.hidden_size, text.num_hidden_layers), 128, recipe)
    assert 1 <= told.total / sum(kept.values()) < 4 / 3


def test_checkpointing_and_smaller_batches_take_less():
    text = TextShape(768, 12)
    whole = estimate(SD15, text, 512, Recipe("cat"))
    assert 8 * 2**30 < whole.total < 16 * 2**30
    assert estimate(SD15, text, 512, Recipe("cat"), checkpointing=True).total < whole.total / 4
    assert estimate(SD15, text, 512, Recipe("cat", batch=1)).total < 0.6 * whole.total
    assert estimate(SD15, text, 512, Recipe("cat"), unet_bytes=2).unet == pytest.approx(whole.unet / 2, rel=1e-6)
    assert str(whole).startswith("12.0 GB beside the models (5.8 GB for the UNet")


def test_a_falling_loss_is_drawn_falling():
    picture = curve([(step, 1 / (step + 1)) for step in range(200)], "loss")
    assert picture.size == (640, 320)
    pixels = torch.tensor(list(picture.getdata())).view(320, 640, 3)
    line = (pixels == torch.tensor(LINE)).all(dim=2).nonzero()
    left, right = (
        line[line[:, 1] == column][:, 0].float().mean() for column in (int(line[:, 1].min()) + 2, int(line[:, 1].max()) - 2)
    )
    assert left < right - 100


def test_a_curve_of_nothing_and_of_one_number_is_a_picture():
    for numbers in ([], [(3, 0.5)], [(1, 0.2), (2, 0.2)]):
        assert curve(numbers, "loss").size == (640, 320)


def test_the_mean_runs_over_a_twentieth():
    assert smooth([1.0] * 40 + [0.0] * 40)[-1] == pytest.approx(0)
    assert smooth([0.0, 1.0, 0.0]) == [0.0, 1.0, 0.0]
