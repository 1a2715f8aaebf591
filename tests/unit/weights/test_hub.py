"""Files of the hub: they arrive whole, go on after a cut, and are checked when they are there."""

from dataclasses import replace

import pytest
from huggingface_hub import constants
from support import http_server
from support.downloads import BODY, CHUNK, PATH, WEIGHT, model, names, sha256, staged

from ssr_core import weights
from ssr_core.weights import WeightsError, fetch, find, staged_path, verify

PAUSES = weights.PAUSES


def test_a_file_arrives_whole_under_its_final_name_with_its_hash_beside_it(server, page, tmp_path):
    path = fetch(WEIGHT, tmp_path, server.url)
    assert path == tmp_path / "clip_vision" / "tiny.safetensors"
    assert path.read_bytes() == BODY
    assert names(tmp_path) == ["clip_vision/tiny.safetensors", "clip_vision/tiny.safetensors.sha256"]
    assert (tmp_path / "clip_vision/tiny.safetensors.sha256").read_text() == f"{sha256(BODY)}  tiny.safetensors\n"


def test_a_file_with_a_known_hash_needs_no_pin(server, page, tmp_path):
    fetch(replace(WEIGHT, sha256=sha256(BODY), size=len(BODY)), tmp_path, server.url)
    assert names(tmp_path) == ["clip_vision/tiny.safetensors"]


def test_a_file_that_is_there_is_checked_and_not_downloaded_again(server, page, tmp_path):
    first = fetch(WEIGHT, tmp_path, server.url)
    server.asked.clear()
    assert fetch(WEIGHT, tmp_path, server.url) == first
    assert server.asked == []


def test_a_file_in_the_other_folder_is_found_and_not_downloaded(server, page, tmp_path):
    (tmp_path / "older").mkdir()
    (tmp_path / "older/tiny.safetensors").write_bytes(BODY)
    assert fetch(WEIGHT, tmp_path, server.url) == find(WEIGHT, tmp_path) == tmp_path / "older/tiny.safetensors"
    assert server.asked == []


def test_a_wrong_file_that_is_there_is_named_and_left_alone(server, page, tmp_path):
    path = WEIGHT.place(tmp_path)
    path.parent.mkdir()
    path.write_bytes(model(seed=1))
    with pytest.raises(WeightsError, match=rf"tiny\.safetensors has sha256 {sha256(model(1))}, expected {sha256(BODY)}"):
        fetch(replace(WEIGHT, sha256=sha256(BODY)), tmp_path, server.url)
    assert path.read_bytes() == model(seed=1)
    assert server.asked == []


def test_a_file_of_another_size_than_the_manifests_is_wrong(tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(BODY)
    with pytest.raises(WeightsError, match=f"has {len(BODY):,} bytes, expected {len(BODY) + 1:,}"):
        verify(replace(WEIGHT, size=len(BODY) + 1), path)


def test_the_users_token_is_not_sent_for_public_files(server, page, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(WEIGHT, tmp_path, server.url)
    assert len(server.asked) == 2
    assert {request.authorization for request in server.asked} == {None}


def test_a_cut_connection_goes_on_where_it_stopped(server, page, tmp_path):
    page.cuts = [20 * CHUNK, 10 * CHUNK]
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert server.ranges(PATH) == [None, f"bytes={20 * CHUNK}-", f"bytes={30 * CHUNK}-"]


def test_a_reset_connection_goes_on_in_the_next_attempt(server, page, tmp_path):
    page.cuts, page.resets = [20 * CHUNK], True
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert server.ranges(PATH) == [None, f"bytes={20 * CHUNK}-"]
    assert [request.method for request in server.asked] == ["HEAD", "GET", "HEAD", "GET"]


def test_a_server_that_goes_silent_is_asked_again(server, page, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    page.cuts, page.stalls = [20 * CHUNK], True
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert server.ranges(PATH) == [None, f"bytes={20 * CHUNK}-"]


def test_what_an_earlier_run_had_is_not_downloaded_again(server, page, tmp_path):
    staged(tmp_path, BODY[:30_000])
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert server.ranges(PATH) == ["bytes=30000-"]
    assert names(tmp_path) == ["clip_vision/tiny.safetensors", "clip_vision/tiny.safetensors.sha256"]


def test_a_file_that_an_earlier_run_had_whole_is_only_checked(server, page, tmp_path):
    staged(tmp_path, BODY)
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert server.ranges(PATH) == []


def test_more_bytes_than_the_file_has_are_thrown_away_first(server, page, tmp_path):
    staged(tmp_path, BODY + b"more")
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert server.ranges(PATH) == [None]


def test_a_server_that_ignores_where_to_go_on_does_not_get_its_bytes_spliced(server, page, tmp_path):
    page.ignores_range = True
    staged(tmp_path, BODY[:30_000])
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert server.ranges(PATH) == ["bytes=30000-"]


def test_a_line_that_keeps_breaking_is_given_up_and_the_next_run_goes_on(server, page, tmp_path):
    page.cuts, page.resets = [5 * CHUNK] * 10, True
    with pytest.raises(WeightsError, match=f"first {20 * CHUNK:,} bytes are kept; run again to go on"):
        fetch(WEIGHT, tmp_path, server.url)
    assert len(server.ranges(PATH)) == 4
    kept = staged_path(WEIGHT, WEIGHT.place(tmp_path))
    assert names(tmp_path) == [kept.relative_to(tmp_path).as_posix()]
    assert kept.read_bytes() == BODY[: 20 * CHUNK]
    page.cuts = []
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert server.ranges(PATH)[4:] == [f"bytes={20 * CHUNK}-"]


def test_a_server_that_is_not_there_is_said_after_a_few_attempts_that_wait_ever_longer(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(weights, "PAUSES", PAUSES)
    monkeypatch.setattr(weights.time, "sleep", waited.append)
    with http_server.running() as gone:
        pass
    with pytest.raises(WeightsError, match=r"download https://example\.org/.* by hand and put it at .*tiny\.safetensors\."):
        fetch(WEIGHT, tmp_path, gone.url)
    assert waited == [0, 2, 4, 8]
    assert names(tmp_path) == []


def test_a_file_that_does_not_exist_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(WeightsError, match="404"):
        fetch(WEIGHT, tmp_path, server.url)
    assert len(server.asked) == 1
