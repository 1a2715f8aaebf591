"""Which cross-attentions a UNet has, in the three orders and two naming schemes that meet here."""

import json

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssr_core.layout import SD15, SDXL, Found, UNetLayout
from ssr_core.methods.ssr.encoder import EncoderConfig
from ssr_core.methods.ssr.formats import config_of


@st.composite
def layouts(draw):
    levels = draw(st.integers(1, 4))
    return UNetLayout(
        channels=tuple(draw(st.lists(st.integers(1, 9), min_size=levels, max_size=levels))),
        depths=tuple(draw(st.lists(st.integers(0, 3), min_size=levels, max_size=levels))),
        resnets=draw(st.integers(1, 3)),
        heads=draw(st.integers(1, 8) | st.lists(st.integers(1, 8), min_size=levels, max_size=levels)),
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
@example(SDXL)
def test_within_a_stage_a_pass_meets_the_layers_as_the_file_numbers_them(layout):
    for stage in ("input", "middle", "output"):
        in_file, in_pass = (
            [layer for layer in order if layer.block[0] == stage] for order in (layout.layers, layout.execution_order)
        )
        assert in_pass == in_file


@settings(deadline=None, max_examples=50)
@given(layouts())
def test_a_layout_survives_json(layout):
    config = EncoderConfig(layout=layout)
    assert config_of(json.dumps(config.to_dict())) == config


@settings(deadline=None, max_examples=50)
@given(layouts(), st.randoms())
def test_a_unet_fits_its_own_layout_in_any_order_of_finding(layout, random):
    for found in (
        [Found(layer.block, layer.width, layer.heads) for layer in layout.layers],
        [Found(layer.diffusers_name, layer.width, layer.heads) for layer in layout.layers],
    ):
        random.shuffle(found)
        assert layout.mismatch(found) is None


def test_a_file_with_one_number_of_heads_is_a_layout_with_as_many_everywhere_and_is_written_so_again():
    fields = {"channels": [320, 640, 1280, 1280], "depths": [1, 1, 1, 0], "resnets": 2, "heads": 8, "mid_depth": 1}
    assert UNetLayout(**fields) == SD15
    assert json.loads(json.dumps(SD15.to_dict())) == fields
    assert SD15.heads == (8, 8, 8, 8)
    assert SDXL.to_dict()["heads"] == (5, 10, 20)


@pytest.mark.parametrize(
    "shapes",
    [
        {"channels": ()},
        {"depths": (1, 1)},
        {"heads": (8, 8)},
        {"heads": 0},
        {"resnets": 0},
        {"mid_depth": -1},
        {"channels": (320.0, 640, 1280, 1280)},
    ],
    ids=str,
)
def test_shapes_that_no_unet_has_are_refused(shapes):
    with pytest.raises(ValueError, match="impossible UNet shapes"):
        UNetLayout(**(SD15.to_dict() | shapes))


DIFFUSERS = {
    "SD 1.x": (SD15, {"cross_attention_dim": 768, "attention_head_dim": 8}),
    "SDXL": (
        SDXL,
        {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "transformer_layers_per_block": (1, 2, 10),
            "use_linear_projection": True,
        },
    ),
}


@pytest.mark.parametrize(("layout", "config"), DIFFUSERS.values(), ids=DIFFUSERS)
def test_names_order_widths_heads_and_what_enters_are_those_of_diffusers(layout, config):
    from diffusers import UNet2DConditionModel

    from ssr_core.hosts.diffusers.base import layout_of

    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    assert layout_of(unet.config) == layout
    attentions = {name: module for name, module in unet.named_modules() if name.endswith(".attn2")}
    assert [layer.diffusers_name for layer in layout.layers] == list(attentions)
    assert layout.mismatch([Found(name, module.to_q.out_features, module.heads) for name, module in attentions.items()]) is None
    numbers = {name.removesuffix(".processor"): number for number, name in enumerate(unet.attn_processors)}
    assert [layer.ip_adapter_number for layer in layout.layers] == [numbers[layer.diffusers_name] for layer in layout.layers]

    # resnet input = what enters, and on the way up the skip behind it, which is as wide as the way down left it there.
    modules = dict(unet.named_modules())
    left = [layout.channels[0]]  # widths that the way down leaves: input convolution, resnets, downsamplers
    for level, width in enumerate(layout.channels):
        left += [width] * (layout.resnets + (level < len(layout.channels) - 1))
    for layer in layout.layers:
        name = layer.diffusers_name.split(".transformer_blocks")[0].replace("attentions", "resnets")
        skip = left[len(left) - 1 - layer.block[1]] if layer.block[0] == "output" else 0
        assert modules[name].in_channels == layer.enters + skip, name


@pytest.mark.parametrize("naming", ["block", "diffusers_name"])
def test_a_mismatch_says_what_is_missing_extra_or_of_another_shape(naming):
    found = {getattr(layer, naming): Found(getattr(layer, naming), layer.width, layer.heads) for layer in SD15.layers}
    first = getattr(SD15.layers[0], naming)
    stranger = ("input", 99, 0) if naming == "block" else "down_blocks.9.attn2"

    lacking = SD15.mismatch([layer for name, layer in found.items() if name != first])
    assert lacking == f"15 cross-attention layers found, 16 expected; missing {first}"
    surplus = SD15.mismatch([*found.values(), Found(stranger, 320, 8)])
    assert surplus == f"17 cross-attention layers found, 16 expected; not expected {stranger}"
    other_width = SD15.mismatch([*(found | {first: Found(first, 321, 8)}).values()])
    assert other_width == f"layer {first} has width 321, expected 320"
    other_heads = SD15.mismatch([*(found | {first: Found(first, 320, 5)}).values()])
    assert other_heads == f"layer {first} has 5 attention heads, expected 8"


def test_a_unet_without_cross_attention_is_a_mismatch_that_names_three_layers_and_counts_the_others():
    first, second, third = (layer.diffusers_name for layer in SD15.layers[:3])
    missing = f"missing {first}, {second}, {third}"
    assert SD15.mismatch([]) == f"0 cross-attention layers found, 16 expected; {missing} and 13 more"
    others = [Found(layer.diffusers_name, layer.width, layer.heads) for layer in SD15.layers[3:]]
    assert SD15.mismatch(others) == f"13 cross-attention layers found, 16 expected; {missing}"


def test_a_deeper_unet_of_equal_widths_is_a_mismatch():
    deeper = UNetLayout(**(SD15.to_dict() | {"depths": (1, 1, 2, 0)}))
    assert SD15.mismatch([Found(layer.block, layer.width, layer.heads) for layer in deeper.layers]) is not None
