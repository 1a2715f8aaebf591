"""What lies beside a download and is not ours stays as it is, whatever it is called, and links lead nowhere."""

import os

import pytest
from support.downloads import BODY, DRIVEN, PATH, WEIGHT, model, names, staged

from ssr_core import weights
from ssr_core.weights import WeightsError, fetch, staged_path

NAMES = [
    "tiny.safetensors.part",
    "tiny.safetensors.part2",
    "tiny.safetensors.partial",
    "tiny.safetensors.partabcdefgh.part",
    ".tiny.part",
]


@pytest.mark.parametrize("right", [True, False])
def test_files_of_similar_names_stay_bit_for_bit(server, page, tmp_path, right):
    folder = WEIGHT.place(tmp_path).parent
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(b"mine")
    if right:
        assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    else:
        page.stated_sha256 = "0" * 64
        with pytest.raises(WeightsError, match="expected 0000"):
            fetch(WEIGHT, tmp_path, server.url)
    assert [name for name in NAMES if (folder / name).read_bytes() == b"mine"] == NAMES


def test_files_of_similar_names_stay_beside_a_drives_download_too(drive, tmp_path):
    folder = DRIVEN.place(tmp_path).parent
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(b"mine")
    assert fetch(DRIVEN, tmp_path).read_bytes() == BODY
    assert [name for name in NAMES if (folder / name).read_bytes() == b"mine"] == NAMES


@pytest.mark.skipif(os.name != "posix", reason="links as on POSIX")
@pytest.mark.parametrize("kind", ["symlink", "dangling", "hard link", "pipe", "folder"])
def test_a_link_in_the_place_of_an_unfinished_download_is_refused(server, page, tmp_path, kind):
    victim = tmp_path / "thesis.txt"
    victim.write_text("years of work")
    part = staged(tmp_path, b"")
    part.unlink()
    match kind:
        case "symlink":
            part.symlink_to(victim)
        case "dangling":
            part.symlink_to(tmp_path / "nowhere")
        case "hard link":
            part.hardlink_to(victim)
        case "pipe":
            os.mkfifo(part)
        case "folder":
            part.mkdir()
    with pytest.raises(WeightsError, match="no plain file"):
        fetch(WEIGHT, tmp_path, server.url)
    assert victim.read_text() == "years of work"
    assert not (tmp_path / "nowhere").exists()
    assert server.ranges(PATH) == []


def test_a_file_that_appears_meanwhile_is_not_replaced(server, page, tmp_path, monkeypatch):
    final, check = WEIGHT.place(tmp_path), weights._check

    def meanwhile(*args):
        final.write_bytes(b"mine")
        return check(*args)

    monkeypatch.setattr(weights, "_check", meanwhile)
    with pytest.raises(WeightsError, match="came into being while"):
        fetch(WEIGHT, tmp_path, server.url)
    assert final.read_bytes() == b"mine"
    assert staged_path(WEIGHT, final).read_bytes() == BODY


@pytest.mark.skipif(os.name != "posix", reason="links as on POSIX")
def test_a_link_in_the_place_of_a_pin_is_not_written_through(server, page, tmp_path):
    final = WEIGHT.place(tmp_path)
    final.parent.mkdir()
    final.with_name(f"{final.name}.sha256").symlink_to(tmp_path / "elsewhere")
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_larger_than_the_disk_is_refused_before_a_byte(server, page, tmp_path):
    page.stated_size = 1 << 60
    with pytest.raises(WeightsError, match="Make room"):
        fetch(WEIGHT, tmp_path, server.url)
    assert server.ranges(PATH) == []
    assert names(tmp_path) == []


def test_two_downloads_of_different_sources_do_not_share_their_bytes(tmp_path):
    assert staged_path(WEIGHT, WEIGHT.place(tmp_path)) != staged_path(DRIVEN, DRIVEN.place(tmp_path))
    assert model() == BODY
