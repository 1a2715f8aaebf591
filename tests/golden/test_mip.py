"""The numbers of hqhQAQ/MIP-Adapter (data/mip/cases.json), in the pure core."""

import json

import pytest
import torch
from support import golden_mip as golden
from torch import nn

from ssr_core.attention import Branch, add_branches, plan_spans, scaled_dot_product
from ssr_core.layout import SDXL
from ssr_core.merge import text_gate, word_shares
from ssr_core.methods.mip.adapter import AdapterConfig, LinearProjector, Resampler, ResamplerShape


def test_tokens_of_pooled_embeddings():
    name = "image_proj_sdxl"
    projector = golden.fill(name, LinearProjector(AdapterConfig(), nn))
    golden.check(name, "tokens", projector(golden.given(name, "clip_image_embeds")))
    golden.check(name, "uncond_tokens", projector(torch.zeros(1, 1280)))


@pytest.mark.parametrize("name", golden.names("resampler"))
def test_tokens_of_hidden_states(name):
    told = golden.case(name)["params"]
    shape = ResamplerShape(
        told["dim"], told["heads"] * told["dim_head"], told["dim_head"], told["depth"], told["dim"] * told["ff_mult"]
    )
    config = AdapterConfig(SDXL, told["output_dim"], told["embedding_dim"], told["num_queries"], shape)
    (entry,) = golden.case(name)["inputs"]
    golden.check(name, "tokens", golden.fill(name, Resampler(config, nn))(golden.given(name, entry)))


@pytest.mark.parametrize("name", golden.names("attention"))
def test_a_layer_with_objects(name):
    told = golden.case(name)["params"]
    heads, count, tokens = told["heads"], told["objects"], told["tokens"]
    shapes = golden.case(name)["weights"]

    def linear(key, x):
        bias = f"{key}.bias"
        bias = golden.weight(name, bias, shapes[bias]) if bias in shapes else None
        return nn.functional.linear(x, golden.weight(name, f"{key}.weight", shapes[f"{key}.weight"]), bias)

    query = linear("to_q", golden.given(name, "hidden_states"))  # [2, L, C], unconditional first
    text = golden.given(name, "text")
    attended = scaled_dot_product(query, linear("to_k", text), linear("to_v", text), heads)
    uncond, cond = golden.given(name, "entity_uncond"), golden.given(name, "entity_text")
    words = [
        linear("to_k", torch.stack([uncond[1 : 1 + length], cond[number, 1 : 1 + length]]))
        for number, length in enumerate(told["entity_lengths"])
    ]  # [2, W, C] each
    shares = word_shares(query, words, heads)  # [objects, 2, L, 1]
    gate = text_gate(attended, golden.weight(name, "text_to_weight.weight", shapes["text_to_weight.weight"])[0])  # [2, L, 1]
    golden.check(name, "relevance", shares[..., 0].transpose(0, 1))
    golden.check(name, "text_weight", gate[..., 0])
    golden.check(name, "merge_weight", (shares * gate)[..., 0].transpose(0, 1))

    references = golden.given(name, "ip_tokens").unflatten(1, (count, tokens))  # [2, objects, T, D]
    branches = [
        Branch(
            linear("to_k_ip", references[:, number]),
            linear("to_v_ip", references[:, number]),
            told["scale"],
            (shares[number] * gate)[:, None],
        )
        for number in range(count)
    ]
    merged = add_branches(torch.zeros_like(attended), query, branches, plan_spans([0, 1]), 2, heads)
    golden.check(name, "merged_image", merged)
    golden.check(name, "out", linear("to_out.0", add_branches(attended, query, branches, plan_spans([0, 1]), 2, heads)))
    if "out_text_only" in golden.case(name)["shapes"]:
        golden.check(name, "out_text_only", linear("to_out.0", attended))


def test_layers_have_the_numbers_and_blocks_of_the_authors_list():
    listed = json.loads((golden.DATA / "layers.json").read_text())
    assert [[layer.ip_adapter_number, layer.diffusers_name, list(layer.block), layer.width] for layer in SDXL.layers] == listed
