"""Graphs of the older port open in ComfyUI's own frontend and become ours."""

import pytest
from support.server import running


def node(number, kind, inputs, output, values):
    """As the frontend saves it. inputs: name -> link number or None."""
    return {
        "id": number, "type": kind, "pos": [300 * number, 100], "size": [260, 200], "flags": {}, "order": number, "mode": 0,
        "inputs": [{"name": name, "type": "*", "link": link} for name, link in inputs.items()],
        "outputs": [{"name": kind, "type": kind, "links": output, "slot_index": 0}] if output else [],
        "properties": {"Node name for S&R": kind}, "widgets_values": values,
    }  # fmt: skip


QUERY_INPUTS = ("clip", "clip_vision", "ssr_aligner", "image", "prev_ssr_embeds")
OLDER_GRAPH = {
    # The structure of its published example: two queries in a chain, a file for each half of the encoder.
    "nodes": [
        node(1, "LoadSSRAligner", {}, [1, 2], ["ssr_aligner.safetensors"]),
        node(2, "LoadSSRAttention", {}, [3], ["ssr_layers.safetensors"]),
        node(3, "EncodeSSRQuery", dict(zip(QUERY_INPUTS, (None, None, 1, None, None), strict=True)), [4], [0.5, "wolf, fur", 0, ""]),
        node(4, "EncodeSSRQuery", dict(zip(QUERY_INPUTS, (None, None, 2, None, 4), strict=True)), [5], [0.4, "woman", 0, "man"]),
        node(5, "ApplySSR", {"model": None, "ssr_attentions": 3, "ssr_embeds": 5}, [], []),
    ],
    "links": [
        [1, 1, 0, 3, 2, "SSR_ALIGNER"], [2, 1, 0, 4, 2, "SSR_ALIGNER"], [3, 2, 0, 5, 1, "SSR_ATTENTIONS"],
        [4, 3, 0, 4, 4, "SSR_EMBEDS"], [5, 4, 0, 5, 2, "SSR_EMBEDS"],
    ],
    "groups": [], "config": {}, "extra": {}, "version": 0.4, "last_node_id": 5, "last_link_id": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("older")
    (base / "models" / "ssr").mkdir(parents=True)  # where the older port kept its files
    for name in ("ssr_aligner", "ssr_layers"):
        (base / "models" / "ssr" / f"{name}.safetensors").touch()
    with running(base) as server:
        yield server


def test_replace_all_turns_the_older_ports_nodes_into_ours(browser, server):
    page = browser.new_page(viewport={"width": 1600, "height": 1100})
    page.goto(server.url)
    page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=90_000)
    page.wait_for_timeout(2500)
    page.keyboard.press("Escape")
    if not page.evaluate("'Comfy.NodeReplacement.Enabled' in app.ui.settings.settingsLookup"):
        page.close()
        pytest.skip("this frontend has no node replacement")
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", OLDER_GRAPH)
    page.get_by_role("button", name="View details").click(timeout=30_000)
    page.get_by_role("button", name="Replace All").click()
    page.wait_for_timeout(1500)
    graph = page.evaluate("async () => (await app.graphToPrompt()).output")
    page.close()

    assert {number: entry["class_type"] for number, entry in graph.items()} == {
        "1": "SSR_LoadEncoder", "2": "SSR_LoadEncoder", "3": "SSR_EncodeSubject", "4": "SSR_EncodeSubject", "5": "SSR_ApplySubject"
    }  # fmt: skip
    assert graph["1"]["inputs"]["encoder_file"] == "ssr_aligner.safetensors"
    assert graph["2"]["inputs"]["encoder_file"] == "ssr_layers.safetensors"
    expected = {"ssr_encoder": ["1", 0], "query": "woman", "null_query": "man", "strength": 0.4, "previous": ["3", 0]}
    assert {name: graph["4"]["inputs"][name] for name in expected} == expected
    assert "previous" not in graph["3"]["inputs"]
    assert graph["5"]["inputs"] == {"ssr_encoder": ["2", 0], "subject": ["4", 0], "strength": 1.0}
