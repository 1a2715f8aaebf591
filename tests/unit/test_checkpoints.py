"""Every weight file there is gives the same encoder, and every other file a sentence that helps."""

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ssr_core import checkpoints
from ssr_core.encoder import EncoderConfig, SSREncoder, fingerprint
from ssr_core.layout import UNetLayout

SMALL = EncoderConfig(
    layout=UNetLayout(channels=(8, 16), depths=(1, 1), resnets=1, heads=2),
    text_width=6,
    vision_width=10,
    inner_width=8,
    heads=2,
    vision_layers=(1, 2),
)
LAYERS = len(SMALL.layout.layers)


def state(seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return {name: tensor.to(dtype) for name, tensor in SSREncoder(SMALL).state_dict().items()}


def official_aligner(ours):
    """pytorch_model.bin"""
    renamed = {}
    for name, tensor in ours.items():
        part, _, rest = name.partition(".")
        if part == "aligner" and rest.startswith("norm"):
            renamed[rest] = tensor
        elif part == "aligner":
            renamed[f"aligner.{rest}" if rest in ("to_q.weight", "to_k.weight") else f"aligner.processor.{rest}"] = tensor
    return renamed


def official_layers(ours, number=lambda index: 2 * index + 1, suffix="SSR"):
    """pytorch_model_1.bin"""
    renamed = {}
    for name, tensor in ours.items():
        part, _, rest = name.partition(".")
        if part == "layers":
            index, matrix, _ = rest.split(".")
            renamed[f"{number(int(index))}.{matrix}_{suffix}.weight"] = tensor
    return renamed


def pickled(content, path, **options):
    torch.save(content, path, **options)
    return path


def pair(folder, aligner, layers):
    return [pickled(aligner, folder / "pytorch_model.bin"), pickled(layers, folder / "pytorch_model_1.bin")]


def single(folder, weights, name="encoder.safetensors", dtype=torch.float32):
    checkpoints.write(weights, folder / name, dtype)
    return [folder / name]


def prefixed(tensors, prefix="module."):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def as_official_pickles(folder, ours):
    return pair(folder, official_aligner(ours), official_layers(ours))


def as_pair_in_the_other_order(folder, ours):
    return as_official_pickles(folder, ours)[::-1]


def as_old_pickle_protocol(folder, ours):
    old = {"_use_new_zipfile_serialization": False}
    return [
        pickled(official_aligner(ours), folder / "pytorch_model.bin", **old),
        pickled(official_layers(ours), folder / "pytorch_model_1.bin", **old),
    ]


def as_safetensors_twins(folder, ours):
    paths = [folder / "ssr_aligner.safetensors", folder / "ssr_layers.safetensors"]
    save_file(official_aligner(ours), paths[0], metadata={"format": "pt"})
    save_file(official_layers(ours), paths[1])
    return paths


def as_pickle_and_twin(folder, ours):
    return [as_official_pickles(folder, ours)[0], as_safetensors_twins(folder, ours)[1]]


def as_animatediff_numbers(folder, ours):
    return pair(folder, official_aligner(ours), official_layers(ours, number=lambda index: index))


def as_data_parallel(folder, ours):
    return pair(folder, prefixed(official_aligner(ours)), prefixed(official_layers(ours)))


def as_half_data_parallel(folder, ours):
    return pair(folder, official_aligner(ours), prefixed(official_layers(ours)))


def as_the_authors_older_names(folder, ours):
    aligner = {name.replace("aligner.", "ssr_attn."): tensor for name, tensor in official_aligner(ours).items()}
    return pair(folder, aligner, official_layers(ours, suffix="SC"))


def as_both_in_one_file(folder, ours):
    return [pickled(official_aligner(ours) | official_layers(ours), folder / "both.bin")]


def as_our_file(folder, ours):
    return single(folder, checkpoints.Weights(SMALL, ours, fingerprint(ours, SMALL)), dtype=next(iter(ours.values())).dtype)


FORMATS = [
    as_official_pickles, as_pair_in_the_other_order, as_old_pickle_protocol, as_safetensors_twins, as_pickle_and_twin,
    as_animatediff_numbers, as_data_parallel, as_half_data_parallel, as_the_authors_older_names, as_both_in_one_file,
    as_our_file,
]  # fmt: skip


@pytest.mark.parametrize("dtype", checkpoints.DTYPES.values(), ids=checkpoints.DTYPES.keys())
@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_every_format_gives_the_same_encoder(tmp_path, make, dtype):
    ours = state(dtype=dtype)
    weights = checkpoints.read(make(tmp_path, ours), SMALL)
    assert weights.config == SMALL
    assert weights.fingerprint == fingerprint(ours, SMALL)
    assert weights.state.keys() == ours.keys()
    assert all(torch.equal(weights.state[name], tensor) and weights.state[name].dtype == dtype for name, tensor in ours.items())


def test_our_file_brings_its_own_shapes(tmp_path):
    assert checkpoints.read(as_our_file(tmp_path, state())).config == SMALL


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_half_precision_copy_is_the_same_encoder(tmp_path, half):
    source = checkpoints.read(as_official_pickles(tmp_path, state()), SMALL)
    copy = checkpoints.read(single(tmp_path, source, "half.safetensors", half))
    assert copy.fingerprint == source.fingerprint
    assert {tensor.dtype for tensor in copy.state.values()} == {half}
    again = checkpoints.read(single(tmp_path, copy, "other half.safetensors", torch.bfloat16))
    assert again.fingerprint == source.fingerprint


def test_a_changed_weight_is_another_encoder(tmp_path):
    changed = state()
    changed["layers.3.to_v.weight"][0, 0] += 1e-3
    assert fingerprint(changed, SMALL) != fingerprint(state(), SMALL)
    assert fingerprint({"to_k": torch.zeros(2, 3)}, SMALL) != fingerprint({"to_k": torch.zeros(3, 2)}, SMALL)
    # A full-precision file cannot claim to be what it is not.
    written = single(tmp_path, checkpoints.Weights(SMALL, changed, fingerprint(state(), SMALL)))
    assert checkpoints.read(written).fingerprint == fingerprint(changed, SMALL)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_loaded_encoder_runs_and_is_frozen(tmp_path, dtype):
    encoder = checkpoints.load(as_official_pickles(tmp_path, state()), SMALL, dtype=dtype)
    assert encoder.fingerprint == fingerprint(state(), SMALL)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    used = dtype or torch.float32
    aligned = encoder(torch.randn(1, 3, 6, dtype=used), torch.randn(1, 2, 5, 10, dtype=used))
    assert aligned.tokens.shape == (1, 6, 6)
    assert [tuple(key.shape) for key, _ in encoder.project(aligned.tokens)] == [
        (1, 6, layer.width) for layer in SMALL.layout.layers
    ]


def test_the_released_encoder_has_25_593_344_parameters():
    with torch.device("meta"):
        encoder = SSREncoder(EncoderConfig())
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 25_593_344
    assert sum(parameter.numel() for parameter in encoder.aligner.parameters()) == 6_424_064
    assert len(encoder.state_dict()) == 16 + 32


def refused(paths, *words, config=SMALL):
    """The message with which these files are refused; it names the last of them."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        checkpoints.read(paths, config)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    if paths:
        assert Path(paths[-1]).name in message
    for word in words:
        assert word in message
    return message


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
    refused([*others, cut], "truncated")


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
        names = checkpoints.read([*others, damaged], SMALL).state.keys()
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


@pytest.mark.filterwarnings("ignore")
def test_a_file_with_the_wrong_ending_is_refused(tmp_path):
    aligner, layers = as_official_pickles(tmp_path, state())
    _, twin = as_safetensors_twins(tmp_path, state())
    refused([aligner, layers.rename(tmp_path / "pickle.safetensors")])
    refused([aligner, twin.rename(tmp_path / "safetensors.bin")])


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    aligner, _ = as_official_pickles(tmp_path, state())
    for missing in (tmp_path / "nowhere.bin", tmp_path / "nowhere.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=missing.name):
            checkpoints.read([aligner, missing], SMALL)


def own_file(folder, **metadata):
    described = {"format": "ssr_encoder", "format_version": "1", "config": json.dumps(SMALL.to_dict())}
    save_file(state(), folder / "own.safetensors", metadata=described | metadata)
    return [folder / "own.safetensors"]


def test_a_newer_format_asks_for_an_update(tmp_path):
    refused(own_file(tmp_path, format_version="2"), "version 2", "Update")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", '{"layout": 3}'])
def test_a_configuration_that_cannot_be_read_is_refused(tmp_path, text):
    refused(own_file(tmp_path, config=text), "configuration")


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
