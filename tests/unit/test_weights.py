"""Finding, fetching and checking weight files, against a real server that misbehaves in every way a real one has."""

import ast
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gdown  # noqa: F401  (its module gdown.download is patched below)
import huggingface_hub
import numpy as np
import pytest
import requests
import torch
from huggingface_hub import constants, file_download
from safetensors.numpy import save
from safetensors.torch import save_file
from support import http_server
from support.http_server import Page

from ssr_core import weights
from ssr_core.encoder import EncoderConfig, SSREncoder
from ssr_core.weights import WeightFile, WeightsError, fetch, find, read_manifest, verify

PACK = Path(__file__).parents[2]
CHUNK = 1024
PAUSES = weights.PAUSES
PATH = "/someone/a-model/resolve/main/model.safetensors"
FOLDER_ID = "F" * 33
FILE_ID = "A" * 33
LISTING = f"/embeddedfolderview?id={FOLDER_ID}"
DRIVE_PATH = f"/uc?id={FILE_ID}"


def model(seed: int = 0) -> bytes:
    """A small safetensors file with the tensor that identifies it; another seed is another file of the same size."""
    noise = np.random.default_rng(seed).integers(0, 255, (60, CHUNK), dtype=np.uint8)
    return save({"vision.weight": np.zeros((4, 3), np.float32), "noise": noise})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


