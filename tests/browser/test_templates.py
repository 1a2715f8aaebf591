"""The example workflows in ComfyUI's own frontend: listed, opened as its template browser opens them, readable, complete, and understood as
the tests understand them."""

import json
import urllib.request
from pathlib import Path

import pytest
from support import comfy_host
from support.browser import draws_dom_widgets, eventually, open_page, set_renderer, still, version
from support.server import PACK_FOLDER
from support.templates import FOLDER, FORMERLY, former_name
from support.workflow import to_prompt

TEMPLATES = sorted(FOLDER.glob("[0-9]*.json"))
MINI = [path for path in TEMPLATES if path.stem.startswith(("00", "01", "02", "03", "04"))]
READABLE = 0.58
"""Below, the frontend's canvas draws no letters."""
OLDER, NEARLY = (1, 30), 0.52
"""Frontends whose bars leave the canvas less room: templates open a notch of the wheel away from letters."""
COLOURS = """() => [...document.querySelectorAll("ssr-subject-view canvas")].map(canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
})"""  # how many there are in each view
OPEN = """async ([pack, name]) => {
    const answer = await fetch(`/api/workflow_templates/${pack}/${encodeURIComponent(name)}.json`);
    await app.loadGraphData(await answer.json(), true, true, name, { openSource: "template" });
}"""
LAYOUT = "[app.canvas.ds.scale, ...app.graph._nodes.map(node => [...node.pos, ...node.size])]"
OVERLAPS = """() => {
    const boxes = app.graph._nodes.map(node => [node.title, ...(node.boundingRect ?? node.getBounding())]);
    const found = [];
    boxes.forEach(([one, x, y, w, h], number) => boxes.slice(number + 1).forEach(([other, x2, y2, w2, h2]) => {
        if (x < x2 + w2 && x2 < x + w && y < y2 + h2 && y2 < y + h) found.push([one, other]);
    }));
    return found;
}"""
HIDDEN = """() => {
    const ctx = document.createElement("canvas").getContext("2d"), found = [];
    const { links, reroutes = new Map() } = app.graph;
    const pieces = [...links.values()].map(link => [link, link.path]);
    for (const point of reroutes.values()) for (const id of point.linkIds) pieces.push([links.get(id), point.path]);
    for (const [link, path] of pieces) for (const node of app.graph._nodes) {
        if (node.id == link.origin_id || node.id == link.target_id) continue;
        const [x, y, w, h] = node.boundingRect ?? node.getBounding();
        ctx.lineWidth = 2;
        for (let right = x + 3; right < x + w - 3; right += 4) for (let down = y + 3; down < y + h - 3; down += 4)
            if (ctx.isPointInStroke(path, right, down)) { found.push([link.id, node.title]); right = down = Infinity; }
    }
    return found;
}"""
TITLES = """() => {
    const ctx = document.createElement("canvas").getContext("2d");
    return app.graph._nodes.filter(node => {
        ctx.font = node.titleFontStyle ?? "14px Arial";
        return ctx.measureText(node.title).width > node.size[0] - 34;
    }).map(node => node.title);
}"""


@pytest.fixture(scope="module")
def window(browser, server):
    page, errors = open_page(browser, server.url, viewport={"width": 1600, "height": 1000})
    yield page, errors
    page.close()


@pytest.fixture
def page(window):
    page, errors = window
    errors.found.clear()
    yield page
    assert errors.ours() == []


def test_the_host_lists_every_template_under_the_pack(server):
    assert sorted(server.get("/workflow_templates")[PACK_FOLDER]) == sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.mark.parametrize("former", FORMERLY)
def test_a_former_name_still_opens_its_template(server, former):
    for path in (f"/api/workflow_templates/{PACK_FOLDER}/{former}", f"/workflow_templates/{PACK_FOLDER}/{former}"):
        assert server.get(f"{path}.json") == json.loads((FOLDER / f"{FORMERLY[former]}.json").read_text())
        with urllib.request.urlopen(f"{server.url}{path}.jpg") as answer:
            assert answer.read() == (FOLDER / f"{FORMERLY[former]}.jpg").read_bytes()


@pytest.mark.parametrize("path", TEMPLATES, ids=former_name)
def test_a_template_opens_readable_with_nothing_missing_and_means_what_its_json_says(page, server, path, request):
    page.evaluate(OPEN, [PACK_FOLDER, path.stem])
    workflow = json.loads(path.read_text())
    if workflow["extra"].get("linearMode"):  # the graph behind the app
        page.wait_for_timeout(2000)
        page.evaluate("async workflow => { await app.loadGraphData(workflow); }", {**workflow, "extra": {}})
    eventually(page, lambda: page.evaluate("app.graph._nodes.length"), len(workflow["nodes"]))
    page.wait_for_timeout(1500)
    still(page, LAYOUT)
    missing = page.evaluate("app.graph._nodes.filter(n => !(n.type in LiteGraph.registered_node_types)).map(n => n.type)")
    assert missing == []
    if folder := request.config.getoption("--screenshots"):
        page.screenshot(path=str(Path(folder) / f"{path.stem}.png"))
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate(TITLES) == []
    if page.evaluate("app.graph.links.values().next().value.path !== undefined"):
        assert page.evaluate(HIDDEN) == []
    places = {node["id"]: node["pos"][0] for node in workflow["nodes"]}
    assert [link for link in workflow["links"] if places[link[1]] > places[link[3]]] == [], "from left to right"
    assert page.evaluate("app.canvas.ds.scale") >= (NEARLY if version(page) < OLDER else READABLE)
    shown = page.evaluate("async () => (await app.graphToPrompt()).output")
    expected = to_prompt(workflow, server.get("/object_info"))
    assert {key: (node["class_type"], node["inputs"]) for key, node in shown.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in expected.items()
    }


