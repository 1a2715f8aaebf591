"""The mappers' shapes, what they are known by, and the matrices they give to a host."""

from dataclasses import replace

import pytest
import torch
from support.elite import SMALL, small, weights

from ssr_core.methods.elite.mapper import Elite, EliteConfig, replacement_delta, stage_fingerprint


def test_shapes_of_words_and_tokens():
    elite, features = small(), torch.randn(2, 3, 17, 10)
    assert elite.global_mapper(features).shape == (2, 3, 6)
    assert elite.local_mapper(features).shape == (2, 16, 6)


def test_every_word_comes_from_its_own_layer_of_the_vision_model():
    elite, features = small(), torch.randn(1, 3, 17, 10)
    changed = features.clone()
    changed[:, 1] += 1.0
    same = (elite.global_mapper(features) == elite.global_mapper(changed)).all(dim=-1)[0]
    assert same.tolist() == [True, False, True]


def test_tokens_outside_the_mask_are_zero_vectors_and_stay():
    elite, features = small(), torch.randn(1, 3, 17, 10)
    mask = torch.zeros(1, 16)
    mask[:, 5] = 1.0
    tokens = elite.local_mapper(features, mask)
    assert tokens.shape == (1, 16, 6)
    assert torch.equal(tokens[0, 5], elite.local_mapper(features)[0, 5])
    assert not tokens[0, [place for place in range(16) if place != 5]].any()
    assert all(not key[0, 0].any() and not value[0, 0].any() for key, value in elite.local_mapper.project(tokens))


def test_keys_and_values_follow_the_layouts_layers():
    elite = small()
    pairs = list(elite.local_mapper.project(torch.randn(1, 16, 6)))
    assert [key.shape[-1] for key, _ in pairs] == [layer.width for layer in SMALL.layout.layers]
    for matrices, (key, value) in zip(
        elite.local_mapper.matrices(), elite.local_mapper.project(torch.eye(6)[None]), strict=True
    ):
        torch.testing.assert_close(key[0].T, matrices.key)
        torch.testing.assert_close(value[0].T, matrices.value)


def test_a_delta_leaves_room_for_loras_in_any_order():
    own, replacement, lora = torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 6)
    delta = replacement_delta(replacement.half(), own)
    torch.testing.assert_close(own + delta + lora, replacement.half().float() + lora)
    torch.testing.assert_close(own + lora + delta, replacement.half().float() + lora)


def test_the_hosts_linear_layers_are_used():
    class Counting:
        made = 0

        @classmethod
        def Linear(cls, *args, **factory):
            cls.made += 1
            return torch.nn.Linear(*args, **factory)

        LayerNorm = torch.nn.LayerNorm

    Elite(SMALL, Counting)
    assert Counting.made == 2 * (2 * 3 * 3 + 2 * len(SMALL.layout.layers))


def test_words_alone_need_no_local_mapper():
    elite = Elite(SMALL, local=False)
    assert elite.local_mapper is None
    assert all(name.startswith("global_mapper.") for name in elite.state_dict())


def test_fingerprints_are_pinned():
    """Files carry them: what they are made of must not change."""
    state = {"mapping_0.0.weight": torch.arange(6.0).view(2, 3)}
    assert stage_fingerprint(state, EliteConfig(), "global") == "af6250f7e8590cccbcd0c9398d44e0f5"
    assert stage_fingerprint(state, EliteConfig(), "local") == "73666668cacb7cd017d775540b0ed313"


def test_fingerprints_tell_weights_shapes_and_stages_apart():
    made = weights()
    state = made.states["global"]
    assert made.fingerprints["global"] != made.fingerprints["local"]
    assert stage_fingerprint(state, SMALL, "global") != stage_fingerprint(state, SMALL, "local")
    assert stage_fingerprint(state, replace(SMALL, vision_layers=(1, 2, 3)), "global") != made.fingerprints["global"]
    assert weights(seed=1).fingerprint != made.fingerprint == weights().fingerprint


@pytest.mark.parametrize("field", ["text_width", "vision_width", "hidden_width", "grid"])
def test_impossible_shapes_are_refused(field):
    with pytest.raises(ValueError, match="impossible shapes of ELITE"):
        replace(SMALL, **{field: 0})
    with pytest.raises(ValueError, match="impossible shapes of ELITE"):
        replace(SMALL, vision_layers=())
