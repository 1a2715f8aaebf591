"""Picture files opened as people see them, whatever they were made with."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from ssr_core import pictures
from ssr_core.pictures import open_mask, open_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
RAMP = np.array([[0.0, 0.25], [0.5, 1.0]])
EIGHT_BITS = np.array([[0, 64], [128, 255]], dtype=np.uint8)


@pytest.fixture(autouse=True)
def _no_warnings():
    """Pillow warns where a conversion loses transparency; users should not see that."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def saved(folder, picture, name="a.png", **options):
    picture.save(folder / name, **options)
    return folder / name


def shown(path):
    picture = open_picture(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.tif"])
def test_a_plain_picture_keeps_its_bits(tmp_path, name):
    path = saved(tmp_path, Image.fromarray(PIXELS), name, **({"lossless": True} if name == "a.webp" else {}))
    assert np.array_equal(shown(path), PIXELS)


def test_a_photograph_has_the_bits_that_pillow_gives_it(tmp_path):
    path = saved(tmp_path, Image.fromarray(PIXELS), "a.jpg")
    assert np.array_equal(shown(path), np.asarray(Image.open(path).convert("RGB")))


TURNS = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen, 1),
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}
"""EXIF orientation -> how the camera stored what people see. 6: its right side is up, so it is turned clockwise to be looked at."""


@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_photograph_is_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.ascontiguousarray(TURNS[orientation](PIXELS))
    path = saved(tmp_path, Image.fromarray(stored), exif=exif)
    assert np.array_equal(shown(path), PIXELS)
    grey = np.ascontiguousarray(TURNS[orientation](PIXELS[..., 0]))
    mask = saved(tmp_path, Image.fromarray(grey), "mask.png", exif=exif)
    assert torch.equal(open_mask(mask), torch.from_numpy(PIXELS[..., 0]) / 255)


def test_sixteen_bits_keep_their_range(tmp_path):
    """A depth map; Pillow's own conversion of such modes has clipped everything above 255 to white."""
    path = saved(tmp_path, Image.fromarray((RAMP * 65535).round().astype(np.uint16)))
    assert np.array_equal(shown(path), np.repeat(EIGHT_BITS[..., None], 3, axis=-1))
    torch.testing.assert_close(open_mask(path), torch.from_numpy(RAMP).float(), atol=1e-5, rtol=0)


def test_sixteen_bits_are_not_stretched(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.full((2, 2), 257 * 40, dtype=np.uint16)))
    assert (shown(path) == 40).all()


def test_sixteen_bits_that_pillow_opens_in_the_mode_of_thirty_two_have_the_same_range(tmp_path):
    numbers = np.array([0, 65535 // 2], dtype=">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + numbers.tobytes())
    assert Image.open(tmp_path / "a.pgm").mode == "I"
    assert shown(tmp_path / "a.pgm")[0, :, 0].tolist() == [0, 127]


@pytest.mark.parametrize(
    "numbers",
    [
        RAMP.astype(np.float32),
        (RAMP * 12 - 3).astype(np.float32),
        (RAMP * 255).astype(np.float32),
        (RAMP * 1e6).astype(np.int32),
    ],
    ids=["shares", "metres", "levels", "whole numbers"],
)
def test_numbers_of_32_bits_show_their_own_range(tmp_path, numbers):
    path = saved(tmp_path, Image.fromarray(numbers), "a.tif")
    assert np.array_equal(shown(path)[..., 1], EIGHT_BITS)
    torch.testing.assert_close(open_mask(path), torch.from_numpy(RAMP).float())


def test_shares_are_not_stretched(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.full((2, 2), 0.5, dtype=np.float32)), "a.tif")
    assert (shown(path) == 128).all()
    path = saved(tmp_path, Image.fromarray((RAMP / 2).astype(np.float32)), "b.tif")
    assert open_mask(path).max() == 0.5


def test_what_is_no_number_is_black_or_at_the_end_of_the_range(tmp_path):
    numbers = np.array([[np.nan, -np.inf, np.inf], [2.0, 3.0, 4.0]], dtype=np.float32)
    path = saved(tmp_path, Image.fromarray(numbers), "a.tif")
    assert open_mask(path).tolist() == [[0, 0, 1], [0, 0.5, 1]]


@pytest.mark.parametrize("opened", [open_picture, open_mask])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_picture_without_any_number_is_refused(tmp_path, opened, value):
    path = saved(tmp_path, Image.fromarray(np.full((2, 2), value, dtype=np.float32)), "b.tif")
    with pytest.raises(ValueError, match=r"b\.tif cannot be read as a picture \(it holds no numbers, only NaN or infinity\)"):
        opened(path)


@pytest.mark.parametrize("opened", [open_picture, open_mask])
@pytest.mark.parametrize(
    "name", ["a\0b.png", "x" * 5000, "\x1b[2J.png", "a.png/b.png"], ids=["null", "long", "control", "below"]
)
def test_a_name_that_no_file_has_is_refused_in_one_short_line(tmp_path, opened, name):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="There is no picture") as caught:
        opened(tmp_path / name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_palette_shows_its_colours_and_its_transparency_is_a_mask(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    path = saved(tmp_path, picture, transparency=bytes([0, 255]))
    assert Image.open(path).mode == "P"
    assert shown(path).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert open_mask(path).tolist() == [[0, 1]]


def test_one_transparent_colour_is_a_mask_too(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.array([[[9, 8, 7], [200, 200, 200]]], dtype=np.uint8)), transparency=(9, 8, 7))
    assert shown(path).tolist() == [[[9, 8, 7], [200, 200, 200]]]
    assert open_mask(path).tolist() == [[0, 1]]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_cut_out_marks_what_was_cut_out(tmp_path, mode):
    picture = Image.new("L", (2, 2), 50).convert(mode)
    picture.putalpha(Image.fromarray(EIGHT_BITS))
    path = saved(tmp_path, picture)
    assert (shown(path) == 50).all()
    assert torch.equal(open_mask(path), torch.from_numpy(EIGHT_BITS) / 255)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "1"])
