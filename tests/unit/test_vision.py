"""The picture's way to the vision model, and the mask's along with it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ssr_core import vision
from ssr_core.vision import FITS

SIZE, GRID = 224, 16
PATCH = SIZE // GRID


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def rectangle(width, height, left, top, right, bottom):
    """A white rectangle in a black picture, as [H, W] in 0..1."""
    canvas = torch.zeros(height, width)
    canvas[top:bottom, left:right] = 1
    return canvas


def picture_of(mask):
    return vision.as_pictures(mask[None, ..., None])[0]


def whiteness(mask, fit):
    """How much of a mask, painted as a picture, the vision model sees where: [SIZE, SIZE] in 0..1, without "pad"'s colour."""
    painted, black = (
        torch.from_numpy(np.array(vision.frame(picture_of(canvas), SIZE, fit))).float()
        for canvas in (mask, torch.zeros_like(mask))
    )
    return (painted - black).amax(-1) / 255


def clip_image_processor(picture, size):
    """The published recipe of CLIPImageProcessor: shorter side to size, centre crop, 1/255, mean and deviation."""
    short, long = sorted(picture.size)
    sides = {short: size, long: size * long // short}
    resized = np.asarray(picture.resize([sides[side] for side in picture.size], Image.Resampling.BICUBIC))
    top, left = ((side - size) // 2 for side in resized.shape[:2])
    pixels = resized[top : top + size, left : left + size].astype(np.float64) / 255
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return ((pixels - mean) / deviation).transpose(2, 0, 1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([SIZE, 64, 33]), st.integers(0, 2**16))
def test_center_crop_is_clip_image_processor_for_any_size(width, height, size, seed):
    if max(width, height) > vision.LONGEST_RATIO * min(width, height):
        width, height = max(width, 5), max(height, 5)
    picture = noise(width, height, seed)
    pixels = vision.normalise([vision.frame(picture, size, "center crop")])
    expected = clip_image_processor(picture, size)
    assert pixels.dtype == torch.float32
    assert np.abs(pixels[0].numpy() - expected).max() < 1e-5  # a grey level is 0.015


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(FITS))
def test_every_fit_gives_a_square_of_the_asked_size(width, height, fit):
    assert vision.frame(noise(width, height), SIZE, fit).size == (SIZE, SIZE)


@pytest.mark.parametrize("fit", FITS)
def test_a_square_picture_looks_the_same_under_every_fit(fit):
    picture = noise(100, 100)
    assert vision.frame(picture, SIZE, fit).tobytes() == vision.frame(picture, SIZE, "center crop").tobytes()


def test_pad_shows_the_whole_picture_on_the_mean_colour():
    framed = np.asarray(vision.frame(Image.new("RGB", (200, 100), "white"), 200, "pad"))
    assert (framed[60:140] == 255).all()
    assert (framed[:40] == vision.MEAN_COLOUR).all()
    assert (framed[160:] == vision.MEAN_COLOUR).all()


def test_rgba_loses_its_alpha_and_grey_becomes_rgb():
    rgb = torch.rand(1, 5, 7, 3)
    plain = vision.as_pictures(rgb)[0].tobytes()
    assert vision.as_pictures(torch.cat([rgb, torch.rand(1, 5, 7, 1)], dim=-1))[0].tobytes() == plain
    grey = torch.rand(1, 5, 7, 1)
    picture = vision.as_pictures(grey)[0]
    assert picture.mode == "RGB"
    assert picture.tobytes() == vision.as_pictures(grey.expand(1, 5, 7, 3))[0].tobytes()


def test_eight_bit_pictures_keep_every_grey_level():
    levels = torch.arange(256).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    for offset in (0.0, 0.4, -0.4):  # between two levels the nearest one
        assert np.array_equal(np.asarray(vision.as_pictures((levels + offset) / 255)[0]), levels[0].numpy())


def test_out_of_range_becomes_black_and_white():
    pictures = vision.as_pictures(torch.tensor([-1.0, 2.0]).view(1, 1, 2, 1))
    assert np.asarray(pictures[0])[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_picture_with_numbers_that_are_none_is_refused(value):
    with pytest.raises(ValueError, match="The reference holds numbers that are not finite"):
        vision.as_pictures(torch.tensor([0.5, value]).view(1, 1, 2, 1))


def test_a_picture_beyond_every_screen_is_refused_before_it_is_copied():
    for shape in ((1, 40_000, 40_000, 3), (1, 1, 70_000, 3)):
        with pytest.raises(ValueError, match=r"is \d+ x \d+ pixels; at most 100,000,000"):
            vision.as_pictures(torch.zeros(1).expand(shape))


def test_a_vision_model_that_answers_with_numbers_that_are_none_is_named():
    with pytest.raises(ValueError, match="vision model answers with numbers that are not finite"):
        vision.patch_features(lambda pixels: [torch.full((1, 5, 4), float("nan"))], torch.zeros(1, 3, 8, 8), (1,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pictures_of_any_float_type_are_read(dtype):
    assert vision.as_pictures(torch.ones(2, 3, 3, 3, dtype=dtype))[1].getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (1, 0, 8, 3), (1, 8, 0, 3), (8, 8, 3), (8, 8), (1, 1, 8, 8, 3), (1, 8, 8, 2)])
def test_what_is_no_picture_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=rf"has shape \({', '.join(map(str, shape))}\)"):
        vision.as_pictures(torch.zeros(shape))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (8000, 1), (1, 8000)])
