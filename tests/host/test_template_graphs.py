"""Templates against the nodes that they are made of: inputs by name and order, values that a node has, links from left to right."""

import json

import pytest
from support.templates import FORMERLY, path_of

MINI = {"SSR_LoadMini", "SSR_MiniScene"}
MIP = {"SSR_EncodeObjectMIP", "SSR_ApplyObjectsMIP"}
ELITE = {"SSR_EncodeSubjectELITE", "SSR_PromptWithSubjectELITE", "SSR_ApplySubjectELITE"}
LEARNED = {"SSR_LoadSubjectLASR", "SSR_CombineSubjectsLASR", "SSR_PromptWithSubjectLASR", "SSR_ApplySubjectLASR"}
OURS = {
    "ssr_mip_two_objects": MIP | {"SSR_LoadMIPAdapter", "SSR_ExamplePicture"},
    "ssr_mip_two_objects_controlnet": MIP | {"SSR_LoadMIPAdapter", "SSR_ExamplePicture"},
    "ssr_mini_mip_two_objects": MIP | MINI,
    "ssr_elite_picture_and_mask": ELITE | {"SSR_LoadELITE", "SSR_ExamplePicture"},
    "ssr_elite_two_subjects": ELITE | {"SSR_LoadELITE", "SSR_ExamplePicture"},
    "ssr_mini_elite_picture_and_mask": ELITE | MINI,
    "ssr_lasr_two_subjects": LEARNED,
    "ssr_mini_lasr_learned": LEARNED | {"SSR_LoadMini"},
}
"""Nodes of this pack in those of the other methods."""
USERS_FILES = ("adapter_file", "elite_file", "local_file", "subject_file", "encoder_file", "layers_file", "clip_vision_file")
"""Inputs that list what lies on this machine."""


@pytest.mark.parametrize("name", FORMERLY)
def test_a_template_names_inputs_and_values_that_its_nodes_have(nodes, name):
    workflow = json.loads(path_of(name).read_text(encoding="utf-8"))
    links = {link[0] for link in workflow["links"]}
    places = {node["id"]: node for node in workflow["nodes"]}
    ours = [node for node in workflow["nodes"] if node["type"] in nodes]
    types = {node["type"] for node in ours}
    assert types == OURS.get(name, types)
    assert types
    for node in ours:
        schema = nodes[node["type"]].GET_SCHEMA()
        slots = schema.inputs
        assert [slot["name"] for slot in node["inputs"]] == [slot.id for slot in slots]
        assert [slot["name"] for slot in node["outputs"]] == [slot.display_name for slot in schema.outputs]
        widgets = [slot for slot, described in zip(slots, node["inputs"], strict=True) if "widget" in described]
        for slot, value in zip(widgets, node["widgets_values"], strict=True):
            if slot.id not in USERS_FILES or str(value).startswith("ssr_mini/"):
                assert value in (getattr(slot, "options", None) or [value])
        for slot, described in zip(slots, node["inputs"], strict=True):
            assert slot.optional or "widget" in described or described["link"] in links
    for _, source, _, target, _, _ in workflow["links"]:
        assert places[source]["pos"][0] < places[target]["pos"][0] + 1, "links run from left to right"
