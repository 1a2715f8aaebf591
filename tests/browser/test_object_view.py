"""The picture in Encode Object (MIP): the reference in which points are set, then what the vision model sees."""

import json

import pytest
from support.browser import draws_dom_widgets, open_page, set_renderer, shown
from support.templates import path_of

TEMPLATE = path_of("ssr_mip_two_objects")
ENCODE = "app.graph._nodes.find(node => node.title === '3 Object 1')"
KEPT = f"{ENCODE}.properties.ssr_picture"
VIEW = "document.querySelector('ssr-subject-view')"
POINTS = f"{ENCODE}.widgets.find(widget => widget.name === 'points').value"
PICTURE = {"picture": {"filename": "example.png", "subfolder": "", "type": "input"}, "width": 512, "height": 512}
REFERENCE = {**PICTURE, "box": [0, 0, 1, 1], "grid": 16, "framed": False}
WIDE = {**REFERENCE, "width": 1024}
LIMITED = {**WIDE, "box": [0.25, 0, 0.75, 1]}
"""Something is selected, so that the picture has its own dark; clicks end where the fit does."""
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


def columns(page):
    """Of the canvas: each pixel's darkest channel at 0.25 of the picture's width, the lightest of three across; and the mean outside."""
    return page.evaluate(
        f"""() => {{
            const canvas = {VIEW}.querySelector("canvas");
            const scale = Math.min(canvas.width / 1024, canvas.height / 512);
            const [width, height] = [Math.floor(1024 * scale), Math.floor(512 * scale)];
            const [left, top] = [(canvas.width - width) / 2, (canvas.height - height) / 2].map(Math.round);
            const at = (x, wide) => canvas.getContext("2d").getImageData(x, top, wide, height).data;
            const edge = at(left + Math.round(width / 4) - 1, 3), outside = at(left + 4, 8);
            const darkest = pixel => Math.min(...edge.slice(4 * pixel, 4 * pixel + 3));
            const line = Array.from({{ length: height }}, (_, row) => Math.max(...[0, 1, 2].map(column => darkest(3 * row + column))));
            return [line, outside.reduce((sum, value) => sum + value, 0) / outside.length];
        }}"""
    )


def test_the_edge_at_which_clicks_end_is_seen_also_when_something_is_selected(page):
    page.evaluate("() => { app.queuePrompt = async () => false; }")
    seen = []
    for entry in (WIDE, LIMITED):
        page.evaluate(f"entry => {ENCODE}.onExecuted({{ ssr_subject: [entry] }})", entry)
        shown(page)
        seen.append(columns(page))
    (bare, light), (limited, outside) = seen
    dashed = [framed > plain + 10 for framed, plain in zip(limited, bare, strict=True)]
    assert sum(dashed) > 0.4 * len(dashed), "six pixels of ten"
    assert outside == pytest.approx(light, abs=1), "no darker: a mask counts there too"


def test_after_a_reload_the_picture_in_which_points_are_set_is_back_whatever_was_turned_to(page):
    page.evaluate("() => { app.queuePrompt = async () => false; }")
    turn = f"{VIEW}.querySelector('.ssr-turn')"
    page.evaluate(f"entries => {ENCODE}.onExecuted({{ ssr_subject: entries }})", [REFERENCE, SEEN])
    page.wait_for_function(f"{turn}.textContent === '1 / 2'")
    page.evaluate(f"{turn}.click()")
    page.wait_for_function(f"{turn}.textContent === '2 / 2'")
    page.wait_for_function(f"{KEPT}?.editable", timeout=10_000)
    page.evaluate(f"entries => {ENCODE}.onExecuted({{ ssr_subject: entries }})", [{**REFERENCE, "grid": 8}, SEEN])
    page.wait_for_function(f"{KEPT}.grid === 8", timeout=10_000)  # of a run while the second is shown, too
    assert page.evaluate(f"{turn}.textContent") == "2 / 2"
    workflow = page.evaluate("app.graph.serialize()")
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", workflow)
    page.wait_for_function(f"{VIEW}?.querySelector('canvas').title.startsWith('Click or draw on what is meant')")
