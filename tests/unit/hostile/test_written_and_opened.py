"""Pictures that are written never replace one, and those that are opened cannot fill the memory, start a program or wait."""

import os
import struct
import zlib

import pytest
from PIL import Image

from ssr_core import pictures
from ssr_core.new_files import check_writable, write_new


def test_a_picture_that_is_there_is_kept_and_the_new_one_gets_a_number(tmp_path):
    for number in range(3):
        written = write_new(tmp_path / "picture.png", lambda part, number=number: part.write_bytes(bytes([number])))
        assert written.name == ("picture.png" if number == 0 else f"picture-{number + 1}.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")
    assert write_new(tmp_path / "link.png", lambda part: part.write_bytes(b"x")).name == "link-2.png"
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(OSError, match="full"):
        write_new(tmp_path / "other.png", lambda part: (_ for _ in ()).throw(OSError("full")))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "link-2.png", "link.png", "picture-2.png", "picture-3.png", "picture.png",
    ]  # fmt: skip


def test_without_links_a_file_is_not_overwritten_either(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    for _ in range(2):
        write_new(tmp_path / "a.png", lambda part: part.write_bytes(b"x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.png", "a.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="Nothing can be written"):
        check_writable(tmp_path)


def declared_png(width, height):
    """A PNG of a few bytes that says it is this large."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (30_000, 30_000, "too large"),
        (13_360, 13_360, "at most 178,000,000 pixels"),
        (100_000, 10, "too narrow"),
        (1, 999, "too narrow"),
    ],
)
@pytest.mark.parametrize("opened", [pictures.open_picture, pictures.open_mask])
def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded(
    tmp_path, monkeypatch, width, height, message, opened
):
    Image.init()  # it makes pictures of its own
    (tmp_path / "a.png").write_bytes(declared_png(width, height))
    monkeypatch.setattr(Image.Image, "load", lambda picture: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=f"a.png is {message}|a.png is too .*{message}"):
        opened(tmp_path / "a.png")


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", b"\xd7\xcd\xc6\x9a\0\0" + bytes(60)]
)
def test_formats_for_which_pillow_starts_a_program_are_not_opened(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="of no known format"):
        pictures.open_picture(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
@pytest.mark.parametrize("opened", [pictures.open_picture, pictures.open_mask])
def test_pipes_and_devices_are_no_pictures(tmp_path, opened):
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", "/dev/zero"):
        with pytest.raises(ValueError, match="is a pipe or a device"):
            opened(path)
