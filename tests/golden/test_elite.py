"""csyxwei/ELITE's numbers (data/elite/cases.json) in the core."""

import pytest
import torch
from PIL import Image
from support import golden_elite as golden
from support import golden_recipe

from ssr_core import attention, prompt, vision
from ssr_core.attention import Branch, add_branches, plan_spans
from ssr_core.layout import SD15
from ssr_core.merge import token_gate, words_at
from ssr_core.methods.elite import framing
from ssr_core.methods.elite.mapper import EliteConfig, GlobalMapper, LocalMapper, stem


def features(name):
    return torch.stack([golden.given(name, f"feature_{scale}") for scale in range(5)], dim=1)


def config_of(name):
    params = golden.case(name)["params"]
    return EliteConfig(text_width=params["output_dim"], vision_width=params["input_dim"])


def towers_alone(kind, name):
    """Golden mappers have no projections."""
    with torch.device("meta"):
        mapper = kind(config_of(name))
    for name in list(mapper._modules):
        if name.endswith(("_to_k", "_to_v")):
            del mapper._modules[name]
    return mapper


@pytest.mark.parametrize("name", ["mapper_global", "mapper_global_small"])
@torch.no_grad()
def test_words_of_the_global_mapper(name):
    mapper = golden.fill(name, towers_alone(GlobalMapper, name))
    golden.check(name, "out", mapper(features(name)))


@pytest.mark.parametrize("name", ["mapper_local", "mapper_local_small"])
@torch.no_grad()
def test_tokens_of_the_local_mapper(name):
    mapper = golden.fill(name, towers_alone(LocalMapper, name))
    mask = framing.on_grid(golden_recipe.ellipse(128, 128), 16).expand(golden.case(name)["shapes"]["mask16"][0], -1)
    golden.check(name, "mask16", mask[..., None])
    golden.check(name, "out_masked", mapper(features(name), mask))
    if "out" in golden.outputs(name):
        golden.check(name, "out", mapper(features(name)))


@pytest.mark.parametrize("name", ["cross_attention_320", "cross_attention_640", "cross_attention_1280"])
def test_cross_attention_with_the_gated_branch(name):
    params, seed = golden.case(name)["params"], golden.case(name)["case_seed"]
    width, heads = params["hidden"], params["heads"]

    def weight(key, *shape):
        return torch.from_numpy(golden_recipe.weight(seed, key, shape))

    hidden, text = golden.given(name, "hidden_states"), golden.given(name, "context")
    local = golden.given(name, "local") * torch.from_numpy(golden_recipe.ellipse(16, 16)).flatten()[:, None]
    query = hidden @ weight("to_q.weight", width, width).T

    def pair(kind, tokens):
        return tuple(tokens @ weight(f"{part}{kind}.weight", width, 768).T for part in ("to_k", "to_v"))

    def finished(out):
        return out @ weight("to_out.0.weight", width, width).T + weight("to_out.0.bias", width)

    golden.check(name, "plain_sd", finished(attention.scaled_dot_product(query, *pair("", text), heads)))
    text_key, text_value = pair("_global", text)
    plain = attention.scaled_dot_product(query, text_key, text_value, heads)
    golden.check(name, "no_local", finished(plain))
    (gate,) = token_gate(query, text_key, words_at([[[place] for place in params["index"]]], 77), heads)
    golden.check(name, "gate", gate[:, 0].transpose(1, 2))
    key, value = pair("_local", local)
    for entry, strength in (("lambda_0.0", 0.0), ("lambda_0.6", 0.6), ("lambda_0.8", 0.8), ("default_lambda", 1.0)):
        branch = Branch(key, value, strength, gate)
        out = add_branches(plain, query, [branch], plan_spans([0, 1]), 2, heads)
        golden.check(name, entry, finished(out))


def test_preparation_is_the_official_one_bit_for_bit():
    seed = golden.case("prepare")["case_seed"]
    picture = Image.fromarray(golden_recipe.picture(seed, "input:photo", 300, 420))
    mask = torch.from_numpy(golden_recipe.ellipse(300, 420))
    framed = framing.frame_object(picture, mask, 224, 16, "stretch")
    golden.check("prepare", "pixel_values_clip", vision.normalise([framed.picture]), rtol=0, atol=0)
    golden.check("prepare", "pixel_values_obj", vision.normalise([framed.thing]), rtol=0, atol=0)
    golden.check("prepare", "mask16", framed.patches[None, :, None], rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 5])
def test_text_with_words_in_it(count):
    pytest.importorskip("transformers")
    name = "text_inject"
    encoder, ids = golden.text_encoder(name), golden.outputs(name)["input_ids"]
    golden.check(name, "plain", golden.encode(encoder, ids))
    embeds, places = prompt.embeds_in_place(
        golden.embedding(encoder)(ids), ids, {golden.PLACEHOLDER: golden.given(name, f"words_{count}")}, golden.END
    )
    assert [own[golden.PLACEHOLDER] for own in places] == [(place,) for place in golden.case(name)["params"]["index"]]
    golden.check(name, f"embeds_{count}", embeds)
    golden.check(name, f"hidden_{count}", golden.encode(encoder, ids, embeds))
    if count == 1:
        golden.check(name, "hidden_unbatched_1_row0", golden.encode(encoder, ids[:1], embeds[:1]))


@pytest.mark.parametrize("fact", golden.listing()["placeholder"], ids=lambda fact: fact["text"])
def test_the_word_is_found_where_the_authors_miss_it(fact):
    """Their place is that of a word counted by spaces; of the 135 texts of their training 39 have another word there."""
    ids = torch.tensor([fact["ids"] + [golden.END] * (77 - len(fact["ids"]))])
    words = {golden.PLACEHOLDER: torch.ones(1, 1, 4)}
    embeds, places = prompt.embeds_in_place(torch.zeros(1, 77, 4), ids, words, golden.END)
    assert places == [{golden.PLACEHOLDER: (fact["true_index"],)}]
    assert embeds[0].any(dim=-1).nonzero().flatten().tolist() == [fact["true_index"]]
    assert (fact["official_index"] == fact["true_index"]) is fact["ok"]


def test_layers_are_the_published_ones():
    rows = golden.listing()["layers"]
    assert len(rows) == len(SD15.layers)
    for row, layer in zip(rows, SD15.layers, strict=True):
        assert (row["layer"], row["diffusers"], row["checkpoint_stem"]) == (layer.index, layer.diffusers_name, stem(layer))
        assert (tuple(row["comfy_patch_key"]), row["hidden"], row["heads"]) == (layer.block, layer.width, layer.heads)
        assert row["comfy_transformer_index"] == SD15.execution_order.index(layer)


@pytest.mark.parametrize(("file", "mapper"), [("global_mapper.pt", GlobalMapper), ("local_mapper.pt", LocalMapper)])
def test_names_and_shapes_are_those_of_the_published_files(file, mapper):
    with torch.device("meta"):
        state = mapper(EliteConfig()).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == golden.listing()["checkpoint_keys"][file]
    assert len(state) == 132
    assert sum(tensor.numel() for tensor in state.values()) == 48_074_240
