"""The picture in Encode Subject, in ComfyUI's own frontend and in both of its renderers."""

import json
from pathlib import Path

import pytest
from support import comfy_host
from support.server import PACK_FOLDER, running

TEMPLATE = comfy_host.PACK / "example_workflows" / "ssr_mini_text_query.json"
HOSTILE = "<img src=x onerror=window.hacked=1> \"cat' </script>"
ENCODE = "app.graph._nodes.find(node => node.type === 'SSR_EncodeSubject')"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("view"), "--fp32-text-enc") as server:
        yield server


@pytest.fixture(params=["canvas", "nodes 2.0"])
def page(browser, server, request):
    page = browser.new_page(viewport={"width": 1500, "height": 1300})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(server.url)
    page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=90_000)
    page.wait_for_timeout(1500)
    page.keyboard.press("Escape")  # the templates dialog of a first start
    if request.param != "canvas":
        if not draws_dom_widgets(page):
            page.close()
            pytest.skip("this frontend's first draft of Nodes 2.0 draws no pack's own elements")
        page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    load(page, json.loads(TEMPLATE.read_text()))
    yield page
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    assert not [error for error in errors if "ssr" in error.lower() or PACK_FOLDER in error]
    page.close()


def draws_dom_widgets(page):
    """Whether Nodes 2.0 of this frontend mounts elements of packs: from 1.28 on."""
    major, minor, *_ = page.evaluate("window.__COMFYUI_FRONTEND_VERSION__").split(".")
    return (int(major), int(minor)) >= (1, 28)


def load(page, workflow):
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", workflow)
    page.wait_for_timeout(500)
    focus(page)


def focus(page):
    page.evaluate(f"() => {{ app.canvas.ds.scale = 1; app.canvas.centerOnNode({ENCODE}); app.canvas.setDirty(true, true); }}")
    page.wait_for_timeout(700)


def set_widget(page, name, value):
    page.evaluate(
        f"([name, value]) => {{ {ENCODE}.widgets.find(widget => widget.name === name).value = value; }}", [name, value]
    )


def widget(page, name):
    return page.evaluate(f"name => {ENCODE}.widgets.find(widget => widget.name === name).value", name)


def view(page):
    return page.locator(".ssr-view").first


def pixels(page):
    """What the view's canvas shows, to compare."""
    return page.evaluate("document.querySelector('.ssr-view canvas').toDataURL()")


def runs(page, server):
    return len(server.get("/history"))


def look(page, server):
    """Press Look and wait until its run is over and its picture is there."""
    before = runs(page, server)
    view(page).get_by_role("button", name="Look").click()
    shown(page, server, before)


def shown(page, server, before):
    limit = 60
    while runs(page, server) == before and limit:
        page.wait_for_timeout(500)
        limit -= 1
    page.wait_for_function("document.querySelector('.ssr-view .ssr-message').textContent === ''", timeout=30_000)
    page.wait_for_timeout(500)


def last_run(server):
    return list(server.get("/history").values())[-1]


def test_look_shows_where_the_query_looks_before_anything_is_sampled(page, server, request):
    set_widget(page, "query", "a cat")
    blank = pixels(page)
    look(page, server)
    run = last_run(server)
    assert run["status"]["status_str"] == "success"
    assert [entry for entry in run["outputs"].values() if "images" in entry] == [], "something was sampled"
    whole = pixels(page)
    assert whole != blank

    chips = view(page).locator(".ssr-chips button")
    assert chips.all_text_contents() == ["whole query", "a", "cat"]
    chips.nth(2).hover()
    word = pixels(page)
    assert word != whole
    chips.nth(1).hover()
    assert pixels(page) not in (word, whole)
    view(page).get_by_role("button", name="Look").hover()
    assert pixels(page) == whole
    chips.nth(2).click()
    view(page).get_by_role("button", name="Look").hover()
    assert pixels(page) == word, "a clicked word stays"

    view(page).locator("input[type=range]").fill("0")
    bare = pixels(page)
    assert bare != word
    if folder := request.config.getoption("--screenshots"):
        view(page).locator("input[type=range]").fill("0.6")
        page.screenshot(path=str(Path(folder) / f"view_{request.node.callspec.id.replace(' ', '_')}.png"))
    view(page).locator("input[type=range]").fill("0.25")
    saved = page.evaluate("app.graph.serialize()")
    (node,) = (node for node in saved["nodes"] if node["type"] == "SSR_EncodeSubject")
    original = json.loads(TEMPLATE.read_text())
    (before,) = (node for node in original["nodes"] if node["type"] == "SSR_EncodeSubject")
    assert len(node["widgets_values"]) == len(before["widgets_values"]), "the view must not be saved as a value"
    load(page, saved)
    assert view(page).locator("input[type=range]").input_value() == "0.25"


