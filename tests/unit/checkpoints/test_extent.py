"""A file is believed only as far as its tensors go: nothing is built, read or waited for beyond them."""

import json
import os
import time
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from support.checkpoint_files import SMALL, as_official_pickles, as_our_file, official_layers, pickled, refused, state

from ssr_core import tensor_files
from ssr_core.methods.ssr import formats


@pytest.fixture(autouse=True)
def _quickly():
    started = time.monotonic()
    yield
    assert time.monotonic() - started < 20, "seconds; most of it is the machine's"


HUGE = 10**9


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": {"depths": [HUGE, HUGE]}},
        {"layout": {"mid_depth": HUGE}},
        {"layout": {"resnets": HUGE}},
        {"layout": {"resnets": HUGE, "depths": [0, 0]}},
        {"layout": {"channels": [8] * 50_000, "depths": [0] * 50_000}},
        {"layout": {"channels": [HUGE, HUGE]}},
        {"layout": {"heads": HUGE}},
        {"layout": {"heads": 3}},
        {"layout": {"channels": [10**30, 16]}},
        {"layout": {"channels": [-8, 16]}},
        {"layout": {"depths": [1, -1]}},
        {"text_width": HUGE},
        {"vision_width": 2**31 - 1},
        {"inner_width": HUGE, "heads": HUGE},
        {"inner_width": 0},
        {"heads": 0},
        {"vision_layers": list(range(1, 200_000))},
        {"vision_layers": []},
        {"vision_layers": [0] * 70_000},
        {"layout": {"depths": [0] * 70_000}},
        {"vision_layers": [0]},
        {"text_width": 6.5},
        {"text_width": "x" * 100_000},
        {"text_width": float("nan")},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_a_description_beyond_the_files_tensors_is_refused(tmp_path, changes):
    config = json.loads(json.dumps(SMALL.to_dict()))
    config |= {name: config[name] | value if isinstance(value, dict) else value for name, value in changes.items()}
    metadata = {"format": "ssr_encoder", "format_version": "1", "config": json.dumps(config)}
    save_file(state(), tmp_path / "own.safetensors", metadata=metadata)
    assert len(refused([tmp_path / "own.safetensors"])) < 1500


def test_names_beyond_every_models_are_refused_before_tensors_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "MOST_TENSORS", 100)
    save_file({str(number): torch.zeros(1) for number in range(101)}, tmp_path / "many.safetensors")
    refused([tmp_path / "many.safetensors"], "more than 100 tensors")
    refused([pickled({str(number): torch.zeros(1) for number in range(101)}, tmp_path / "many.bin")], "more than 100 tensors")
    once = {str(number): torch.zeros(1) for number in range(60)}
    refused([pickled({"a": once, "b": once}, tmp_path / "twice.bin")], "more than 100 tensors")


def test_metadata_of_megabytes_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "LARGEST_HEADER", 10_000)
    save_file(state(), tmp_path / "long.safetensors", metadata={"note": "x" * 20_000})
    refused([tmp_path / "long.safetensors"], "at most 10,000 are read")


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices as on POSIX")
def test_a_pipe_and_a_device_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "link.bin").symlink_to("/dev/zero")
    refused([tmp_path / "pipe.safetensors"], "is a pipe, not a file")
    refused([tmp_path / "link.bin"], "is a device or the like, not a file")


def test_a_compressed_archive_is_refused_unpacked_nowhere(tmp_path):
    pickled(official_layers(state()), tmp_path / "plain.bin")
    with (
        zipfile.ZipFile(tmp_path / "plain.bin") as plain,
        zipfile.ZipFile(tmp_path / "bomb.bin", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.infolist():
            bomb.writestr(member.filename, plain.read(member) if "data/" not in member.filename else bytes(50_000_000))
    assert (tmp_path / "bomb.bin").stat().st_size < 5_000_000
    refused([tmp_path / "bomb.bin"], "compressed archive")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(3, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch._neg_view(torch.ones(3)),
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    ],
    ids=["meta", "sparse", "negated", "nested"],
)
def test_tensors_without_numbers_of_their_own_are_refused(tmp_path, make):
    refused([pickled({"norm.bias": make()}, tmp_path / "odd.bin")], "no plain tensor")


def test_a_shape_that_no_storage_holds_costs_nothing(tmp_path):
    aligner, _ = as_official_pickles(tmp_path, state())
    layers = official_layers(state())
    layers["1.to_k_SSR.weight"] = torch.zeros(1).expand(HUGE, HUGE)
    refused([aligner, pickled(layers, tmp_path / "wide.bin")], "has shape")


def test_a_model_for_which_there_is_no_memory_is_named_so(tmp_path, monkeypatch):
    (path,) = as_our_file(tmp_path, state())

    def refuse(*args, **options):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setattr(tensor_files, "safe_open", refuse)
    with pytest.raises(MemoryError, match=r"encoder\.safetensors \(0\.0 GB\) does not fit into memory"):
        formats.read([path])
