"""The picture in Encode Object (MIP): the reference in which points are set, then what the vision model sees."""

import json

import pytest
from support.browser import draws_dom_widgets, open_page, set_renderer
from support.templates import path_of

TEMPLATE = path_of("ssr_mip_two_objects")
ENCODE = "app.graph._nodes.find(node => node.title === '3 Object 1')"
VIEW = "document.querySelector('ssr-subject-view')"
POINTS = f"{ENCODE}.widgets.find(widget => widget.name === 'points').value"
PICTURE = {"picture": {"filename": "example.png", "subfolder": "", "type": "input"}, "width": 512, "height": 512}
REFERENCE = {**PICTURE, "box": [0, 0, 1, 1], "grid": 16, "framed": False}
SEEN = {**PICTURE, "box": [0, 0, 1, 1], "grid": 1, "editable": False}


@pytest.fixture(params=["canvas", "nodes 2.0"])
def page(browser, server, request):
    page, errors = open_page(browser, server.url)
    if request.param != "canvas" and not draws_dom_widgets(page):
        page.close()
        pytest.skip("this frontend's first draft of Nodes 2.0 draws no pack's own elements")
    set_renderer(page, request.param != "canvas")
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", json.loads(TEMPLATE.read_text()))
    page.evaluate(f"() => {{ app.canvas.ds.scale = 1; app.canvas.centerOnNode({ENCODE}); app.canvas.setDirty(true, true); }}")
    page.wait_for_timeout(1000)
    yield page
    set_renderer(page, False)
    page.close()
    assert errors.ours() == []


def test_points_are_set_in_the_reference_and_not_in_what_the_vision_model_sees(page, request):
    page.evaluate("() => { app.queuePrompt = async () => false; }")  # a click asks for a run, which needs weights
    assert page.evaluate(f"{VIEW}.querySelector('.ssr-message').textContent") == "Press Look to see what the vision model sees"
    page.evaluate(f"entries => {ENCODE}.onExecuted({{ ssr_subject: entries }})", [REFERENCE, SEEN])
    page.wait_for_function(f"{VIEW}.querySelector('.ssr-turn').textContent === '1 / 2'")
    assert page.evaluate(f"{VIEW}.querySelector('input[type=range]').hidden")
    canvas = page.locator("ssr-subject-view canvas").first
    canvas.click()
    assert page.evaluate(POINTS) != ""
    chosen = page.evaluate(POINTS)
    if folder := request.config.getoption("--screenshots"):
        page.screenshot(path=f"{folder}/object_view_{request.node.callspec.id.replace(' ', '_')}.png")
    page.evaluate(f"{VIEW}.querySelector('.ssr-turn').click()")
    page.wait_for_function(f"{VIEW}.querySelector('.ssr-turn').textContent === '2 / 2'")
    assert canvas.get_attribute("title") == "What the vision model sees"
    canvas.click(position={"x": 60, "y": 60})
    assert page.evaluate(POINTS) == chosen