def test_clicks_and_strokes_become_points_that_select(page, server):
    set_widget(page, "query", "")
    set_widget(page, "points", "64, 64")
    focus(page)
    look(page, server)
    shape = view(page).locator("canvas").bounding_box()
    before = runs(page, server)
    side = min(shape["width"], shape["height"])
    centre = shape["x"] + shape["width"] / 2, shape["y"] + shape["height"] / 2
    page.mouse.click(centre[0] - side * 0.3, centre[1] + side * 0.2)
    shown(page, server, before)
    first, second = (tuple(map(int, point.split(","))) for point in widget(page, "points").split(";"))
    assert first == (64, 64)
    assert second == pytest.approx((64 - 0.3 * 128, 64 + 0.2 * 128), abs=3)
    assert last_run(server)["status"]["status_str"] == "success"

    before = runs(page, server)
    page.mouse.click(*centre)  # on the first point
    shown(page, server, before)
    assert widget(page, "points").split(", ") == [str(second[0]), str(second[1])]

    before = runs(page, server)
    page.mouse.move(centre[0] + side * 0.1, centre[1] - side * 0.3)
    page.mouse.down()
    page.mouse.move(centre[0] + side * 0.4, centre[1] - side * 0.3, steps=12)
    page.mouse.up()
    shown(page, server, before)
    stroke = widget(page, "points").split("; ")
    assert 3 <= len(stroke) <= 8

    selected = pixels(page)
    set_widget(page, "query", "cat")
    view(page).get_by_role("button", name="Clear points").click()
    page.wait_for_timeout(1500)
    assert widget(page, "points") == ""
    assert not view(page).get_by_role("button", name="Clear points").is_visible()
    assert pixels(page) != selected


def test_points_land_where_the_mouse_is_at_any_zoom(page, server):
    look(page, server)
    page.evaluate("() => { app.canvas.ds.scale = 0.6; app.canvas.setDirty(true, true); }")
    focus_scale = f"() => {{ app.canvas.centerOnNode({ENCODE}); app.canvas.setDirty(true, true); }}"
    page.evaluate(focus_scale)
    page.wait_for_timeout(800)
    shape = view(page).locator("canvas").bounding_box()
    side = min(shape["width"], shape["height"])
    page.mouse.click(shape["x"] + shape["width"] / 2 + side * 0.25, shape["y"] + shape["height"] / 2)
    page.wait_for_timeout(1000)
    x, y = map(int, widget(page, "points").split(","))
    assert (x, y) == pytest.approx((64 + 0.25 * 128, 64), abs=4)


def test_the_view_survives_undo_copies_and_a_change_of_renderer(page, server, request):
    look(page, server)
    shown_before = pixels(page)
    tracker = "app.extensionManager.workflow.activeWorkflow.changeTracker"
    old = page.evaluate(f"() => {{ window.old = {ENCODE}; {tracker}.checkState(); return window.old.title; }}")
    page.evaluate(f"() => {{ {ENCODE}.title = 'renamed'; {tracker}.checkState(); }}")
    page.evaluate(f"async () => {{ await {tracker}.undo(); }}")
    page.wait_for_timeout(1500)
    assert page.evaluate(f"[{ENCODE} !== window.old, {ENCODE}.title]") == [True, old], "undo makes nodes anew"
    focus(page)
    page.wait_for_timeout(1000)
    assert pixels(page) == shown_before, "the last result is still known"

    if draws_dom_widgets(page):
        other = "canvas" in request.node.callspec.id
        page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", other)
        page.wait_for_timeout(1500)
        focus(page)
        assert view(page).is_visible()
        look(page, server)

    page.evaluate(f"() => {{ const copy = {ENCODE}.clone(); app.graph.add(copy); copy.pos = [900, 900]; }}")
    page.wait_for_timeout(1000)
    assert page.locator(".ssr-view").count() == 2
    set_widget(page, "points", "10, 10")
    others = page.evaluate(
        "app.graph._nodes.filter(node => node.type === 'SSR_EncodeSubject')[1].widgets.find(w => w.name === 'points').value"
    )
    assert others == ""


