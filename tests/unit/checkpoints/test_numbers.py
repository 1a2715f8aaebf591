"""Weights that are no numbers, types that do not match, and identities that are not the weights'."""

import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import safe_open, save_file
from support.checkpoint_files import (
    SMALL,
    as_our_file,
    as_safetensors_twins,
    official_aligner,
    official_layers,
    pair,
    refused,
    single,
    state,
)

from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.encoder import fingerprint

NONE = [float("nan"), float("inf"), float("-inf"), -1e30, torch.finfo(torch.float32).max, torch.finfo(torch.float32).min]


@pytest.mark.parametrize("value", NONE)
@pytest.mark.parametrize("name", ["aligner.to_q.weight", "aligner.norm.bias", "layers.3.to_v.weight"])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, name, value):
    broken = state()
    broken[name].view(-1)[-1] = value
    refused(pair(tmp_path, official_aligner(broken), official_layers(broken)), name, "holds numbers")
    save_file(broken, tmp_path / "own.safetensors", metadata=own_metadata())
    refused([tmp_path / "own.safetensors"], name, "holds numbers")
    with pytest.raises(ValueError, match=r"encoder to write.*Nothing was written"):
        formats.write(formats.Weights(SMALL, broken, "0" * 32), tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def own_metadata():
    return {"format": "ssr_encoder", "format_version": "1", "config": formats.json.dumps(SMALL.to_dict())}


def test_a_conversion_that_overflows_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(formats.finite, "LARGEST_WEIGHT", 1e4)
    large = state()
    large["layers.0.to_k.weight"][0, 0] = 70_000.0
    with pytest.raises(ValueError, match=r"layers\.0\.to_k\.weight holds numbers from"):
        formats.write(formats.Weights(SMALL, large, "0" * 32), tmp_path / "half.safetensors", torch.float16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("second", [torch.float16, torch.bfloat16, torch.float32])
def test_halves_of_two_precisions_keep_every_bit(tmp_path, caplog, first, second):
    ours = {name: tensor.to(first if name.startswith("aligner") else second) for name, tensor in state().items()}
    with caplog.at_level(logging.WARNING):
        weights = formats.read(as_safetensors_twins(tmp_path, ours), SMALL)
    assert {tensor.dtype for tensor in weights.state.values()} == {torch.promote_types(first, second)}
    assert all(torch.equal(weights.state[name].double(), tensor.double()) for name, tensor in ours.items())
    assert weights.fingerprint == fingerprint(ours, SMALL)
    assert ("used as torch.float32" in caplog.text) is (first != second)
    assert formats.load(as_safetensors_twins(tmp_path, ours), SMALL).layers[0].to_k.weight.dtype == torch.promote_types(
        first, second
    )


@pytest.fixture
def half(tmp_path):
    (source,) = as_our_file(tmp_path, state())
    (path,) = single(tmp_path, formats.read([source]), "half.safetensors", torch.float16)
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key).clone() for key in file.keys()}, file.metadata()  # noqa: SIM118

    def rewritten(changed, **said):
        described = {name: text for name, text in (metadata | said).items() if text is not None}
        save_file(tensors | changed, tmp_path / "forged.safetensors", metadata=described)
        return [tmp_path / "forged.safetensors"]

    return rewritten


def test_a_half_precision_file_is_held_to_the_weights_it_was_written_with(half):
    original = fingerprint(state(), SMALL)
    assert formats.read(half({})).fingerprint == original
    refused(
        half({"aligner.norm.bias": torch.ones(6, dtype=torch.float16)}),
        "not those that its fingerprint was written for",
        original[:12],
    )
    refused(half({}, own_fingerprint="f" * 32), "not those that")
    for nonsense in ("", "me", "F" * 32, "\x1b" * 32, "0" * 33):
        refused(half({}, fingerprint=nonsense), "expected 32 hexadecimal digits")


def test_of_a_half_precision_file_of_an_earlier_version_it_is_said_what_cannot_be_checked(half, caplog):
    with caplog.at_level(logging.INFO):
        assert formats.read(half({}, own_fingerprint=None)).fingerprint == fingerprint(state(), SMALL)
    assert "cannot be checked" in caplog.text


def test_what_is_written_again_is_bound_again(half, tmp_path):
    weights = formats.read(half({}))
    formats.write(weights, tmp_path / "again.safetensors", torch.bfloat16)
    assert formats.read([tmp_path / "again.safetensors"]).fingerprint == weights.fingerprint
    widened = replace(weights.config), {name: tensor.float() for name, tensor in weights.state.items()}
    formats.write(formats.Weights(*widened, weights.fingerprint), tmp_path / "wide.safetensors")
    assert formats.read([tmp_path / "wide.safetensors"]).fingerprint == fingerprint(weights.state, SMALL)