def test_the_template_for_the_app_mode_opens_in_it(page):
    (path,) = (path for path in TEMPLATES if path.stem.endswith(".app"))
    page.evaluate(OPEN, [PACK_FOLDER, path.stem])
    if not page.evaluate(
        "Boolean(document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia._s.get('appMode'))"
    ):
        pytest.skip("this frontend has no app mode")
    store = "document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia._s.get('appMode')"
    chosen = f"{store}.selectedInputs.map(entry => entry[1])"
    eventually(page, lambda: page.evaluate(chosen), ["scene", "query", "text", "seed"])
    assert page.evaluate(f"{store}.selectedOutputs.length") == 1


def test_the_blueprint_is_offered_and_becomes_one_node_that_means_what_its_parts_do(page, server):
    try:
        listed = server.get("/global_subgraphs")
    except OSError:
        pytest.skip("this host knows no blueprints")
    (identity,) = (key for key, entry in listed.items() if entry["name"] == "Subject from a picture")
    content = json.loads(server.get(f"/global_subgraphs/{identity}")["data"])
    assert content == json.loads((comfy_host.PACK / "subgraphs" / "Subject from a picture.json").read_text())
    page.evaluate("async content => { await app.loadGraphData(content); }", content)
    eventually(page, lambda: page.evaluate("app.graph._nodes.length"), 1)
    page.wait_for_timeout(500)
    (node,) = page.evaluate(
        "app.graph._nodes.map(node => [node.title, node.inputs.map(input => input.name), node.widgets.map(widget => widget.name)])"
    )
    assert node[0] == "Subject from a picture"
    assert node[1] == ["model", "clip", "image", "mask", "query", "strength"]
    assert node[2] == ["query", "strength"]
    inner = page.evaluate("[...app.graph._nodes[0].subgraph._nodes].map(node => node.type)")
    assert sorted(inner) == ["SSR_ApplySubject", "SSR_EncodeSubject", "SSR_LoadModels"]


@pytest.mark.parametrize("renderer", ["canvas", "nodes 2.0"])
@pytest.mark.parametrize("path", MINI, ids=former_name)
def test_a_mini_template_runs_from_the_browser_and_shows_where_its_queries_look(page, server, path, renderer, request):
    if renderer != "canvas" and not draws_dom_widgets(page):
        pytest.skip("this frontend's first draft of Nodes 2.0 draws no pack's own elements")
    set_renderer(page, renderer != "canvas")
    workflow = json.loads(path.read_text())
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", {**workflow, "extra": {}})
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(1000)
    still(page, LAYOUT)
    before = len(server.get("/history"))
    blank = page.evaluate(COLOURS)
    page.evaluate("app.queuePrompt(0, 1)")
    limit = 240
    while len(server.get("/history")) == before and limit:
        page.wait_for_timeout(500)
        limit -= 1
    assert len(server.get("/history")) > before
    run = list(server.get("/history").values())[-1]
    assert run["status"]["status_str"] == "success"
    encoders = page.evaluate("app.graph._nodes.filter(node => node.type === 'SSR_EncodeSubject').map(node => String(node.id))")
    assert encoders
    assert all(run["outputs"][node]["ssr_subject"][0]["map"] for node in encoders)
    messages = "[...document.querySelectorAll('.ssr-view .ssr-message')].map(message => message.textContent)"
    page.wait_for_function(f"{messages}.every(text => text === '')", timeout=30_000)
    shown = page.evaluate(COLOURS)
    assert blank == [1] * len(encoders), "nothing is drawn before the run"
    assert len(shown) == len(encoders)
    assert all(colours > 50 for colours in shown), shown
    if folder := request.config.getoption("--screenshots"):
        page.screenshot(path=str(Path(folder) / f"{path.stem}_{renderer.replace(' ', '_')}.png"))
    set_renderer(page, False)


def test_the_template_browser_shows_the_pack(page, request):
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK_FOLDER).first.wait_for(timeout=30_000)
    if folder := request.config.getoption("--screenshots"):
        page.get_by_text(PACK_FOLDER).first.click()
        page.wait_for_timeout(2000)
        page.screenshot(path=str(Path(folder) / "template_browser.png"))
