"""Files of the public drive, through gdown."""

import sys
from dataclasses import replace

import pytest
from support.downloads import BODY, CHUNK, DRIVE_PATH, DRIVEN, WEIGHT, names, staged
from support.http_server import Page

from ssr_core import weights
from ssr_core.weights import WeightsError, fetch


def test_a_file_of_the_drives_folder_arrives(drive, tmp_path):
    assert fetch(DRIVEN, tmp_path).read_bytes() == BODY
    assert names(tmp_path) == ["clip_vision/tiny.safetensors", "clip_vision/tiny.safetensors.sha256"]


def test_a_cut_connection_of_the_drive_goes_on_where_it_stopped(drive, tmp_path):
    drive.pages[DRIVE_PATH].cuts = [20 * CHUNK]
    assert fetch(DRIVEN, tmp_path).read_bytes() == BODY
    # gdown asks for the whole to learn its length, then for the rest.
    assert drive.ranges(DRIVE_PATH) == [None, None, f"bytes={20 * CHUNK}-"]
    assert names(tmp_path) == ["clip_vision/tiny.safetensors", "clip_vision/tiny.safetensors.sha256"]


def test_a_drive_that_goes_silent_is_asked_again(drive, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT", 0.5)
    drive.pages[DRIVE_PATH].cuts, drive.pages[DRIVE_PATH].stalls = [20 * CHUNK], True
    assert fetch(DRIVEN, tmp_path).read_bytes() == BODY
    assert drive.ranges(DRIVE_PATH) == [None, None, f"bytes={20 * CHUNK}-"]


def test_a_drive_that_does_not_go_on_is_asked_for_the_whole(drive, tmp_path):
    drive.pages[DRIVE_PATH].cuts = [20 * CHUNK]
    drive.pages[DRIVE_PATH].ignores_range = True
    assert fetch(DRIVEN, tmp_path).read_bytes() == BODY
    assert drive.ranges(DRIVE_PATH) == [None, None, f"bytes={20 * CHUNK}-", None]
    assert names(tmp_path) == ["clip_vision/tiny.safetensors", "clip_vision/tiny.safetensors.sha256"]


def test_a_drive_that_keeps_breaking_is_given_up_and_the_next_run_goes_on(drive, tmp_path):
    drive.pages[DRIVE_PATH].cuts = [20 * CHUNK, *[0, 5 * CHUNK] * 3]
    with pytest.raises(WeightsError, match=f"first {35 * CHUNK:,} bytes are kept; run again to go on"):
        fetch(DRIVEN, tmp_path)
    drive.asked.clear()
    assert fetch(DRIVEN, tmp_path).read_bytes() == BODY
    assert drive.ranges(DRIVE_PATH) == [None, f"bytes={35 * CHUNK}-"]


def test_too_many_downloads_are_said_and_the_bytes_kept(drive, tmp_path):
    whole = staged(tmp_path, b"", DRIVEN)
    half = whole.with_name(f"{whole.name}abcdefgh.part")
    half.write_bytes(BODY[:30_000])
    whole.unlink()
    drive.pages[DRIVE_PATH] = Page(b'<p class="uc-error-subcaption">Too many users have viewed it</p>', kind="text/html")
    with pytest.raises(WeightsError, match=r"could not be downloaded.*first 30,000 bytes are kept"):
        fetch(DRIVEN, tmp_path)
    assert half.read_bytes() == BODY[:30_000]
    drive.pages[DRIVE_PATH] = Page(BODY, attachment="pytorch_model.bin")
    drive.asked.clear()
    assert fetch(DRIVEN, tmp_path).read_bytes() == BODY
    assert drive.ranges(DRIVE_PATH) == [None, "bytes=30000-"]


def test_a_drive_folder_without_the_file_is_said(drive, tmp_path):
    with pytest.raises(WeightsError, match=r"holds pytorch_model\.bin; expected one pytorch_model_1\.bin"):
        fetch(replace(DRIVEN, remote_name="pytorch_model_1.bin"), tmp_path)
    assert drive.ranges(DRIVE_PATH) == []


def test_a_drive_that_leads_to_a_local_file_brings_nothing(drive, tmp_path):
    right = tmp_path / "right.safetensors"
    right.write_bytes(BODY)
    drive.pages[DRIVE_PATH].location = f"file://{right}"
    with pytest.raises(WeightsError, match="could not be downloaded"):
        fetch(DRIVEN, tmp_path / "models")
    assert names(tmp_path / "models") == []


def test_a_web_page_in_place_of_the_drives_file_is_deleted(drive, tmp_path):
    drive.pages[DRIVE_PATH].body = b"<html>Sign in</html>"
    with pytest.raises(WeightsError, match="cannot be read"):
        fetch(DRIVEN, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("library", "weight"), [("huggingface_hub", WEIGHT), ("gdown", DRIVEN)])
def test_a_missing_library_is_said_with_how_to_install_it(tmp_path, monkeypatch, library, weight):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(WeightsError, match='pip install -U "huggingface_hub" gdown'):
        fetch(weight, tmp_path)
