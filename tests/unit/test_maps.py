"""Maps of what a query selected, laid over the right part of the right picture."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssr_core import maps
from ssr_core.methods.ssr.subject import Subject
from ssr_core.vision import FITS, seen_box
from ssr_core.words import Word

SIZE, GRID = 32, 4


def make(source_size=(SIZE, SIZE), fit="center crop", patches=None):
    heat = torch.ones(GRID * GRID) if patches is None else patches.flatten()
    return Subject(
        tokens=torch.zeros(2, 3),
        null_tokens=torch.zeros(2, 3),
        attention=torch.cat([torch.zeros(1), heat]).expand(3, -1),
        picture=torch.full((SIZE, SIZE, 3), 128, dtype=torch.uint8),
        query="dog",
        words=(Word("dog", 1, 2),),
        encoder="",
        source_size=source_size,
        fit=fit,
    )


def test_without_the_reference_the_map_lies_on_what_the_encoder_saw():
    overlay, mask = maps.attention_map(make().map(), opacity=0.0)
    assert overlay.shape == (1, maps.PREVIEW_SIDE, maps.PREVIEW_SIDE, 3)
    assert mask.shape == (1, maps.PREVIEW_SIDE, maps.PREVIEW_SIDE)
    torch.testing.assert_close(overlay, torch.full_like(overlay, 128 / 255))


def test_the_preview_is_enlarged_as_pillow_enlarges_and_stays_within_its_colours():
    stripes = torch.randint(256, (1, SIZE, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    seen = stripes.repeat(SIZE, 1, 1)
    overlay, _ = maps.attention_map(make().map()._replace(seen=seen), opacity=1.0)  # it looks everywhere, so all of it is lit
    enlarged = Image.fromarray(seen.numpy()).resize((maps.PREVIEW_SIDE, maps.PREVIEW_SIDE), Image.Resampling.BICUBIC)
    torch.testing.assert_close(overlay[0], torch.from_numpy(np.asarray(enlarged) / np.float32(255)), rtol=0, atol=1 / 255)


def test_what_was_selected_is_marked_where_it_lies_in_the_whole_picture():
    upper_right = torch.tensor([0.0, 1.0, 0.0, 0.0])  # of 2 x 2 patches
    mask = maps.selection_mask(upper_right, (6, 9), (0.0, 0.0, 4.0, 4.0))
    assert mask.shape == (6, 9)
    assert mask[0].tolist() == [0, 0.25, 0.75, 1, 0, 0, 0, 0, 0]
    assert mask[:, 3].tolist() == [1, 0.75, 0.25, 0, 0, 0]
    everything = maps.selection_mask(torch.ones(4), (6, 9), (2.0, 1.0, 5.0, 4.0))
    expected = torch.zeros(6, 9)
    expected[1:4, 2:5] = 1
    assert torch.equal(everything, expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(FITS))
def test_overlay_and_mask_have_the_size_of_the_reference(height, width, fit):
    sharpened = 1.4 * torch.rand(height, width, 3) - 0.2  # beyond 0..1, as some filters leave a picture
    overlay, mask = maps.attention_map(make((height, width), fit).map(), sharpened)
    assert overlay.shape == (1, height, width, 3)
    assert mask.shape == (1, height, width)
    for image in (overlay, mask):
        assert 0 <= image.min() <= image.max() <= 1


@pytest.mark.parametrize("source_size", [(8000, 1), (1, 8000), (4, 1), (1, 1)])
def test_a_reference_of_one_line_has_a_map_too(source_size):
    _, mask = maps.attention_map(make(source_size).map(), torch.zeros(*source_size, 3))
    assert mask.shape == (1, *source_size)
    assert mask.sum() == 1, "the square that the encoder saw is one pixel"


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 90), st.integers(20, 90), st.sampled_from(FITS))
def test_the_map_is_one_where_the_encoder_looked_everywhere_and_zero_outside_the_seen_part(height, width, fit):
    mask = maps.attention_map(make((height, width), fit).map(), torch.zeros(height, width, 3))[1][0]
    left, top, right, bottom = (round(edge) for edge in seen_box(width, height, SIZE, fit))
    seen = torch.zeros(height, width)
    seen[max(0, top) : bottom, max(0, left) : right] = 1
    torch.testing.assert_close(mask, seen)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("height", "width"), [(120, 240), (240, 120)])
def test_a_hot_corner_is_hot_in_that_corner_of_the_seen_part(fit, height, width):
    patches = torch.zeros(GRID, GRID)
    patches[1:3, 2:4] = 1  # right of the middle, and inside the picture under every fit
    mask = maps.attention_map(make((height, width), fit, patches).map(), torch.zeros(height, width, 3))[1][0]
    left, top, right, bottom = seen_box(width, height, SIZE, fit)
    y, x = (mask > 0.5).nonzero().float().mean(0).tolist()
    assert (y - top) / (bottom - top) == pytest.approx(0.5, abs=0.02)
    if fit != "pad" or width > height:  # else the right edge lies in the padding
        assert (x - left) / (right - left) == pytest.approx(0.75, abs=0.02)


def test_no_opacity_shows_the_reference_itself():
    picture = torch.rand(40, 60, 3)
    overlay, _ = maps.attention_map(make((40, 60)).map(), picture, opacity=0.0)
    assert torch.equal(overlay[0], picture)


def test_a_map_covers_its_picture_as_the_nodes_offer_it_unless_told_otherwise():
    looks, picture, heat = make((40, 60)).map(), torch.rand(40, 60, 3), torch.rand(1, 4, 4)
    assert torch.equal(maps.attention_map(looks, picture)[0], maps.attention_map(looks, picture, opacity=0.6)[0])
    assert torch.equal(maps.footprint_map(heat, picture[None])[0], maps.footprint_map(heat, picture[None], opacity=0.6)[0])


def test_outside_the_seen_part_the_overlay_is_dark():
    picture = torch.rand(20, 60, 3)
    overlay, mask = maps.attention_map(make((20, 60)).map(), picture, opacity=0.5)
    outside = mask[0] == 0
    assert outside.any()
    torch.testing.assert_close(overlay[0][outside], picture[outside] / 4)
    assert torch.equal(overlay[0][~outside], picture[~outside]), "it looks everywhere there"


@pytest.mark.parametrize("channels", [1, 4])
def test_a_grey_or_transparent_picture_gives_an_rgb_overlay(channels):
    picture = torch.rand(40, 60, channels)
    assert maps.attention_map(make((40, 60)).map(), picture)[0].shape == (1, 40, 60, 3)
    assert maps.footprint_map(torch.rand(1, 4, 4), picture[None])[0].shape == (1, 40, 60, 3)


def test_another_picture_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r"is 60 x 41 pixels.*one of 60 x 40"):
        maps.attention_map(make((40, 60)).map(), torch.zeros(41, 60, 3))


def test_a_word_that_is_not_in_the_query_is_refused():
    with pytest.raises(ValueError, match='no word "cat"'):
        make().map("cat")
