"""Which cross-attentions a UNet has, in the three orders and two naming schemes that meet here."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssr_core.checkpoints import config_of
from ssr_core.encoder import EncoderConfig
from ssr_core.layout import SD15, UNetLayout


@st.composite
def layouts(draw):
    levels = draw(st.integers(1, 4))
    return UNetLayout(
        channels=tuple(draw(st.lists(st.integers(1, 9), min_size=levels, max_size=levels))),
        depths=tuple(draw(st.lists(st.integers(0, 3), min_size=levels, max_size=levels))),
        resnets=draw(st.integers(1, 3)),
        heads=draw(st.integers(1, 8)),
        mid_depth=draw(st.integers(0, 2)),
    )


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_every_layer_has_one_place_in_every_order(layout):
    layers = layout.layers
    assert [layer.index for layer in layers] == list(range(len(layers)))
    assert len({layer.diffusers_name for layer in layers}) == len({layer.block for layer in layers}) == len(layers)
    assert sorted(layout.execution_order, key=lambda layer: layer.index) == list(layers)
    assert len(layers) == sum(layout.depths) * (2 * layout.resnets + 1) + layout.mid_depth


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_the_middle_is_last_in_a_file_and_between_down_and_up_in_a_pass(layout):
    in_file = [layer.block[0] for layer in layout.layers]
    in_pass = [layer.block[0] for layer in layout.execution_order]
    assert in_file == sorted(in_file, key=["input", "output", "middle"].index)
    assert in_pass == sorted(in_pass, key=["input", "middle", "output"].index)


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_a_layout_survives_json(layout):
    config = EncoderConfig(layout=layout)
    assert config_of(json.dumps(config.to_dict())) == config


@settings(deadline=None, max_examples=50)
@given(layouts(), st.randoms())
def test_a_unet_fits_its_own_layout_in_any_order_of_finding(layout, random):
    for found in (
        [(layer.block, layer.width) for layer in layout.layers],
        [(layer.diffusers_name, layer.width) for layer in layout.layers],
    ):
        random.shuffle(found)
        assert layout.mismatch(found) is None


def test_sdxl_blocks_are_numbered_like_sdxl():
    sdxl = UNetLayout(channels=(320, 640, 1280), depths=(0, 2, 10), resnets=2, heads=10, mid_depth=10)
    assert len(sdxl.layers) == 70
    assert {layer.block[:2] for layer in sdxl.layers} == {
        *(("input", number) for number in (4, 5, 7, 8)),
        ("middle", 0),
        *(("output", number) for number in range(6)),
    }


@pytest.mark.parametrize("naming", ["block", "diffusers_name"])
def test_a_mismatch_says_what_is_missing_extra_or_of_another_width(naming):
    found = {getattr(layer, naming): layer.width for layer in SD15.layers}
    first = getattr(SD15.layers[0], naming)
    stranger = ("input", 99, 0) if naming == "block" else "down_blocks.9.attn2"

    lacking = SD15.mismatch([pair for pair in found.items() if pair[0] != first])
    assert lacking is not None
    assert f"missing {first}" in lacking
    surplus = SD15.mismatch([*found.items(), (stranger, 320)])
    assert surplus is not None
    assert f"not expected {stranger}" in surplus
    other_width = SD15.mismatch([*(found | {first: 321}).items()])
    assert other_width is not None
    assert "321" in other_width
    assert "320" in other_width


def test_a_unet_without_cross_attention_is_a_mismatch():
    message = SD15.mismatch([])
    assert message is not None
    assert "0 cross-attention layers found, 16 expected" in message


def test_a_deeper_unet_of_equal_widths_is_a_mismatch():
    deeper = replace(SD15, depths=(1, 1, 2, 0))
    assert SD15.mismatch([(layer.block, layer.width) for layer in deeper.layers]) is not None
