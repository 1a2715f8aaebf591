"""Every weight file there is gives the same encoder."""

import pytest
import torch
from support.checkpoint_files import (
    SMALL,
    as_animatediff_numbers,
    as_both_in_one_file,
    as_data_parallel,
    as_half_data_parallel,
    as_official_pickles,
    as_old_pickle_protocol,
    as_our_file,
    as_pair_in_the_other_order,
    as_pickle_and_twin,
    as_safetensors_twins,
    as_the_authors_older_names,
    single,
    state,
)

from ssr_core import weight_files
from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.encoder import EncoderConfig, SSREncoder, fingerprint

FORMATS = [
    as_official_pickles, as_pair_in_the_other_order, as_old_pickle_protocol, as_safetensors_twins, as_pickle_and_twin,
    as_animatediff_numbers, as_data_parallel, as_half_data_parallel, as_the_authors_older_names, as_both_in_one_file,
    as_our_file,
]  # fmt: skip


@pytest.mark.parametrize("dtype", weight_files.DTYPES.values(), ids=weight_files.DTYPES.keys())
@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_every_format_gives_the_same_encoder(tmp_path, make, dtype):
    ours = state(dtype=dtype)
    weights = formats.read(make(tmp_path, ours), SMALL)
    assert weights.config == SMALL
    assert weights.fingerprint == fingerprint(ours, SMALL)
    assert weights.state.keys() == ours.keys()
    assert all(torch.equal(weights.state[name], tensor) and weights.state[name].dtype == dtype for name, tensor in ours.items())


def test_our_file_brings_its_own_shapes(tmp_path):
    assert formats.read(as_our_file(tmp_path, state())).config == SMALL


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_half_precision_copy_is_the_same_encoder(tmp_path, half):
    source = formats.read(as_official_pickles(tmp_path, state()), SMALL)
    copy = formats.read(single(tmp_path, source, "half.safetensors", half))
    assert copy.fingerprint == source.fingerprint
    assert {tensor.dtype for tensor in copy.state.values()} == {half}
    again = formats.read(single(tmp_path, copy, "other half.safetensors", torch.bfloat16))
    assert again.fingerprint == source.fingerprint


def test_a_changed_weight_is_another_encoder(tmp_path):
    changed = state()
    changed["layers.3.to_v.weight"][0, 0] += 1e-3
    assert fingerprint(changed, SMALL) != fingerprint(state(), SMALL)
    assert fingerprint({"to_k": torch.zeros(2, 3)}, SMALL) != fingerprint({"to_k": torch.zeros(3, 2)}, SMALL)
    # A full-precision file cannot claim to be what it is not.
    written = single(tmp_path, formats.Weights(SMALL, changed, fingerprint(state(), SMALL)))
    assert formats.read(written).fingerprint == fingerprint(changed, SMALL)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_loaded_encoder_runs_and_is_frozen(tmp_path, dtype):
    encoder = formats.load(as_official_pickles(tmp_path, state()), SMALL, dtype=dtype)
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