def test_a_picture_of_one_pixel_or_one_line_can_be_encoded(width, height, fit):
    (picture,) = vision.as_pictures(torch.ones(1, height, width, 3))
    pixels = vision.normalise([vision.frame(picture, SIZE, fit)])
    assert pixels.shape == (1, 3, SIZE, SIZE)
    assert pixels.isfinite().all()
    assert vision.mask_to_patches(torch.ones(height, width), GRID, SIZE, fit).max() > 0


@settings(deadline=None, max_examples=40)
@given(st.integers(30, 300), st.integers(30, 300), st.sampled_from(FITS), st.data())
def test_a_white_square_ends_where_seen_box_says(width, height, fit, data):
    side = data.draw(st.integers(12, min(width, height)))
    x, y = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
    white = whiteness(rectangle(width, height, x, y, x + side, y + side), fit) > 0.5
    left, top, right, bottom = vision.seen_box(width, height, SIZE, fit)
    expected = [
        (edge - origin) / extent * SIZE
        for edge, origin, extent in (
            (x, left, right - left),
            (y, top, bottom - top),
            (x + side, left, right - left),
            (y + side, top, bottom - top),
        )
    ]
    expected = [min(max(edge, 0), SIZE) for edge in expected]
    if min(expected[2] - expected[0], expected[3] - expected[1]) < 3:
        return  # cropped away, or too thin a strip to measure
    rows, columns = white.any(1).nonzero().flatten(), white.any(0).nonzero().flatten()
    found = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    assert found == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize(("width", "height"), [(8000, 1), (8001, 1), (1, 8001), (301, 3), (300, 3), (65, 1)])
def test_seen_box_also_holds_for_very_long_pictures(width, height):
    middle = (width // 2, height) if width > height else (width, height // 2)
    seen = whiteness(rectangle(width, height, 0, 0, *middle), "center crop")
    left, top, right, bottom = vision.seen_box(width, height, SIZE, "center crop")
    share = (middle[0] - left) / (right - left) if width > height else (middle[1] - top) / (bottom - top)
    assert float((seen > 0.5).float().mean()) == pytest.approx(share, abs=0.02)


@settings(deadline=None, max_examples=40)
@given(st.integers(64, 400), st.integers(64, 400), st.sampled_from(FITS), st.data())
def test_marked_patches_are_the_patches_of_the_marked_part(width, height, fit, data):
    w, h = (data.draw(st.integers(max(24, int(0.4 * side)), side)) for side in (width, height))
    x, y = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    mask = rectangle(width, height, x, y, x + w, y + h)
    seen = whiteness(mask, fit).view(GRID, PATCH, GRID, PATCH).mean((1, 3)).flatten()  # how white each patch is
    try:
        patches = vision.mask_to_patches(mask, GRID, SIZE, fit)
    except ValueError:
        assert seen.max() < 0.5
        return
    clear = (seen - 0.5).abs() > 0.2  # not patches on the edge
    assert torch.equal((patches > 0.5)[clear], (seen > 0.5)[clear])


@pytest.mark.parametrize("fit", FITS)
def test_a_soft_mask_is_cut_at_one_half(fit):
    grey = lambda level: torch.full((60, 90), level)
    assert vision.mask_to_patches(grey(128 / 255), GRID, SIZE, fit).max() == 1
    for outside in (127 / 255, 0.5):
        with pytest.raises(ValueError, match="marks nothing"):
            vision.mask_to_patches(grey(outside), GRID, SIZE, fit)


def test_pad_leaves_the_border_unmarked():
    patches = vision.mask_to_patches(torch.ones(100, 200), GRID, SIZE, "pad").view(GRID, GRID)
    assert patches[4:12].min() > 0.8
    assert patches[:3].max() == patches[13:].max() == 0


@pytest.mark.parametrize("fit", FITS)
def test_an_empty_mask_is_refused_with_a_hint(fit):
    with pytest.raises(ValueError, match=r"marks nothing.*without alpha"):
        vision.mask_to_patches(torch.zeros(64, 64), GRID, SIZE, fit)


def test_a_mask_only_outside_the_crop_is_refused_but_fits_elsewhere():
    mask = rectangle(300, 100, 0, 0, 60, 100)
    with pytest.raises(ValueError, match="only pixels outside the part that the encoder sees"):
        vision.mask_to_patches(mask, GRID, SIZE, "center crop")
    for fit in ("pad", "stretch"):
        assert vision.mask_to_patches(mask, GRID, SIZE, fit).max() == 1


def test_a_vision_model_of_another_width_is_named_with_the_remedy():
    with pytest.raises(ValueError, match=r"width 1280 \(ViT-H, 256 patches\).*needs width 1024.*clip-vit-large-patch14"):
        vision.check_vision_model(1280, 257, 1024)
    with pytest.raises(ValueError, match="width 999 "):
        vision.check_vision_model(999, 257, 1024)
    vision.check_vision_model(1024, 257, 1024)


def test_layer_one_is_the_first_layer_and_scales_keep_their_order():
    states = [torch.full((2, 5, 4), float(number)) for number in range(1, 25)]
    features = vision.patch_features(lambda pixels: states, torch.zeros(2, 3, 8, 8), (4, 8, 24, 1))
    assert features.shape == (2, 4, 5, 4)
    assert features[0, :, 0, 0].tolist() == [4, 8, 24, 1]


def test_a_vision_model_with_too_few_layers_is_refused():
    states = [torch.zeros(1, 5, 4)] * 12
    with pytest.raises(ValueError, match=r"has 12 layers.*clip-vit-large-patch14"):
        vision.patch_features(lambda pixels: states, torch.zeros(1, 3, 8, 8), (4, 8, 12, 16, 20, 24))
