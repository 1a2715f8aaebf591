"""Prompts of the older port in API format become ours before the host looks at them."""

import copy

import pytest
from support import comfy_host

QUERY = {
    "clip": ["4", 1],
    "clip_vision": ["13", 0],
    "ssr_aligner": ["15", 0],
    "image": ["10", 0],
    "negative_scale": 0,
    "negative": "",
}
PROMPT = {
    "15": {"class_type": "LoadSSRAligner", "inputs": {"checkpoint": "ssr_aligner.safetensors"}},
    "17": {"class_type": "EncodeSSRQuery", "inputs": {**QUERY, "positive": "wolf", "positive_scale": 0.5}},
    "19": {"class_type": "EncodeSSRQuery", "inputs": {**QUERY, "positive": "woman", "positive_scale": 0.4, "prev_ssr_embeds": ["17", 0]}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 1}},
}  # fmt: skip


@pytest.fixture
def migration():
    return comfy_host.part("nodes.migration")


def test_a_chain_is_replaced_whatever_was_left_out(migration):
    ours = migration.replace_in_prompt({"prompt": copy.deepcopy(PROMPT), "client_id": "x"})["prompt"]
    shared = {"ssr_encoder": ["15", 0], "clip": ["4", 1], "clip_vision": ["13", 0], "image": ["10", 0], "null_query": ""}
    assert ours["15"] == {"class_type": "SSR_LoadEncoder", "inputs": {"encoder_file": "ssr_aligner.safetensors"}}
    assert ours["17"] == {"class_type": "SSR_EncodeSubject", "inputs": {**shared, "query": "wolf", "strength": 0.5}}
    assert ours["19"]["inputs"] == {**shared, "query": "woman", "strength": 0.4, "previous": ["17", 0]}
    assert ours["3"] == PROMPT["3"]


def test_nodes_of_the_older_port_stay_where_it_is_installed(migration, monkeypatch):
    import nodes

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "EncodeSSRQuery", object)
    ours = migration.replace_in_prompt({"prompt": copy.deepcopy(PROMPT)})["prompt"]
    assert ours["17"] == PROMPT["17"]
    assert ours["15"]["class_type"] == "SSR_LoadEncoder"


def test_what_is_no_prompt_is_passed_on(migration):
    assert migration.replace_in_prompt({"number": 1}) == {"number": 1}
