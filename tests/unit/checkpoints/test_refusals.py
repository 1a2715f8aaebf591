"""Files that belong together but do not fit are refused with a sentence that helps."""

import json

import pytest
import torch
from safetensors.torch import save_file
from support.checkpoint_files import (
    LAYERS,
    SMALL,
    as_official_pickles,
    as_our_file,
    as_safetensors_twins,
    official_aligner,
    official_layers,
    pair,
    refused,
    state,
)


def test_one_half_of_a_pair_asks_for_the_other(tmp_path):
    aligner, layers = as_official_pickles(tmp_path, state())
    refused([aligner], "only the aligner", "not the layers", "pytorch_model_1.bin")
    refused([layers], "only the layers", "not the aligner", "pytorch_model.bin")


def test_the_same_half_twice_is_refused(tmp_path):
    aligner, layers = as_official_pickles(tmp_path, state())
    twin, _ = as_safetensors_twins(tmp_path, state())
    for paths in ([aligner, aligner], [layers, layers], [aligner, twin]):
        refused(paths, "repeats")
    (ours,) = as_our_file(tmp_path, state())
    refused([ours, ours], "repeats")


def test_our_file_together_with_a_half_is_refused(tmp_path):
    (ours,) = as_our_file(tmp_path, state())
    _, layers = as_official_pickles(tmp_path, state())
    refused([ours, layers], "not expected")
    refused([layers, ours], "not expected")


def test_no_file_and_empty_files_are_refused(tmp_path):
    refused([])
    refused(pair(tmp_path, {}, {}))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("aligner.to_q.weight", "aligner.to_q.weight"),
        ("aligner.processor.to_v.1.weight", "aligner.to_v.1.weight"),
        ("norm.bias", "aligner.norm.bias"),
    ],
)
def test_a_missing_aligner_weight_is_listed(tmp_path, key, name):
    aligner = official_aligner(state())
    del aligner[key]
    refused(pair(tmp_path, aligner, official_layers(state())), f"missing {name}")


def drop(prefixes):
    return {name: tensor for name, tensor in official_layers(state()).items() if not name.startswith(prefixes)}


def test_missing_layers_are_noticed_wherever_they_are_missing(tmp_path):
    aligner = official_aligner(state())
    refused(pair(tmp_path, aligner, drop(f"{2 * LAYERS - 1}.")), f"missing layers.{LAYERS - 1}.to_k.weight")
    refused(pair(tmp_path, aligner, drop("5.to_k")), "missing layers.2.to_k.weight")
    refused(pair(tmp_path, aligner, drop("5.")), "layer numbers")
    refused(pair(tmp_path, aligner, drop("1.")), "layer numbers")


def test_surplus_layers_and_scales_are_listed(tmp_path):
    aligner, layers = official_aligner(state()), official_layers(state())
    number = 2 * LAYERS + 1
    surplus = {f"{number}.to_k_SSR.weight": torch.zeros(8, 6), f"{number}.to_v_SSR.weight": torch.zeros(8, 6)}
    refused(pair(tmp_path, aligner, layers | surplus), f"not expected layers.{LAYERS}.to_k.weight")
    surplus = {"aligner.processor.to_v.2.weight": torch.zeros(8, 10)}
    refused(pair(tmp_path, aligner | surplus, layers), "not expected aligner.to_v.2.weight")


@pytest.mark.parametrize("key", ["1.to_k_ip.weight", "latents", "image_proj.norm.weight", "1.to_k_SSR.bias", "", "aligner"])
def test_foreign_keys_are_listed(tmp_path, key):
    foreign = official_layers(state()) | {key: torch.zeros(8, 6)}
    refused(pair(tmp_path, official_aligner(state()), foreign), "not an SSR-Encoder checkpoint", key)


@pytest.mark.parametrize(
    ("aligner", "layers"),
    [
        ({}, {"module.1.to_k_SSR.weight": torch.zeros(8, 6)}),
        ({}, {"1.to_v_SC.weight": torch.zeros(8, 6)}),
        ({}, {"1.to_q_SSR.weight": torch.zeros(8, 6)}),
        ({"ssr_attn.to_q.weight": torch.zeros(8, 6)}, {}),
    ],
    ids=["with and without module.", "old and new name", "a third matrix", "two aligners"],
)
def test_two_keys_for_one_matrix_are_refused_rather_than_one_of_them_taken(tmp_path, aligner, layers):
    refused(pair(tmp_path, official_aligner(state()) | aligner, official_layers(state()) | layers))


def test_another_shape_is_named_with_both_shapes(tmp_path):
    other = official_layers(state()) | {"1.to_k_SSR.weight": torch.zeros(8, 7)}
    refused(pair(tmp_path, official_aligner(state()), other), "layers.0.to_k.weight", "(8, 7)", "(8, 6)")
    scalar = official_aligner(state()) | {"norm.bias": torch.tensor(0.0)}
    refused(pair(tmp_path, scalar, official_layers(state())), "aligner.norm.bias", "()", "(6,)")


def test_a_small_encoder_is_not_taken_for_the_released_one(tmp_path):
    refused(as_official_pickles(tmp_path, state()), "16 layers and 6 scales", config=None)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_floats_are_refused(tmp_path, dtype):
    layers = {name: tensor.to(dtype) for name, tensor in official_layers(state()).items()}
    refused(pair(tmp_path, official_aligner(state()), layers), str(dtype))


def own_file(folder, **metadata):
    described = {"format": "ssr_encoder", "format_version": "1", "config": json.dumps(SMALL.to_dict())}
    save_file(state(), folder / "own.safetensors", metadata=described | metadata)
    return [folder / "own.safetensors"]


def test_a_newer_format_asks_for_an_update(tmp_path):
    refused(own_file(tmp_path, format_version="2"), "version 2", "Update")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", '{"layout": 3}'])
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path, text):
    refused(own_file(tmp_path, config=text), "configuration")


def test_a_configuration_without_one_of_its_fields_is_refused_by_its_name(tmp_path):
    """A default in its place would be another encoder: no weight has a shape that tells the number of heads."""
    for name in SMALL.to_dict():
        written = {field: value for field, value in SMALL.to_dict().items() if field != name}
        refused(own_file(tmp_path, config=json.dumps(written)), f"missing {name}")


def test_a_field_of_the_wrong_kind_is_told_by_its_place_and_value(tmp_path):
    written = SMALL.to_dict()
    layout = {**written["layout"], "channels": [8, "wide"]}
    refused(own_file(tmp_path, config=json.dumps(written | {"layout": layout})), "layout.channels.1", "'wide'")


@pytest.mark.parametrize(
    "change",
    [
        {"text_width": 12},
        {"text_width": -6},
        {"vision_layers": []},
        {"vision_layers": ["a", "b"]},
        {"vision_layers": [0, 1]},
        {"heads": 0},
        {"heads": 3},
        {"layout": {"channels": [8, 16], "depths": [1], "resnets": 1, "heads": 2}},
        {"layout": {"channels": [8], "depths": [1], "resnets": 1, "heads": 2}},
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_the_weights_is_refused(tmp_path, change):
    refused(own_file(tmp_path, config=json.dumps(SMALL.to_dict() | change)))