def test_without_transparency_brightness_is_the_mask(tmp_path, mode):
    ends = np.where(EIGHT_BITS > 127, 255, 0).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(ends).convert(mode))
    assert torch.equal(open_mask(path), torch.from_numpy(ends) / 255)
    assert np.array_equal(shown(path)[..., 2], ends)


def test_a_mask_keeps_the_greys_that_pillow_gives_it(tmp_path):
    path = saved(tmp_path, Image.fromarray(PIXELS))
    grey = np.asarray(Image.open(path).convert("L"), dtype=np.float32) / 255
    assert torch.equal(open_mask(path), torch.from_numpy(grey))


def test_four_colours_of_a_printers_jpeg_are_three(tmp_path):
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    path = saved(tmp_path, red, "a.jpg", quality=100)
    assert Image.open(path).mode == "CMYK"
    assert np.abs(shown(path).astype(int) - (255, 0, 0)).max() < 4
    assert abs(float(open_mask(path).mean()) - 76 / 255) < 0.02


def test_a_picture_in_memory_is_opened_and_named(tmp_path):
    content = io.BytesIO()
    Image.fromarray(PIXELS).save(content, "PNG")
    assert np.array_equal(shown(io.BytesIO(content.getvalue())), PIXELS)
    with pytest.raises(ValueError, match=r"png of sample 7 cannot be read as a picture"):
        open_picture(io.BytesIO(content.getvalue()[:40]), "png of sample 7")


@pytest.mark.parametrize("opened", [open_picture, open_mask])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_a_truncated_file_is_refused_by_name(tmp_path, opened, kind):
    content = io.BytesIO()
    Image.fromarray(np.tile(PIXELS, (20, 20, 1))).save(content, kind)
    for part in (0.02, 0.5):
        (tmp_path / "cut.png").write_bytes(content.getvalue()[: int(part * len(content.getvalue()))])
        with pytest.raises(ValueError, match=r"cut\.png cannot be read as a picture .*give another file"):
            opened(tmp_path / "cut.png")


@pytest.mark.parametrize("content", [b"", b"<html>Sign in</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_what_is_no_picture_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read as a picture \(of no known format\)"):
        open_picture(tmp_path / "a.jpg")


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    for missing in (tmp_path / "nowhere.png", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no picture .*{missing.name}"):
            open_mask(missing)


def test_a_picture_too_large_to_unpack_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(PIXELS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"a\.png is too large .*smaller copy"):
        open_picture(path)


def test_a_folder_is_searched_for_the_usual_pictures():
    assert {".png", ".jpg", ".jpeg", ".webp", ".bmp"} == set(pictures.SUFFIXES)
