"""What of a picture ELITE sees, and masks of every kind under one rule."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_core.methods.elite.framing import as_elite_masks, frame_object, on_grid
from ssr_core.vision import MEAN_COLOUR

SIZE, GRID = 32, 16


def picture(width=100, height=60):
    """Red grows to the right, green to the bottom; never black."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([100 + x, 100 + y, np.full_like(x, 200)], axis=-1).astype(np.uint8))


def box_mask(left, top, right, bottom, width=100, height=60):
    mask = torch.zeros(height, width)
    mask[top:bottom, left:right] = 1.0
    return mask


def test_the_square_lies_around_the_object_with_its_margin():
    framed = frame_object(picture(), box_mask(40, 20, 60, 30), SIZE, GRID, "crop to mask", margin=0.25)
    assert framed.box == (35.0, 10.0, 65.0, 40.0)
    assert framed.picture.size == framed.thing.size == (SIZE, SIZE)


def test_a_square_at_the_edge_moves_into_the_picture():
    framed = frame_object(picture(), box_mask(0, 40, 20, 60), SIZE, GRID, "crop to mask", margin=0.25)
    assert framed.box == (0.0, 30.0, 30.0, 60.0)


def test_a_square_larger_than_the_picture_reaches_beyond_it():
    framed = frame_object(picture(), box_mask(0, 20, 100, 40), SIZE, GRID, "crop to mask")
    assert framed.box == (0.0, -20.0, 100.0, 80.0)
    assert framed.picture.getpixel((SIZE // 2, 1)) == MEAN_COLOUR
    assert framed.thing.getpixel((SIZE // 2, 1)) == (0, 0, 0)
    assert framed.thing.getpixel((SIZE // 2, SIZE // 2))[2] == 200


def test_the_objects_proportions_are_kept_by_the_crop_and_not_by_the_stretch():
    mask = box_mask(40, 20, 60, 30)  # 2 : 1
    for framing, ratio in (("crop to mask", 2.0), ("stretch", 2 * 60 / 100)):
        marked = frame_object(picture(), mask, 160, 64, framing).patches.view(64, 64)
        height, width = int(marked.any(dim=1).sum()), int(marked.any(dim=0).sum())
        assert width / height == pytest.approx(ratio, rel=0.2)


def test_without_a_mask_the_whole_picture_is_the_object():
    framed = frame_object(picture(), None, SIZE, GRID, "crop to mask")
    assert framed.box == (0.0, 0.0, 100.0, 60.0)
    assert framed.patches.all()
    assert framed.thing.tobytes() == framed.picture.tobytes()


def test_a_mask_of_another_size_is_stretched_over_the_picture():
    half = torch.zeros(6, 10)
    half[:, :5] = 1.0
    framed = frame_object(picture(), half, SIZE, GRID, "stretch")
    assert framed.patches.view(GRID, GRID).sum(dim=1).tolist() == [8] * GRID


def test_the_grid_samples_the_top_left_of_each_cell():
    shape = np.zeros((128, 128), np.uint8)
    shape[8, 16] = 1
    assert on_grid(shape, 16).nonzero().flatten().tolist() == [16 + 2]
    shape[8, 16], shape[9, 17] = 0, 1
    assert not on_grid(shape, 16).any()


def test_a_mask_that_marks_nothing_is_refused():
    with pytest.raises(ValueError, match=r"marks nothing.*Load Image gives an all-zero MASK"):
        frame_object(picture(), torch.zeros(60, 100), SIZE, GRID, "stretch")


def test_a_mask_too_thin_for_the_grid_is_refused_with_what_helps():
    with pytest.raises(ValueError, match="so thin that none of the 16 x 16"):
        frame_object(picture(), box_mask(41, 21, 43, 22), SIZE, GRID, "stretch")
    assert frame_object(picture(), box_mask(41, 21, 43, 22), SIZE, GRID, "crop to mask").patches.any()


@pytest.mark.parametrize("margin", [-0.1, float("nan"), 5, "x"])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(ValueError, match="margin is"):
        frame_object(picture(), box_mask(1, 1, 9, 9), SIZE, GRID, "crop to mask", margin)


def test_a_square_that_no_memory_holds_is_refused():
    with pytest.raises(ValueError, match="A square around the object would have 60,000 pixels"):
        frame_object(picture(60_000, 2), box_mask(0, 0, 60_000, 2, 60_000, 2), SIZE, GRID, "crop to mask")


def test_half_and_more_is_object():
    mask = torch.tensor([[[0.0, 0.49, 0.5, 1.0]]])
    assert as_elite_masks(mask).tolist() == [[[0, 0, 1, 1]]]
    assert as_elite_masks(mask[0]).tolist() == [[[0, 0, 1, 1]]]
    assert as_elite_masks(mask.bool()).tolist() == [[[0, 1, 1, 1]]]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_masks_of_one_to_four_channels_mark_the_same(channels):
    marked = torch.zeros(1, 4, 6, 1)
    marked[:, 1:3, 2:5] = 1.0
    made = marked if channels == 1 else marked.expand(-1, -1, -1, channels).clone()
    if channels in (2, 4):
        made[..., -1] = 1.0  # opaque
    assert torch.equal(as_elite_masks(made), marked[..., 0])
    if channels in (2, 4):  # a cut-out, whatever its colours
        cut = torch.cat([torch.full((1, 4, 6, channels - 1), 0.2), marked], dim=-1)
        assert torch.equal(as_elite_masks(cut), marked[..., 0])


@pytest.mark.parametrize(
    "masks", [torch.zeros(2, 3, 4, 5), torch.full((1, 4, 4), 255.0), torch.full((4, 4), float("nan")), "mask"]
)
def test_what_is_no_mask_is_refused(masks):
    with pytest.raises(ValueError, match="The mask"):
        as_elite_masks(masks)