def test_after_the_page_is_loaded_anew_look_works_again(page, server):
    """The graph comes back as the browser kept it; what was seen is asked for anew."""
    set_widget(page, "query", "a cat")
    look(page, server)
    seen = pixels(page)
    workflow = page.evaluate("app.graph.serialize()")
    page.reload()
    page.wait_for_function("window.app?.graph && window.app.extensionManager", timeout=90_000)
    page.wait_for_timeout(1500)
    load(page, workflow)
    assert widget(page, "query") == "a cat"
    assert pixels(page) != seen
    look(page, server)
    assert pixels(page) == seen


def test_nothing_listens_any_more_after_a_node_is_removed(page):
    """The detached elements are asked through the browser's debugger."""
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    page.evaluate("window.kept = [...document.querySelectorAll('.ssr-view, .ssr-view *')]")
    count = page.evaluate("window.kept.length")
    assert count > 5
    listeners(session, count, at_least=5)
    page.evaluate(f"app.graph.remove({ENCODE})")
    page.wait_for_timeout(1000)
    assert page.locator(".ssr-view").count() == 0
    assert listeners(session, count) == 0


def listeners(session, count, at_least=0):
    """Listeners of ours on the kept elements."""
    found = 0
    for number in range(count):
        thing = session.send("Runtime.evaluate", {"expression": f"window.kept[{number}]"})["result"]["objectId"]
        own = session.send("DOMDebugger.getEventListeners", {"objectId": thing})["listeners"]
        found += sum(listener["type"] in ("click", "input", "pointerdown", "pointerenter", "focus") for listener in own)
    assert found >= at_least
    return found


def test_a_hostile_query_is_text(page, server):
    set_widget(page, "query", HOSTILE)
    look(page, server)
    chips = view(page).locator(".ssr-chips button").all_text_contents()
    assert "cat" in chips
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('.ssr-view img, .ssr-view script').length") == 0
    hostile = {
        "picture": {"filename": "\"><img src=x onerror=window.hacked=1>", "subfolder": "../..", "type": "input"},
        "width": 128, "height": 128, "box": [0, 0, 1, 1], "query": HOSTILE, "map": "AAAA", "words": [{"text": HOSTILE, "map": "AAAA"}],
        "marked": "%%%",
    }  # fmt: skip
    for entry in (hostile, {**hostile, "map": "AAAAAA=="}, {**hostile, "box": "x"}, {}, None, "text"):
        page.evaluate(f"entry => {ENCODE}.onExecuted({{ ssr_subject: [entry] }})", entry)
    page.evaluate(f"() => {ENCODE}.onExecuted({{ ssr_subject: 'text' }})")
    page.wait_for_timeout(1000)
    assert page.evaluate("window.hacked") is None


def test_in_a_subgraph_look_runs_the_node_inside(page, server):
    made = page.evaluate(
        f"""() => {{
            const node = {ENCODE};
            if (!app.graph.convertToSubgraph) return false;
            const items = new Set([node]);
            return !!app.graph.convertToSubgraph(items);
        }}"""
    )
    if not made:
        pytest.skip("this frontend cannot make a subgraph here")
    page.evaluate("() => app.canvas.setGraph(app.graph._nodes.find(node => node.subgraph).subgraph)")
    page.wait_for_timeout(1500)
    page.evaluate(
        "() => { app.canvas.ds.scale = 1; "
        "app.canvas.centerOnNode(app.canvas.graph._nodes.find(n => n.type === 'SSR_EncodeSubject')); }"
    )
    page.wait_for_timeout(1000)
    look(page, server)
    assert last_run(server)["status"]["status_str"] == "success"
