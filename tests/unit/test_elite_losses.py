"""The objectives of both stages."""

import pytest
import torch

from ssr_core.methods.elite.losses import global_objective, local_objective, masked_noise_loss


def pair(rows=2):
    torch.manual_seed(0)
    return torch.randn(rows, 4, 6, 6), torch.randn(rows, 4, 6, 6)


def test_the_first_stage_adds_the_size_of_all_words():
    predicted, noise = pair()
    words = torch.full((2, 5, 3), -2.0)
    loss = global_objective(predicted, noise, words)
    assert loss.size == 2.0
    torch.testing.assert_close(loss.total, (predicted - noise).square().mean() + 0.02)


def test_the_official_scaling_is_four_times_the_one_per_value():
    predicted, noise = pair()
    mask = (torch.rand(2, 1, 6, 6) > 0.5).float()
    official, per_value = (masked_noise_loss(predicted, noise, mask, scaling) for scaling in ("official", "per value"))
    torch.testing.assert_close(official, 4 * per_value)
    whole = masked_noise_loss(predicted, noise, torch.ones(2, 1, 6, 6), "per value")
    torch.testing.assert_close(whole, (predicted - noise).square().mean())


def test_each_sample_counts_alike_whatever_its_area():
    predicted, noise = pair()
    mask = torch.ones(2, 1, 6, 6)
    mask[1, :, :, 1:] = 0.0
    alone = [
        masked_noise_loss(predicted[row : row + 1], noise[row : row + 1], mask[row : row + 1], "official") for row in (0, 1)
    ]
    torch.testing.assert_close(masked_noise_loss(predicted, noise, mask, "official"), sum(alone) / 2)


def test_a_sample_without_area_counts_as_no_error():
    predicted, noise = pair(1)
    assert masked_noise_loss(predicted, noise, torch.zeros(1, 1, 6, 6), "official") == 0.0


def test_sample_weights_multiply_each_samples_error():
    predicted, noise = pair()
    mask, weights = torch.ones(2, 1, 6, 6), torch.tensor([2.0, 0.0])
    first = masked_noise_loss(predicted[:1], noise[:1], mask[:1], "per value")
    torch.testing.assert_close(masked_noise_loss(predicted, noise, mask, "per value", weights), first)


def test_the_second_stage_adds_the_mean_size_over_layers():
    predicted, noise = pair()
    values = [torch.full((2, 4, 8), 1.0), torch.full((2, 4, 16), -3.0)]
    loss = local_objective(predicted, noise, torch.ones(2, 1, 6, 6), values, "per value")
    assert loss.size == 2.0
    assert loss.total.item() == pytest.approx(loss.noise.item() + 2e-4)
