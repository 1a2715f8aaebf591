"""Graphs of the older port open in ComfyUI's own frontend and become ours."""

import pytest
from support.browser import open_page


def node(number, kind, inputs=(), outputs=(), values=()):
    """As the frontend saves it. inputs: (name, type, link or None); outputs: (type, links)."""
    return {
        "id": number, "type": kind, "pos": [320 * (number % 5), 260 * (number // 5)], "size": [300, 220], "flags": {},
        "order": number, "mode": 0, "properties": {"Node name for S&R": kind}, "widgets_values": list(values),
        "inputs": [{"name": name, "type": type, "link": link} for name, type, link in inputs],
        "outputs": [
            {"name": type, "type": type, "links": list(links), "slot_index": slot}
            for slot, (type, links) in enumerate(outputs)
        ],
    }  # fmt: skip


def query(number, clip, vision, aligner, image, previous, output, values):
    inputs = [
        ("clip", "CLIP", clip), ("clip_vision", "CLIP_VISION", vision), ("ssr_aligner", "SSR_ALIGNER", aligner),
        ("image", "IMAGE", image), ("prev_ssr_embeds", "SSR_EMBEDS", previous),
    ]  # fmt: skip
    return node(number, "EncodeSSRQuery", inputs, [("SSR_EMBEDS", [output])], values)


OLDER_NODES = [
    # Every node and every link of its published example: two queries in a chain, a picture for each, a file for each half.
    node(3, "KSampler", [("model", "MODEL", 12), ("positive", "CONDITIONING", 4), ("negative", "CONDITIONING", 6),
        ("latent_image", "LATENT", 2)], [("LATENT", [7])], [100, "increment", 20, 6.5, "dpmpp_2m", "karras", 1]),
    node(4, "CheckpointLoaderSimple", [], [("MODEL", [11]), ("CLIP", [3, 5, 17, 20]), ("VAE", [8])], ["photon_v1.safetensors"]),
    node(5, "EmptyLatentImage", [], [("LATENT", [2])], [512, 512, 4]),
    node(6, "CLIPTextEncode", [("clip", "CLIP", 3)], [("CONDITIONING", [4])], ["woman, fur"]),
    node(7, "CLIPTextEncode", [("clip", "CLIP", 5)], [("CONDITIONING", [6])], ["text, watermark"]),
    node(8, "VAEDecode", [("samples", "LATENT", 7), ("vae", "VAE", 8)], [("IMAGE", [9])]),
    node(9, "SaveImage", [("images", "IMAGE", 9)], [], ["ComfyUI"]),
    node(10, "LoadImage", [], [("IMAGE", [10]), ("MASK", [])], ["wolfy.jpeg", "image"]),
    node(12, "ImageScale", [("image", "IMAGE", 10)], [("IMAGE", [14])], ["nearest-exact", 512, 512, "center"]),
    node(13, "CLIPVisionLoader", [], [("CLIP_VISION", [16, 21])], ["clip_vision_large.safetensors"]),
    node(14, "ApplySSR", [("model", "MODEL", 11), ("ssr_attentions", "SSR_ATTENTIONS", 13), ("ssr_embeds", "SSR_EMBEDS", 26)],
        [("MODEL", [12])]),
    node(15, "LoadSSRAligner", [], [("SSR_ALIGNER", [15, 22])], ["ssr_aligner.safetensors"]),
    node(16, "LoadSSRAttention", [], [("SSR_ATTENTIONS", [13])], ["ssr_layers.safetensors"]),
    query(17, 17, 16, 15, 14, None, 25, [0.5, "wolf, fur", 0, ""]),
    query(19, 20, 21, 22, 30, 25, 26, [0.4, "woman", 0, "man"]),
    node(20, "LoadImage", [], [("IMAGE", [23]), ("MASK", [])], ["again.jpg", "image"]),
    node(21, "ImageScale", [("image", "IMAGE", 23)], [("IMAGE", [30])], ["nearest-exact", 512, 512, "disabled"]),
]  # fmt: skip


def links(nodes):
    """As the frontend saves them, from the ends that the nodes name."""
    ends = {link: (node["id"], slot, input["type"]) for node in nodes for slot, input in enumerate(node["inputs"])
            if (link := input["link"]) is not None}  # fmt: skip
    return [
        [link, node["id"], slot, *ends[link]]
        for node in nodes
        for slot, output in enumerate(node["outputs"])
        for link in output["links"]
    ]


OLDER_GRAPH = {
    "nodes": OLDER_NODES, "links": links(OLDER_NODES), "groups": [], "config": {}, "extra": {}, "version": 0.4,
    "last_node_id": 21, "last_link_id": 30,
}  # fmt: skip


def test_replace_all_turns_the_older_ports_nodes_into_ours(browser, server):
    page, _ = open_page(browser, server.url, viewport={"width": 1600, "height": 1100})
    if not page.evaluate("'Comfy.NodeReplacement.Enabled' in app.ui.settings.settingsLookup"):
        page.close()
        pytest.skip("this frontend has no node replacement")
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", OLDER_GRAPH)
    page.get_by_role("button", name="View details").click(timeout=30_000)
    page.get_by_role("button", name="Replace All").click()
    page.wait_for_function("app.graph._nodes.filter(node => node.type.startsWith('SSR_')).length === 5", timeout=30_000)
    graph = page.evaluate("async () => (await app.graphToPrompt()).output")
    page.close()

    ours = {number: entry["class_type"] for number, entry in graph.items() if entry["class_type"].startswith("SSR_")}
    assert ours == {
        "14": "SSR_ApplySubject", "15": "SSR_LoadEncoder", "16": "SSR_LoadEncoder", "17": "SSR_EncodeSubject",
        "19": "SSR_EncodeSubject",
    }  # fmt: skip
    assert len(graph) == len(OLDER_NODES)
    assert graph["15"]["inputs"]["encoder_file"] == "ssr_aligner.safetensors"
    assert graph["16"]["inputs"]["encoder_file"] == "ssr_layers.safetensors"
    shared = {"ssr_encoder": ["15", 0], "clip": ["4", 1], "clip_vision": ["13", 0]}
    expected = {
        "17": {**shared, "image": ["12", 0], "query": "wolf, fur", "null_query": "", "strength": 0.5},
        "19": {**shared, "image": ["21", 0], "query": "woman", "null_query": "man", "strength": 0.4, "previous": ["17", 0]},
    }
    for number, inputs in expected.items():
        assert {name: graph[number]["inputs"][name] for name in inputs} == inputs
    assert "previous" not in graph["17"]["inputs"]
    assert graph["14"]["inputs"] == {"model": ["4", 0], "ssr_encoder": ["16", 0], "subject": ["19", 0], "strength": 1.0}
    assert graph["3"]["inputs"]["model"] == ["14", 0]