BODY = model()
WEIGHT = WeightFile(
    id="tiny",
    part="clip_vision",
    purpose="a model for tests",
    name="tiny.safetensors",
    folders=("clip_vision", "older"),
    url="https://example.org/someone/a-model",
    host="hub",
    repository="someone/a-model",
    remote_name="model.safetensors",
    size=None,
    sha256=None,
    licence="MIT",
    default=True,
    holds={"vision.weight": (4, 3)},
)
DRIVEN = replace(WEIGHT, host="drive", repository=FOLDER_ID, remote_name="pytorch_model.bin")


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch):
    """No waiting between attempts; what arrived is written every KiB (the libraries wait for more); no proxy, no offline switch."""
    monkeypatch.setattr(weights, "PAUSES", (0.0,) * 3)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(sys.modules["gdown.download"], "CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()  # a client made before may have read other settings
    yield
    huggingface_hub.close_session()


@pytest.fixture
def server():
    with http_server.running() as server:
        yield server


@pytest.fixture
def page(server):
    """The page of the hub's file, to be made to misbehave."""
    server.pages[PATH] = Page(BODY)
    return server.pages[PATH]


@pytest.fixture
def other_server():
    with http_server.running() as server:
        yield server


@pytest.fixture
def tls_server(tmp_path, monkeypatch):
    """A hub behind https, whose certificate the library trusts for this test."""
    pem = tmp_path / "hub.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run([*command.split(), "-keyout", pem, "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate of the https server, and is not installed")
    pem.write_bytes(pem.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    huggingface_hub.close_session()
    with http_server.running(pem) as server:
        server.pages[PATH] = Page(BODY)
        yield server


@pytest.fixture
def drive(server, monkeypatch, tmp_path):
    """The public drive: gdown's addresses of it are answered by our server, its code is its own."""
    monkeypatch.setattr(sys.modules["gdown.download"], "DEFAULT_COOKIES_FILE", str(tmp_path / "cookies.txt"))
    send = requests.adapters.HTTPAdapter.send

    def redirected(adapter, request, **options):
        request.url = request.url.replace("https://drive.google.com", server.url)
        return send(adapter, request, **options)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", redirected)
    link = f'<a href="https://drive.google.com/file/d/{FILE_ID}/view?usp=drive_web">pytorch_model.bin</a>'
    server.pages[LISTING] = Page(f"<html><title>ssr</title>{link}</html>".encode(), kind="text/html; charset=utf-8")
    server.pages[DRIVE_PATH] = Page(BODY, attachment="pytorch_model.bin")
    return server


def names(models: Path) -> list[str]:
    """Every file below the models folder."""
    return sorted(path.relative_to(models).as_posix() for path in models.rglob("*") if path.is_file())


def staged(models: Path, content: bytes, weight: WeightFile = WEIGHT) -> Path:
    """What an earlier run had when it was stopped."""
    path = weight.place(models).with_name(f"{weight.name}.part")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


# The hub


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
    assert names(tmp_path) == ["clip_vision/tiny.safetensors.part"]
    assert (tmp_path / "clip_vision/tiny.safetensors.part").read_bytes() == BODY[: 20 * CHUNK]
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


# Wrong sizes and wrong bytes


def test_wrong_bytes_never_get_the_final_name_and_are_deleted(server, page, tmp_path):
    page.stated_sha256 = sha256(model(seed=1))
    with pytest.raises(WeightsError, match=f"has sha256 {sha256(BODY)}, expected {sha256(model(1))}"):
        fetch(WEIGHT, tmp_path, server.url)
    assert len(server.ranges(PATH)) == 1
    assert names(tmp_path) == []


def test_bytes_of_an_older_version_are_found_out_and_the_next_run_starts_anew(server, page, tmp_path):
    staged(tmp_path, model(seed=1)[:30_000])
    with pytest.raises(WeightsError, match=f"expected {sha256(BODY)}"):
        fetch(WEIGHT, tmp_path, server.url)
    assert names(tmp_path) == []
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY


def test_the_manifests_hash_decides_where_the_server_states_none(server, page, tmp_path):
    page.stated_sha256 = ""
    with pytest.raises(WeightsError, match=f"has sha256 {sha256(BODY)}, expected {sha256(model(1))}"):
        fetch(replace(WEIGHT, sha256=sha256(model(seed=1))), tmp_path, server.url)
    assert names(tmp_path) == []
    assert fetch(replace(WEIGHT, sha256=sha256(BODY)), tmp_path, server.url).read_bytes() == BODY


def test_a_server_that_states_another_hash_is_refused_before_a_byte_is_downloaded(server, page, tmp_path):
    with pytest.raises(WeightsError, match="The file was replaced"):
        fetch(replace(WEIGHT, sha256=sha256(model(seed=1))), tmp_path, server.url)
    assert server.ranges(PATH) == []


def test_a_server_that_states_another_size_is_refused_before_a_byte_is_downloaded(server, page, tmp_path):
    with pytest.raises(WeightsError, match=f"has {len(BODY)} bytes.*expected {len(BODY) + 1} bytes"):
        fetch(replace(WEIGHT, size=len(BODY) + 1), tmp_path, server.url)
    assert server.ranges(PATH) == []


def test_a_hub_file_of_which_no_hash_is_known_is_refused(server, page, tmp_path):
    page.stated_sha256 = ""
    with pytest.raises(WeightsError, match="states no sha256"):
        fetch(WEIGHT, tmp_path, server.url)
    assert server.ranges(PATH) == []


def test_a_body_shorter_than_stated_never_gets_the_final_name(server, page, tmp_path):
    page.stated_size = len(BODY) + 100
    with pytest.raises(WeightsError, match=r"could not be downloaded"):
        fetch(WEIGHT, tmp_path, server.url)
    assert server.ranges(PATH) == [None, *[f"bytes={len(BODY)}-"] * 3]
    assert names(tmp_path) == ["clip_vision/tiny.safetensors.part"]


def test_a_body_longer_than_stated_never_gets_the_final_name(server, page, tmp_path):
    page.stated_size = len(BODY) - 100
    with pytest.raises(WeightsError, match=r"could not be downloaded"):
        fetch(WEIGHT, tmp_path, server.url)
    assert server.ranges(PATH) == [None] * 4
    assert WEIGHT.place(tmp_path).exists() is False


def test_a_connection_that_promises_more_than_it_sends_is_given_up(server, page, tmp_path, monkeypatch):
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    page.length = len(BODY) + 100
    with pytest.raises(WeightsError, match="could not be downloaded"):
        fetch(WEIGHT, tmp_path, server.url)
    assert WEIGHT.place(tmp_path).exists() is False


# Redirects


def test_a_redirect_to_another_host_is_followed(server, other_server, tmp_path):
    server.pages[PATH] = Page(BODY, location=f"{other_server.url}/cdn")
    other_server.pages["/cdn"] = Page(BODY)
    assert fetch(WEIGHT, tmp_path, server.url).read_bytes() == BODY
    assert other_server.ranges("/cdn") == [None]


@pytest.mark.parametrize("when", ["location", "location_of_get"])
@pytest.mark.parametrize("scheme", ["file", "ftp"])
def test_a_redirect_to_another_scheme_brings_nothing(server, page, tmp_path, scheme, when):
    right = tmp_path / "right.safetensors"
    right.write_bytes(BODY)  # so that following it would succeed
    setattr(page, when, f"{scheme}://{right}")
    with pytest.raises(WeightsError, match="not https" if when == "location" else "could not be downloaded"):
        fetch(WEIGHT, tmp_path / "models", server.url)
    assert server.ranges(PATH) == ([] if when == "location" else [None] * 4)
    assert [name for name in names(tmp_path / "models") if not name.endswith(".part")] == []


def test_https_brings_a_file(tls_server, tmp_path):
    assert fetch(WEIGHT, tmp_path / "models", tls_server.url).read_bytes() == BODY


def test_https_that_leads_to_http_is_refused(tls_server, other_server, tmp_path):
    tls_server.pages[PATH].location = f"{other_server.url}/cdn"
    other_server.pages["/cdn"] = Page(BODY)
    with pytest.raises(WeightsError, match="not https"):
        fetch(WEIGHT, tmp_path / "models", tls_server.url)
    assert other_server.asked == []


def test_https_that_leads_to_http_only_for_the_bytes_cannot_bring_others(tls_server, other_server, tmp_path):
    tls_server.pages[PATH].location_of_get = f"{other_server.url}/cdn"
    other_server.pages["/cdn"] = Page(model(seed=1))
    with pytest.raises(WeightsError, match=f"has sha256 {sha256(model(1))}, expected {sha256(BODY)}"):
        fetch(WEIGHT, tmp_path / "models", tls_server.url)
    assert names(tmp_path / "models") == []


# The hash seen first


def test_the_hash_seen_first_is_asked_of_a_later_download(server, page, tmp_path):
    fetch(WEIGHT, tmp_path, server.url).unlink()
    server.pages[PATH] = Page(model(seed=1))
    server.asked.clear()
    with pytest.raises(WeightsError, match=f"has .*{sha256(model(1))}, expected .*{sha256(BODY)}"):
        fetch(WEIGHT, tmp_path, server.url)
    assert server.ranges(PATH) == []


def test_the_hash_seen_first_is_asked_of_the_file_from_then_on(tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(BODY)
    assert verify(WEIGHT, path) == verify(WEIGHT, path) == sha256(BODY)
    assert names(tmp_path) == ["tiny.safetensors", "tiny.safetensors.sha256"]
    path.write_bytes(model(seed=1))
    with pytest.raises(WeightsError, match=f"expected {sha256(BODY)}"):
        verify(WEIGHT, path)


def test_a_pin_without_a_hash_is_not_taken_for_one(tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(BODY)
    (tmp_path / "tiny.safetensors.sha256").write_text("<html>")
    with pytest.raises(WeightsError, match=r"holds no sha256\. Remove it"):
        verify(WEIGHT, path)


# Structure


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (save({"text.weight": np.zeros((4, 3))}), r"vision\.weight has shape none, expected \(4, 3\)"),
        (save({"vision.weight": np.zeros((4, 5))}), r"vision\.weight has shape \(4, 5\), expected \(4, 3\)"),
        (b"<html>Too many downloads</html>", "cannot be read"),
        (BODY[:-1], "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=["another model", "another width", "a web page", "truncated", "empty"],
)
def test_a_file_of_the_wrong_structure_never_gets_the_final_name(server, tmp_path, body, message):
    server.pages[PATH] = Page(body)
    with pytest.raises(WeightsError, match=message):
        fetch(WEIGHT, tmp_path, server.url)
    assert names(tmp_path) == []


def released(part: str) -> dict[str, torch.Tensor]:
    """A part of the encoder with the released shapes, under the official names. Numbers are shared: it takes no room."""
    with torch.device("meta"):
        state = SSREncoder(EncoderConfig()).state_dict()
    official = {}
    for name, tensor in state.items():
        bare = name.removeprefix("aligner.").removesuffix(".weight")
        if name.startswith("layers."):
            _, index, to, _ = name.split(".")
            key = f"{2 * int(index) + 1}.{to}_SSR.weight"
        elif bare in ("to_q", "to_k"):
            key = name
        elif bare.startswith("norm"):
            key = name.removeprefix("aligner.")
        else:
            key = f"aligner.processor.{bare}.weight"
        if name.startswith(part):
            official[key] = torch.zeros(1, dtype=torch.float16).expand(tensor.shape)
    return official


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("part", ["aligner", "layers"])
def test_each_half_of_the_pair_is_known_by_its_shapes(tmp_path, part, suffix):
    weight = replace(WEIGHT, part=part, name=f"half.{suffix}", holds={})
    path = tmp_path / weight.name

    def write(state):
        path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)
        if suffix == "bin":
            torch.save(state, path)
        else:
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)

    write(released(part))
    assert verify(weight, path) == sha256(path.read_bytes())
    write(dict(list(released(part).items())[:-1]))
    with pytest.raises(ValueError, match="is not half"):
        verify(weight, path)
    write(released("layers" if part == "aligner" else "aligner"))
    with pytest.raises(WeightsError, match=rf"is not half\.{suffix} .* more differ"):
        verify(weight, path)


def test_half_of_the_pair_arrives_as_any_file_does(server, tmp_path):
    save_file({key: tensor.contiguous() for key, tensor in released("aligner").items()}, tmp_path / "sent")
    server.pages[PATH] = Page((tmp_path / "sent").read_bytes())
    path = fetch(replace(WEIGHT, part="aligner", holds={}), tmp_path / "models", server.url)
    assert path.read_bytes() == server.pages[PATH].body
    server.pages[PATH].body += b" "
    path.unlink()
    path.with_name(f"{path.name}.sha256").unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        fetch(replace(WEIGHT, part="aligner", holds={}), tmp_path / "models", server.url)
    assert names(tmp_path / "models") == []


# The drive


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
    half = staged(tmp_path, b"", DRIVEN).with_name("tiny.safetensors.partabcdefgh.part")
    half.write_bytes(BODY[:30_000])
    (half.parent / "tiny.safetensors.part").unlink()
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


# The manifest


def test_the_manifests_addresses_are_those_the_hub_is_asked_for():
    for weight in read_manifest():
        if weight.host == "hub":
            assert weight.url == huggingface_hub.hf_hub_url(weight.repository, weight.remote_name), weight.id
        else:
            assert (weight.host, weight.url) == ("drive", f"https://drive.google.com/drive/folders/{weight.repository}")


def test_the_manifest_is_complete_and_its_names_are_unique():
    manifest = read_manifest()
    assert {weight.id for weight in manifest if weight.default} == {"aligner", "layers", "clip-vision"}
    assert len({weight.id for weight in manifest}) == len({weight.place(Path()) for weight in manifest}) == len(manifest) == 6
    for weight in manifest:
        assert weight.purpose
        assert weight.licence
        assert weight.sha256 is None or weights._SHA256.fullmatch(weight.sha256)
        assert weight.part in ("aligner", "layers") or weight.holds, f"{weight.id} has nothing to be recognised by"


def test_example_workflows_name_the_files_as_the_manifest_does():
    known = {(weight.name, weight.url, weight.folders[0]) for weight in read_manifest()}
    named = set()
    for path in (PACK / "example_workflows").glob("*.json"):
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            named |= {(model["name"], model["url"], model["directory"]) for model in node["properties"].get("models", [])}
    assert len(named) >= 4
    assert named <= known


# The rest of the pack


def shipped() -> list[Path]:
    return [*PACK.glob("*.py"), *(PACK / "ssr_core").rglob("*.py"), *(PACK / "nodes").rglob("*.py")]


def test_only_weights_py_imports_what_can_reach_a_network():
    network = {
        "huggingface_hub",
        "gdown",
        "requests",
        "urllib",
        "urllib3",
        "http",
        "httpx",
        "socket",
        "ssl",
        "aiohttp",
        "ftplib",
    }
    found = {}
    for path in shipped():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
        if imported & network:
            found[path.relative_to(PACK).as_posix()] = imported & network
    assert found == {"ssr_core/weights.py": {"huggingface_hub", "gdown"}}
