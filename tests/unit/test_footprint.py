"""Where a subject acted: averages over passes, crops and frames, and one scale for the subjects of a picture."""

import pytest
import torch

from ssr_core import footprint, maps
from ssr_core.footprint import Footprint


def test_layers_of_any_size_are_averaged_on_the_canvas():
    noted = Footprint(["dog"])
    noted.add(torch.full((1, 1, 2, 2), 1.0), (4, 4))
    noted.add(torch.full((1, 1, 1, 1), 3.0), (4, 4))
    half = torch.zeros(1, 1, 4, 4)
    half[..., :2] = 4.0
    noted.add(half, (4, 4))
    expected = torch.tensor([8 / 3, 8 / 3, 4 / 3, 4 / 3]) / (8 / 3)
    torch.testing.assert_close(noted.maps(), expected.expand(1, 1, 4, 4))


def test_a_crop_counts_only_where_it_lies():
    noted = Footprint(["dog"])
    noted.add(torch.full((1, 1, 2, 2), 1.0), (4, 4))
    noted.add(torch.full((1, 1, 2, 2), 3.0), (4, 4), area=(2, 2, 0, 2))  # the upper right quarter
    found = noted.maps()[0, 0]
    assert found[:2, 2:].unique().tolist() == [1.0]
    assert found[2:].unique().tolist() == [0.5]


def test_frames_of_a_window_are_their_own_pictures():
    noted = Footprint(["dog"])
    noted.add(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), (2, 2), pictures=(3, 0))
    noted.add(torch.tensor([2.0]).view(1, 1, 1, 1), (2, 2), pictures=(3,))
    assert noted.maps().shape == (1, 2, 2, 2)
    noted.add(torch.tensor([0.5]).view(1, 1, 1, 1), (2, 2), area=(1, 1, 0, 0), pictures=(3,))
    second = noted.maps()[0, 1]
    assert second[0, 0] / second[1, 1] == pytest.approx((3.5 / 3) / (3.0 / 2))


def test_devices_that_share_a_batch_are_put_together_when_the_sampling_ends():
    """meta stands in for a second device: it cannot be read, so it must never meet the first one's numbers before that."""
    noted = Footprint(["dog"])
    noted.add(torch.ones(1, 1, 1, 1), (2, 2))
    noted.add(torch.ones(1, 1, 1, 1, device="meta"), (2, 2))
    assert {device.type for _, device in noted._noted} == {"cpu", "meta"}


def test_subjects_of_a_picture_share_a_scale():
    noted = Footprint(["dog", "cat"])
    noted.add(torch.tensor([[4.0, 1.0], [2.0, 2.0]]).view(2, 2, 1, 1), (1, 1))
    assert noted.maps().flatten(1).tolist() == [[1.0, 0.5], [0.5, 1.0]]


def test_a_sampling_in_which_nobody_acted_says_so():
    with pytest.raises(ValueError, match="No subject acted"):
        Footprint(["dog"]).maps()


def test_magnitude_is_one_where_a_contribution_is_as_large_as_the_text():
    text = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert footprint.magnitude(text, text).mean(dim=1).tolist() == pytest.approx([1.0, 1.0])
    torch.testing.assert_close(footprint.magnitude(0.5 * text, text), 0.5 * footprint.magnitude(text, text))


def test_the_picture_is_lit_where_the_subject_acted():
    heat = torch.zeros(2, 3, 4)
    heat[1, 0] = 1.0
    overlay, mask = maps.footprint_map(heat, torch.full((2, 12, 16, 3), 0.5), opacity=1.0)
    assert overlay[0].max() == 0, "nowhere"
    torch.testing.assert_close(overlay[1, 0], torch.full((16, 3), 0.5))
    assert overlay[1, -1].max() == 0
    assert mask[1, 0, 0] == 1.0
    assert mask[1, -1, -1] == 0.0
    with pytest.raises(ValueError, match="made 2 pictures, this batch holds 1"):
        maps.footprint_map(heat, torch.zeros(1, 8, 8, 3))


def test_a_subject_that_acts_everywhere_and_a_little_more_in_one_place_is_shown_there():
    """As footprints are: the least of it is more than half of the most."""
    heat = torch.full((1, 8, 8), 0.75)
    heat[0, 2:5, 3:6] = 1.0
    overlay, _ = maps.footprint_map(heat, torch.full((1, 64, 64, 3), 0.5))
    assert overlay[0, 20:36, 28:44].mean() > 5 * overlay[0, 48:].mean()
