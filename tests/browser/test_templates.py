"""The example workflows in ComfyUI's own frontend: listed, opened, complete, and understood as the tests understand them."""

import json
from pathlib import Path

import pytest
from support import comfy_host
from support.browser import draws_dom_widgets, open_page, set_renderer
from support.server import PACK_FOLDER
from support.workflow import to_prompt

TEMPLATES = sorted((comfy_host.PACK / "example_workflows").glob("*.json"))
COLOURS = """() => [...document.querySelectorAll("ssr-subject-view canvas")].map(canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
})"""  # how many there are in each view


@pytest.fixture(scope="module")
def window(browser, server):
    page, errors = open_page(browser, server.url, viewport={"width": 2800, "height": 1500})
    yield page, errors
    page.close()


@pytest.fixture
def page(window):
    page, errors = window
    errors.found.clear()
    yield page
    assert errors.ours() == []


def test_the_host_lists_every_template_under_the_pack(server):
    assert sorted(server.get("/workflow_templates")[PACK_FOLDER]) == [path.stem for path in TEMPLATES]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_opens_with_no_node_missing_and_means_what_its_json_says(page, server, path, request):
    page.evaluate(
        """async ([pack, name]) => {
            const answer = await fetch(`/api/workflow_templates/${pack}/${name}.json`);
            await window.app.loadGraphData(await answer.json());
        }""",
        [PACK_FOLDER, path.stem],
    )
    page.wait_for_timeout(1500)
    missing = page.evaluate("app.graph._nodes.filter(n => !(n.type in LiteGraph.registered_node_types)).map(n => n.type)")
    workflow = json.loads(path.read_text())
    assert page.evaluate("app.graph._nodes.length") == len(workflow["nodes"])
    assert missing == []
    shown = page.evaluate("async () => (await app.graphToPrompt()).output")
    expected = to_prompt(workflow, server.get("/object_info"))
    assert {key: (node["class_type"], node["inputs"]) for key, node in shown.items()} == {
        key: (node["class_type"], node["inputs"]) for key, node in expected.items()
    }
    if folder := request.config.getoption("--screenshots"):
        page.evaluate("app.canvas.ds.reset?.() ; app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(folder) / f"{path.stem}.png"))


@pytest.mark.parametrize("renderer", ["canvas", "nodes 2.0"])
@pytest.mark.parametrize("path", [path for path in TEMPLATES if path.stem.startswith("ssr_mini")], ids=lambda path: path.stem)
def test_a_mini_template_runs_from_the_browser_and_shows_where_its_queries_look(page, server, path, renderer, request):
    if renderer != "canvas" and not draws_dom_widgets(page):
        pytest.skip("this frontend's first draft of Nodes 2.0 draws no pack's own elements")
    set_renderer(page, renderer != "canvas")
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", json.loads(path.read_text()))
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(1500)
    before = len(server.get("/history"))
    blank = page.evaluate(COLOURS)
    page.evaluate("app.queuePrompt(0, 1)")
    limit = 120
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
