"""An install without models: the frontend itself names what is missing, from the values that Load SSR Models is preset to."""

import json
import re

import pytest
from support.browser import eventually, open_page
from support.server import running
from support.templates import path_of

STORE = "document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia._s.get('missingModel')"
REFUSED = re.compile(r"https://huggingface\.co/.*Content Security Policy|net::ERR_\w+ https://huggingface\.co/", re.DOTALL)
NEEDED = {
    "ssr_aligner.safetensors",
    "ssr_layers.safetensors",
    "clip-vit-large-patch14.safetensors",
}


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    base = tmp_path_factory.mktemp("empty")
    (base / "user" / "default").mkdir(parents=True)
    (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps({"Comfy.TutorialCompleted": True}))
    with running(base) as server:
        page, errors = open_page(browser, server.url, viewport={"width": 1600, "height": 1000})
        yield page
        # The host's own policy keeps the frontend from asking those addresses how large the files are; under an older one it may fail.
        assert [error for error in errors.ours() if not REFUSED.search(error)] == []
        page.close()


def listed(page):
    """Names and addresses of the frontend's list."""
    if not page.evaluate(f"Boolean({STORE})"):
        pytest.skip("this frontend keeps no list of missing models")
    page.wait_for_function(f"({STORE}.missingModelCandidates ?? []).length > 0", timeout=30_000)
    found = page.evaluate(f"{STORE}.missingModelCandidates.map(one => [one.name, one.url ?? null, one.directory ?? null])")
    return {name: (url, directory) for name, url, directory in found}


def test_a_template_on_an_empty_install_lists_the_files_and_where_they_come_from(page, request):
    workflow = json.loads(path_of("ssr_text_query").read_text())
    page.evaluate("async graph => { await app.loadGraphData(graph, true, true, 'x', { openSource: 'template' }); }", workflow)
    found = listed(page)
    assert set(found) == NEEDED | {"v1-5-pruned-emaonly.safetensors"}
    for url, directory in found.values():
        assert url.startswith("https://huggingface.co/")
        assert directory in ("ssr_encoder", "clip_vision", "checkpoints")
    if folder := request.config.getoption("--screenshots"):
        page.screenshot(path=f"{folder}/missing_models.png")


def test_auto_is_no_name_of_a_file(page):
    workflow = json.loads(path_of("ssr_text_query").read_text())
    workflow["nodes"] = [node for node in workflow["nodes"] if node["type"] == "SSR_LoadModels"]
    workflow["links"] = []
    (node,) = workflow["nodes"]
    node["widgets_values"] = ["auto", "ssr_layers.safetensors", "auto"]
    for output in node["outputs"]:
        output["links"] = None
    page.evaluate("async graph => { await app.loadGraphData(graph, true, true, 'x', { openSource: 'template' }); }", workflow)
    eventually(page, lambda: set(listed(page)), {"ssr_layers.safetensors"})
