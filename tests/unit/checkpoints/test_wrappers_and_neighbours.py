"""Checkpoints as other programs leave them are read where that is safe; other methods' files are called what they are."""

import pickle
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from support.checkpoint_files import (
    SMALL,
    as_official_pickles,
    official_aligner,
    official_layers,
    pair,
    pickled,
    refused,
    state,
)

from ssr_core import tensor_files
from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.encoder import fingerprint
from ssr_core.methods.ssr.neighbours import kind_of
from ssr_core.tensor_files import read, reads_pickles


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: {
            "state_dict": one,
            "epoch": 3,
            "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{}]},
        },
        lambda one: {"model": OrderedDict(one), "step": 7, "note": "x", "loss": 0.5, "none": None},
        lambda one: {"module": one},
        lambda one: {"state_dict": {"module": one}},
        lambda one: {**one, "step": 7, "lr": 1e-4},
        lambda one: {**one, "global_step": torch.tensor(7)},
        lambda one: {**one, "bn.num_batches_tracked": torch.tensor(7)},
        lambda one: {f"model.{name}": tensor for name, tensor in one.items()},
        lambda one: {f"state_dict.module.{name}": tensor for name, tensor in one.items()},
        lambda one: {name: torch.nn.Parameter(tensor) for name, tensor in one.items()},
    ],
    ids=[
        "lightning",
        "ema library",
        "module",
        "two wrappers",
        "numbers",
        "counter",
        "batch norm",
        "prefix",
        "prefixes",
        "parameters",
    ],
)
def test_a_wrapped_checkpoint_is_the_same_encoder(tmp_path, wrap):
    ours = state()
    weights = formats.read(pair(tmp_path, wrap(official_aligner(ours)), wrap(official_layers(ours))), SMALL)
    assert weights.fingerprint == fingerprint(ours, SMALL)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}, "model": {"a": torch.zeros(2)}, "module": {"b": torch.zeros(2)}},
        {"state_dict": 3},
        {"state_dict": {"a": {"b": {"c": torch.zeros(2)}}}},
        {"a": {"b": torch.zeros(2)}, "a.b": torch.zeros(2)},
        {"a": [torch.zeros(2)]},
        {"epoch": 3, "lr": 0.1},
    ],
    ids=str,
)
def test_what_holds_no_single_set_of_weights_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"odd\.bin holds"):
        read(pickled(content, tmp_path / "odd.bin"))


KEYS = {
    "an IP-Adapter": {"image_proj": {"proj.weight": 1, "norm.bias": 1}, "ip_adapter": {"1.to_k_ip.weight": 1}},
    "an MIP-Adapter": {"image_proj": {"latents": 1}, "ip_adapter": {"1.to_k_ip.weight": 1, "1.text_to_weight.weight": 1}},
    "a mapper of ELITE": {"mapping_0.0.weight": 1, "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.weight": 1},
    "a subject of LASR": {"static.basis": 1, "lasr.0.weight": 1},
    "a LoRA": {"lora_unet_down_blocks_0_attentions_0.lora_up.weight": 1, "unet.mid_block.attn.to_q.lora_A.weight": 1},
    "a ControlNet": {"control_model.input_hint_block.0.weight": 1},
    "a Stable Diffusion checkpoint": {"model.diffusion_model.input_blocks.0.0.weight": 1, "cond_stage_model.transformer.x": 1},
    "a UNet": {"down_blocks.0.resnets.0.conv1.weight": 1},
    "a CLIP vision model": {"vision_model.embeddings.class_embedding": 1},
    "a text encoder": {"text_model.embeddings.position_ids": 1},
    "a VAE": {"encoder.conv_in.weight": 1, "decoder.conv_in.weight": 1},
    "a textual inversion": {"emb_params": 1},
}


@pytest.mark.parametrize("kind", KEYS)
def test_another_methods_file_is_called_what_it_is(tmp_path, kind):
    nested = {key: {k: torch.zeros(2) for k in v} if isinstance(v, dict) else torch.zeros(2) for key, v in KEYS[kind].items()}
    pickled(nested, tmp_path / "foreign.bin")
    refused([tmp_path / "foreign.bin"], "not an SSR-Encoder checkpoint", kind)
    flat, _ = read(tmp_path / "foreign.bin")
    save_file(flat, tmp_path / "foreign.safetensors")
    refused([tmp_path / "foreign.safetensors"], "not an SSR-Encoder checkpoint", kind)


def test_a_foreign_file_is_refused_before_its_tensors_are_read(tmp_path, monkeypatch):
    save_file({"model.diffusion_model.x": torch.zeros(2)}, tmp_path / "sd.safetensors")
    monkeypatch.setattr(torch.Tensor, "clone", lambda self: pytest.fail("a tensor was read"))
    refused([tmp_path / "sd.safetensors"], "a Stable Diffusion checkpoint")


def test_keys_of_ours_are_no_neighbours():
    assert kind_of(["module.1.to_k_SSR.weight", "image_proj.x"]) is None
    assert kind_of(["aligner.to_q.weight", "norm.weight"]) is None
    assert kind_of([]) is None


def test_a_subject_file_is_sent_to_its_own_node(tmp_path):
    save_file({"0.tokens": torch.zeros(2, 2)}, tmp_path / "dog.safetensors", metadata={"format": "ssr_subject"})
    refused([tmp_path / "dog.safetensors"], "Load Subject reads it")


def test_python_objects_are_named_and_not_made(tmp_path):
    class_source = "cldm_modules\nLASREmbedding\n"
    content = b"\x80\x02}X\x01\x00\x00\x00ac" + class_source.encode() + b")\x81s."
    (tmp_path / "lasr.pt").write_bytes(content)
    refused([tmp_path / "lasr.pt"], "cannot be read")
    torch.save({"a": OrderedDict, "b": pickle.Pickler}, tmp_path / "objects.pt")
    refused([tmp_path / "objects.pt"], "Python objects", "Pickler")


@pytest.mark.parametrize(
    ("version", "safe"), {"2.4.0": False, "2.9.1+cu130": False, "2.10.0": True, "2.14.1+cpu": True, "3.0.0": True}.items()
)
def test_pickles_are_read_from_torch_2_10_on(tmp_path, monkeypatch, version, safe):
    paths = as_official_pickles(tmp_path, state())
    old = pickled(official_layers(state()), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    save_file(state(), tmp_path / "twin.safetensors")
    monkeypatch.setattr(tensor_files.torch, "__version__", version)
    assert reads_pickles() is safe
    assert read(tmp_path / "twin.safetensors")[0].keys() == state().keys()
    if safe:
        assert formats.read(paths, SMALL).fingerprint == fingerprint(state(), SMALL)
        return
    monkeypatch.setattr(tensor_files.torch, "load", lambda *args, **options: pytest.fail("a pickle was opened"))
    for path in (*paths, old):
        refused([path], "is a pickle", "ssr-encoder convert FILES --out encoder.safetensors", version)


def test_control_characters_of_names_and_keys_reach_no_message(tmp_path):
    path = tmp_path / "evil\x1b[2J\n\u202e.bin"
    message = refused_anyhow(pickled({"a\x1b[31m\x07": torch.zeros(2)}, path))
    assert message.isprintable()
    assert refused_anyhow(tmp_path / "no\x1b\x00where"[:-6]).isprintable()
    path.write_bytes(b"\x00\x1b")
    assert refused_anyhow(path).isprintable()


def refused_anyhow(path):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        formats.read([path], SMALL)
    return str(caught.value)
