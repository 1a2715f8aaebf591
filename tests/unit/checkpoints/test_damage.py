"""Damaged, foreign and harmful files are refused, and run nothing."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checkpoint_files import (
    SMALL,
    as_official_pickles,
    as_our_file,
    as_safetensors_twins,
    official_layers,
    pickled,
    refused,
    state,
)

from ssr_core import tensor_files
from ssr_core.methods.ssr import formats


@pytest.mark.parametrize(
    "content",
    [{"state_dict": {"norm.bias": torch.zeros(6)}}, [torch.zeros(6)], torch.zeros(6), {"step": 3}, None, {0: torch.zeros(6)}],
    ids=["nested", "list", "tensor", "no tensors", "nothing", "numbered"],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content):
    _, layers = as_official_pickles(tmp_path, state())
    refused([layers, pickled(content, tmp_path / "other.bin")])


class Harmful:
    """A pickle that makes a folder when somebody loads it without care."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path, new_format):
    trace = tmp_path / "trace"
    content = official_layers(state()) | {"1.to_k_SSR.weight": Harmful(str(trace))}
    harmful = pickled(content, tmp_path / "harmful.bin", _use_new_zipfile_serialization=new_format)
    aligner, _ = as_official_pickles(tmp_path, state())
    message = refused([aligner, harmful])
    assert not trace.exists()
    assert "weights_only" not in message, "advises to load it without care"
    torch.load(harmful, weights_only=False)
    assert trace.is_dir(), "the test's own pickle is harmless"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Files that can be read, by kind, each with what completes it."""
    folder, ours = tmp_path_factory.mktemp("whole"), state()
    aligner, zipped = as_official_pickles(folder, ours)
    (old,) = [pickled(official_layers(ours), folder / "old.bin", _use_new_zipfile_serialization=False)]
    _, twin = as_safetensors_twins(folder, ours)
    (own,) = as_our_file(folder, ours)
    return {"zip": (zipped, [aligner]), "old pickle": (old, [aligner]), "safetensors": (twin, [aligner]), "ours": (own, [])}


KINDS = ["zip", "old pickle", "safetensors", "ours"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_truncated_file_is_refused_wherever_it_ends(whole, kind, data):
    path, others = whole[kind]
    content = path.read_bytes()
    cut = path.with_name(f"cut{path.suffix}")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    refused([*others, cut], "incomplete")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_damaged_byte_is_refused_or_does_no_harm(whole, kind, data):
    path, others = whole[kind]
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = path.with_name(f"damaged{path.suffix}")
    damaged.write_bytes(content)
    try:
        names = formats.read([*others, damaged], SMALL).state.keys()
    except ValueError as error:
        refusal = error
    else:
        assert names == state().keys()
        return
    assert type(refusal) is ValueError
    assert damaged.name in str(refusal)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html><body>Sign in</body></html>",
        b"Repository not found",
        b'{"error": "Not found"}',
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102\n",
    ],
    ids=["empty", "web page", "plain answer", "json answer", "git lfs pointer"],
)
def test_what_a_failed_download_leaves_is_refused(tmp_path, content, suffix):
    aligner, _ = as_official_pickles(tmp_path, state())
    left = tmp_path / f"pytorch_model_1{suffix}"
    left.write_bytes(content)
    refused([aligner, left], "download it again")


def test_a_file_with_the_wrong_ending_is_told_by_its_content(tmp_path):
    aligner, layers = as_official_pickles(tmp_path, state())
    _, twin = as_safetensors_twins(tmp_path, state())
    expected = formats.read([aligner, layers], SMALL).fingerprint
    assert formats.read([aligner, layers.rename(tmp_path / "pickle.safetensors")], SMALL).fingerprint == expected
    assert formats.read([aligner, twin.rename(tmp_path / "safetensors.bin")], SMALL).fingerprint == expected


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    aligner, _ = as_official_pickles(tmp_path, state())
    for missing in (tmp_path / "nowhere.bin", tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=missing.name):
            formats.read([aligner, missing], SMALL)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [MemoryError("no room for 1.7 GB"), OSError("The paging file is too small")], ids=str)
def test_a_whole_file_for_which_there_is_no_memory_is_not_called_damaged(whole, kind, error, monkeypatch):
    path, others = whole[kind]

    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(tensor_files, "safe_open", refuse)
    monkeypatch.setattr(tensor_files.torch, "load", refuse)
    with pytest.raises(type(error), match=str(error.args[-1])):
        formats.read([*others, path], SMALL)
