"""The example workflows in ComfyUI's own frontend: listed, opened, complete, and understood as the tests understand them."""

import json
from pathlib import Path

import pytest
from PIL import Image
from support import comfy_host, golden
from support.server import PACK_FOLDER, running
from support.workflow import to_prompt

TEMPLATES = sorted((comfy_host.PACK / "example_workflows").glob("*.json"))
MODELS = {
    "checkpoints": ["v1-5-pruned-emaonly.safetensors"],
    "clip_vision": ["clip-vit-large-patch14.safetensors"],
    "ssr_encoder": ["ssr_aligner.safetensors", "ssr_layers.safetensors"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    for folder, names in MODELS.items():
        (base / "models" / folder).mkdir(parents=True)
        for name in names:
            (base / "models" / folder / name).touch()  # listed, never read here
    (base / "input").mkdir()
    # What every ComfyUI brings in its input folder.
    Image.fromarray(golden.golden_inputs.image(512, 512, 0)).save(base / "input" / "example.png")
    with running(base) as server:
        yield server


@pytest.fixture
def page(browser, server):
    page = browser.new_page(viewport={"width": 2800, "height": 1500})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=90_000)
    page.wait_for_timeout(1500)
    page.keyboard.press("Escape")  # the templates dialog of a first start
    yield page
    assert not [error for error in errors if "SSR" in error or PACK_FOLDER in error]
    page.close()


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


@pytest.mark.parametrize("path", [path for path in TEMPLATES if path.stem.startswith("ssr_mini")], ids=lambda path: path.stem)
def test_a_mini_template_runs_from_the_browser_and_shows_where_its_queries_look(page, server, path):
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", json.loads(path.read_text()))
    page.wait_for_timeout(1000)
    before = len(server.get("/history"))
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
    assert page.evaluate(f"{messages}.length") == len(encoders)


def test_the_template_browser_shows_the_pack(page, request):
    page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text(PACK_FOLDER).first.wait_for(timeout=30_000)
    if folder := request.config.getoption("--screenshots"):
        page.get_by_text(PACK_FOLDER).first.click()
        page.wait_for_timeout(2000)
        page.screenshot(path=str(Path(folder) / "template_browser.png"))
