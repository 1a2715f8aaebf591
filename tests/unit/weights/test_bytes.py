"""Wrong sizes, wrong bytes and wrong structures never get the final name; the hash seen first is asked for ever after."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import file_download
from safetensors.numpy import save
from safetensors.torch import save_file
from support.downloads import BODY, PATH, WEIGHT, model, names, sha256, staged
from support.http_server import Page

from ssr_core.methods.mip.adapter import AdapterConfig, MIPAdapter, ResamplerShape
from ssr_core.methods.mip.formats import official_name
from ssr_core.methods.ssr.encoder import EncoderConfig, SSREncoder
from ssr_core.weights import WeightsError, fetch, staged_path, verify

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
    assert names(tmp_path) == [staged_path(WEIGHT, WEIGHT.place(tmp_path)).relative_to(tmp_path).as_posix()]


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
    """A part of the encoder with shapes and names as Xiaojiu-z/SSR_Encoder releases them. Its numbers are shared and take no room."""
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


@pytest.mark.parametrize("part", ["mip_adapter", "mip_adapter_plus"])
def test_an_mip_adapter_is_known_by_its_shapes(tmp_path, part):
    """As hqhQAQ/MIP-Adapter publishes it; its numbers are shared and take no room."""
    shape = ResamplerShape() if part == "mip_adapter_plus" else None
    config = AdapterConfig(tokens=16 if shape else 4, resampler=shape)
    with torch.device("meta"):
        state = MIPAdapter(config).state_dict()
    official: dict = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in state.items():
        group, key = official_name(name, config).split(".", 1)
        shared = torch.zeros(1, dtype=torch.float16).expand(tensor.shape)
        official[group][key] = shared[None] if key.endswith("text_to_weight.weight") else shared
    weight = replace(WEIGHT, part=part, name="model.bin", holds={})
    path = tmp_path / weight.name
    torch.save(official, path)
    assert verify(weight, path) == sha256(path.read_bytes())
    other = replace(weight, part="mip_adapter" if shape else "mip_adapter_plus")
    with pytest.raises(WeightsError, match=r"is not model\.bin .* more differ"):
        verify(other, path)


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
