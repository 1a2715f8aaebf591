"""The templates of LASR: what they name is there, and on SSR Mini one learns a subject and the other draws it."""

import json
import shutil

import pytest
from PIL import Image
from support.server import running
from support.templates import path_of
from support.workflow import to_prompt

from ssr_core.methods.lasr import formats

OURS = {"ssr_mini_lasr_learn": 6, "ssr_mini_lasr_learned": 5, "ssr_lasr_learn": 4, "ssr_lasr_two_subjects": 4}
"""Kinds of nodes of this pack in each."""
CHOSEN = ("words", "weights", "text", "placeholder", "filename_prefix")
"""Inputs of templates that have no default, or another value."""
CHOSEN_ON_MINI = (*CHOSEN, "steps", "preview_every", "scene", "objects", "pictures")


def read(name):
    return json.loads(path_of(name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", OURS)
def test_a_template_names_inputs_and_values_that_its_nodes_have(nodes, name):
    workflow = read(name)
    links = {link[0] for link in workflow["links"]}
    places = {node["id"]: node for node in workflow["nodes"]}
    ours = [node for node in workflow["nodes"] if node["type"] in nodes]
    assert len({node["type"] for node in ours}) == OURS[name]
    for node in ours:
        slots = nodes[node["type"]].GET_SCHEMA().inputs
        assert [slot["name"] for slot in node["inputs"]] == [slot.id for slot in slots]
        widgets = [slot for slot, described in zip(slots, node["inputs"], strict=True) if "widget" in described]
        for slot, value in zip(widgets, node["widgets_values"], strict=True):
            if slot.id == "subject_file":
                continue  # the user's own
            assert value in (getattr(slot, "options", None) or [value])
            if slot.id not in (CHOSEN_ON_MINI if "mini" in name else CHOSEN) and slot.default is not None:
                assert value == slot.default
        for slot, described in zip(slots, node["inputs"], strict=True):
            assert slot.optional or "widget" in described or described["link"] in links
    for _, source, _, target, _, _ in workflow["links"]:
        assert places[source]["pos"][0] < places[target]["pos"][0] + 1, "links run from left to right"
    titles = [node["title"] for node in workflow["nodes"] if node.get("title", "")[:1].isdigit()]
    numbers = [int(title.split()[0]) for title in titles]
    assert numbers == sorted(numbers), "titles are numbered in the order in which people go"
    assert set(numbers) == set(range(1, numbers[-1] + 1))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("lasr")
    (base / "input").mkdir()
    Image.new("RGB", (150, 130), (200, 60, 20)).save(base / "input" / "example.png")
    with running(base, "--fp32-text-enc") as server:
        yield server


IN_MINI = {"z": "moon", "y": "fish"}
"""Words of its world that stand for the placeholders, which its text encoder may not know."""


def on_mini(name, server, **changes):
    """A template with SSR Mini as its model, two steps and small pictures. changes: of inputs, by type of node."""
    graph = to_prompt(read(name), server.get("/object_info"))
    changes |= {"KSampler": {"steps": 2}, "EmptyLatentImage": {"width": 128, "height": 128}}
    for node in graph.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node.update(class_type="SSR_LoadMini", inputs={})
        if node["class_type"] == "CLIPTextEncode":
            node["inputs"]["text"] = ""  # whose words Mini does not know
        if "placeholder" in node["inputs"]:
            node["inputs"]["placeholder"] = IN_MINI[node["inputs"]["placeholder"]]
        node["inputs"].update(changes.get(node["class_type"], {}))
    return graph


def test_what_one_template_learns_the_other_draws(server):
    learned = {"words": "red star", "steps": 2, "preview_every": 1}
    graph = on_mini(
        "ssr_lasr_learn", server, SSR_LearnSubjectLASR=learned, SSR_PromptWithSubjectLASR={"text": "a picture of a moon"}
    )
    outputs = server.run(graph)["outputs"]
    names = [picture["filename"] for output in outputs.values() for picture in output.get("images", [])]
    assert any(name.startswith("lasr_learn") for name in names)
    folder = server.base / "output" / "ssr_lasr"
    shutil.copy(folder / "cat_00001_.safetensors", folder / "hat_00001_.safetensors")
    graph = on_mini("ssr_lasr_two_subjects", server, SSR_PromptWithSubjectLASR={"text": "a picture of a moon and a fish"})
    outputs = server.run(graph)["outputs"]
    names = [picture["filename"] for output in outputs.values() for picture in output.get("images", [])]
    assert any(name.startswith("lasr_0") for name in names)


def test_mini_learns_a_subject_without_a_download(server):
    """As shipped, but for fewer steps."""
    graph = to_prompt(read("ssr_mini_lasr_learn"), server.get("/object_info"))
    (learn,) = (node for node in graph.values() if node["class_type"] == "SSR_LearnSubjectLASR")
    learn["inputs"]["steps"] = 10
    outputs = server.run(graph)["outputs"]
    names = [picture["filename"] for output in outputs.values() for picture in output.get("images", [])]
    assert any(name.startswith("ssr_mini_learned") for name in names)
    (one,) = formats.load(server.base / "output" / "ssr_lasr" / "mini_00001_.safetensors")
    assert one.placeholder == "z"
    assert one.learning.step == 10
