"""Reference pictures of one object: cut out, on white, in a square."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_core import pictures
from ssr_core.reference import LARGEST_SIDE, detected_object, filled, reference_picture, squared


def noise(width, height, seed=0):
    """A picture without a white pixel."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 250, (height, width, 3), dtype=np.uint8))


def rectangle(width, height, left, top, right, bottom):
    mask = np.zeros((height, width), dtype=np.float32)
    mask[top:bottom, left:right] = 1
    return mask


def white(picture):
    return (np.asarray(picture) == 255).all(axis=-1)


def test_without_mask_and_box_the_picture_stays_as_it_is():
    picture = noise(30, 20)
    assert reference_picture(picture).tobytes() == picture.tobytes()


def test_a_masked_object_stands_alone_in_the_middle_of_a_white_square():
    picture = noise(40, 30)
    shown = reference_picture(picture, rectangle(40, 30, 5, 10, 25, 20))
    assert shown.size == (20, 20)
    pixels = np.asarray(shown)
    assert (pixels[5:15] == np.asarray(picture)[10:20, 5:25]).all()
    assert white(shown)[:5].all()
    assert white(shown)[15:].all()


def test_a_box_cuts_and_leaves_the_background_where_no_mask_tells_it():
    picture = noise(40, 30)
    shown = reference_picture(picture, box=(10, 0, 20, 30))
    assert shown.size == (30, 30)
    assert (np.asarray(shown)[:, 10:20] == np.asarray(picture)[:, 10:20]).all()
    both = reference_picture(picture, rectangle(40, 30, 12, 5, 18, 9), (10, 0, 20, 30))
    assert both.size == (30, 30)
    assert (~white(both)).sum() == 6 * 4


def test_a_box_ends_with_the_picture():
    assert reference_picture(noise(40, 30), box=(-5.5, -3, 10, 300)).size == (30, 30)


def test_a_mask_of_another_size_lies_over_the_whole_picture():
    small = rectangle(8, 6, 2, 0, 6, 6)
    shown = reference_picture(noise(80, 60), small)
    assert abs(int((~white(shown)).sum()) - 40 * 60) <= 4 * 60


@pytest.mark.parametrize("kind", [np.float32, np.bool_, torch.float32])
def test_masks_of_any_kind_mark_the_same(kind):
    mask = rectangle(40, 30, 5, 10, 25, 20)
    given = torch.from_numpy(mask) if kind is torch.float32 else mask.astype(kind)
    assert reference_picture(noise(40, 30), given).tobytes() == reference_picture(noise(40, 30), mask).tobytes()


def test_what_is_half_marked_or_less_is_outside():
    mask = rectangle(40, 30, 5, 10, 25, 20)
    mask[mask == 0] = 0.5
    assert reference_picture(noise(40, 30), mask).size == (20, 20)


def test_a_mask_keeps_its_pixels_and_loses_its_holes_but_not_its_bays():
    ring = np.zeros((7, 7), dtype=bool)
    ring[1:6, 1:6] = True
    ring[3, 3] = False
    whole = filled(ring)
    assert whole[3, 3]
    assert whole.sum() == 25
    bay = ring.copy()
    bay[1:4, 3] = False
    assert not filled(bay)[2, 3]
    dot = np.zeros((3, 3), dtype=bool)
    dot[1, 1] = True
    assert (filled(dot) == dot).all()


@pytest.mark.parametrize(
    ("mask", "box", "message"),
    [
        (np.zeros((30, 40)), None, "marks nothing"),
        (np.ones((1, 30, 40)), None, r"shape \(1, 30, 40\)"),
        (None, (10, 10, 10, 20), "holds no pixel"),
        (None, (50, 0, 60, 10), "holds no pixel"),
        (None, (0, 0, float("nan"), 10), "finite number"),
        (None, (0, 0, 10), "has 3 numbers"),
    ],
)
def test_what_marks_no_object_is_refused(mask, box, message):
    with pytest.raises(ValueError, match=message):
        reference_picture(noise(40, 30), mask, box)


def test_a_thin_line_through_a_large_picture_does_not_fill_the_memory():
    assert squared(Image.new("RGB", (60_000, 3))).size == (LARGEST_SIDE, LARGEST_SIDE)


def test_a_detected_object_ends_with_its_frame_and_is_as_large_as_the_vision_model_asks():
    shown = detected_object(noise(42, 30), (-20, 100, 5000, 400))
    assert shown.size == (224, 224)
    rows = np.flatnonzero(~white(shown).all(axis=1))
    assert len(rows) == int(224 / (1120 / 300))
    assert not white(shown)[rows].any()


def test_labels_are_the_numbers_that_are_stored_whatever_their_colours(tmp_path):
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(numbers).convert("P")
    palette.putpalette([7, 7, 7] * 256)
    for mode, picture in (
        ("L", Image.fromarray(numbers)),
        ("P", palette),
        ("I;16", Image.fromarray(numbers.astype(np.uint16))),
    ):
        assert picture.mode == mode
        picture.save(tmp_path / "labels.png")
        assert (pictures.open_labels(tmp_path / "labels.png") == numbers).all()
    noise(4, 3).save(tmp_path / "colours.png")
    with pytest.raises(ValueError, match=r"colours\.png cannot be read.*mode RGB"):
        pictures.open_labels(tmp_path / "colours.png")
