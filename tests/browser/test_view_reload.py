"""What of the view outlasts a reload of the page: points and the picture that they lie in, in the tab and nowhere else."""

import json

import pytest
from support.browser import (
    ENCODE,
    PLACE,
    TRACKER,
    VIEW,
    button,
    click_reference,
    eventually,
    load,
    loaded,
    look,
    message,
    noticed,
    pixels,
    points,
    runs,
    set_widget,
    settled,
    stale,
    still,
    template,
    to_subgraph,
    view,
)

KEPT = f"{ENCODE}.properties.ssr_picture"
SETTING = "SSR-Encoder.View.KeepPicture"


def test_a_loaded_graph_keeps_its_points(page):
    set_widget(page, "points", "64, 64")
    workflow = page.evaluate("app.graph.serialize()")
    load(page, workflow)
    noticed(page)
    assert points(page) == [(64, 64)]


def test_after_a_reload_the_picture_is_there_before_anything_runs(page, server, request):
    roomy = template()
    for node in roomy["nodes"]:
        if node["type"] == "SSR_MiniScene":
            node["size"] = [280, 600]  # else it grows when it shows its scene for the first time, which is a step of undo
    load(page, roomy)
    set_widget(page, "query", "a cat")
    noticed(page)
    look(page)
    steps = page.evaluate(f"{TRACKER}.undoQueue.length")
    noticed(page)
    assert page.evaluate(f"{TRACKER}.undoQueue.length") == steps, "looking is no edit"
    workflow = page.evaluate("app.graph.serialize()")
    assert len(json.dumps(workflow)) < 40_000
    before = runs(server)
    page.reload()
    loaded(page)
    load(page, workflow)
    settled(page)
    assert view(page).locator(".ssr-chips button").all_text_contents() == ["whole query", "a", "cat"]
    assert page.evaluate(
        f"{VIEW}.querySelector('canvas').getContext('2d').getImageData(60, 60, 40, 40).data.some(value => value > 60)"
    )
    assert not stale(page)
    assert runs(server) == before
    if folder := request.config.getoption("--screenshots"):
        page.screenshot(path=f"{folder}/reloaded_{request.node.callspec.id.replace(' ', '_')}.png")
    set_widget(page, "query", "a star")
    noticed(page)
    assert stale(page)


def test_the_tab_itself_remembers_the_picture(page):
    look(page)
    page.wait_for_timeout(1500)  # the frontend keeps drafts a moment later
    page.reload()
    loaded(page)
    page.wait_for_function(f"Boolean({ENCODE})", timeout=30_000)
    page.wait_for_function(f"Boolean({ENCODE} && {KEPT})", timeout=30_000)


def test_it_can_be_switched_off(page):
    look(page)
    assert page.evaluate(KEPT)["picture"].startswith("data:image/jpeg;base64,")
    page.evaluate(f"() => app.extensionManager.setting.set('{SETTING}', false)")
    try:
        assert page.evaluate(f"{KEPT} ?? null") is None, "what is there goes"
        set_widget(page, "query", "a cat")
        look(page)
        assert "ssr_picture" not in json.dumps(page.evaluate("app.graph.serialize()"))
    finally:
        page.evaluate(f"() => app.extensionManager.setting.set('{SETTING}', true)")


def test_in_a_subgraph_it_is_kept_as_well(page):
    set_widget(page, "query", "a cat")
    look(page)
    to_subgraph(page)
    assert "ssr_picture" in json.dumps(page.evaluate("app.graph.serialize().definitions"))


@pytest.mark.parametrize(
    "change",
    [
        {"picture": "https://example.org/tracking.png"},
        {"picture": "data:image/svg+xml;base64,AAAA"},
        {"picture": "data:image/jpeg;base64," + "A" * 200_000},
        {"picture": 'data:image/png;base64,AA"onerror='},
        {"picture": {"filename": "example.png"}},
        {"width": -1},
        {"map": "%%%"},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_a_hostile_kept_picture_is_not_shown(page, change):
    kept = {
        "picture": "data:image/png;base64,AAAA",
        "width": 9,
        "height": 9,
        "box": [0, 0, 1, 1],
        "map": "AAAAAA==",
        "words": [],
    }
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    workflow = template()
    (node,) = (node for node in workflow["nodes"] if node["type"] == "SSR_EncodeSubject")
    node["properties"]["ssr_picture"] = {**kept, **change}
    load(page, workflow)
    assert message(page) == "Press Look to see what the query selects"
    assert not any("example" in url for url in asked)


def test_in_select_by_points_the_picture_is_there_to_be_clicked_on(page, server, request):
    nodes2 = "canvas" not in request.node.callspec.id
    page.evaluate(
        f"""() => {{
            const encode = {ENCODE};
            const source = name => encode.getInputNode(encode.inputs.findIndex(input => input.name === name));
            const slot = name => {{
                const link = encode.inputs.find(input => input.name === name).link;
                return (app.graph.links.get?.(link) ?? app.graph.links[link]).origin_slot;
            }};
            const select = LiteGraph.createNode("SSR_SelectByPoints");
            app.graph.add(select);
            for (const name of ["image", "clip_vision"])
                source(name).connect(slot(name), select, select.inputs.findIndex(input => input.name === name));
            app.graph.remove(encode);
            select.pos = [200, 200];
            app.canvas.ds.scale = 1;
            app.canvas.centerOnNode(select);
            app.canvas.setDirty(true, true);
        }}"""
    )
    page.wait_for_timeout(500)
    node = "app.graph._nodes.find(node => node.type === 'SSR_SelectByPoints')"
    click = "Click or draw on what is meant; click a point to remove it"
    eventually(page, lambda: message(page), f"{click}\nLook shows the picture")
    still(page, PLACE)
    button(page, "Look").click()
    page.wait_for_function(
        f"{VIEW}.getAttribute('aria-busy') !== 'true' && {VIEW}.querySelector('canvas').width > 0", timeout=60_000
    )
    still(page, PLACE)
    assert message(page) == click
    bare = pixels(page)
    click_reference(page, 48, 100)
    settled(page)
    assert page.evaluate(f"{node}.widgets.find(widget => widget.name === 'points').value") == "48, 100"
    assert pixels(page) != bare
    if folder := request.config.getoption("--screenshots"):
        page.screenshot(path=f"{folder}/select_{'nodes2' if nodes2 else 'canvas'}.png")
