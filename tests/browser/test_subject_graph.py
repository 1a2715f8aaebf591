"""The picture in Encode Subject while graphs change around it: copies, subgraphs, undo, tabs, removal; and what it leaves behind."""

import json
import time

import pytest
from support.browser import (
    ENCODE,
    VIEW,
    click_reference,
    draws_dom_widgets,
    focus,
    last_run,
    load,
    loaded,
    look,
    open_page,
    pixels,
    place_of,
    points,
    set_renderer,
    set_widget,
    settled,
    template,
    view,
    widget,
)
from support.server import PACK_FOLDER

TRACKER = "app.extensionManager.workflow.activeWorkflow.changeTracker"
SUBGRAPH_NODES = "app.graph._nodes.filter(node => node.subgraph)"
LIKE_THE_FIRST = """([original, copy]) => {
    app.graph.getNodeById(original).inputs.forEach((input, slot) => {
        if (input.link == null) return;
        const link = app.graph.links.get?.(input.link) ?? app.graph.links[input.link];
        app.graph.getNodeById(link.origin_id).connect(link.origin_slot, app.graph.getNodeById(copy), slot);
    });
}"""


def test_the_view_survives_undo_and_a_change_of_renderer(page, request):
    look(page)
    seen = pixels(page)
    old = page.evaluate(f"() => {{ window.old = {ENCODE}; {TRACKER}.checkState(); return window.old.title; }}")
    page.evaluate(f"() => {{ {ENCODE}.title = 'renamed'; {TRACKER}.checkState(); }}")
    page.evaluate(f"async () => {{ await {TRACKER}.undo(); }}")
    page.wait_for_timeout(1000)
    assert page.evaluate(f"[{ENCODE} !== window.old, {ENCODE}.title]") == [True, old], "undo makes nodes anew"
    focus(page)
    settled(page)
    assert pixels(page) == seen, "the last result is still known"
    assert page.locator("ssr-subject-view").count() == 1

    if draws_dom_widgets(page):
        set_renderer(page, "canvas" in request.node.callspec.id)
        page.wait_for_timeout(1000)
        focus(page)
        assert view(page).is_visible()
        look(page)


def test_after_the_page_is_loaded_anew_look_works_again(page):
    """The graph comes back as the browser kept it; what was seen is asked for anew."""
    set_widget(page, "query", "a cat")
    look(page)
    seen = pixels(page)
    workflow = page.evaluate("app.graph.serialize()")
    page.reload()
    loaded(page)
    load(page, workflow)
    assert widget(page, "query") == "a cat"
    assert pixels(page) != seen
    look(page)
    assert pixels(page) == seen


def test_a_pasted_copy_has_a_view_of_its_own(page, server):
    look(page)
    original = page.evaluate(f"{ENCODE}.id")
    page.evaluate(f"() => {{ app.canvas.deselectAll(); app.canvas.select({ENCODE}); app.canvas.canvas.focus(); }}")
    page.keyboard.press("Control+c")
    page.mouse.move(60, 600)
    page.keyboard.press("Control+v")
    page.wait_for_timeout(800)
    copies = f"app.graph._nodes.filter(node => node.type === 'SSR_EncodeSubject' && String(node.id) !== '{original}')"
    assert page.evaluate(f"{copies}.length") == 1
    assert page.locator("ssr-subject-view").count() == 2
    page.evaluate(LIKE_THE_FIRST, [original, page.evaluate(f"{copies}[0].id")])
    page.evaluate(f"() => {{ window.hidden = {ENCODE}; {copies}[0].pos = [3000, 3000]; }}")  # free of others
    # From here on the copy is the graph's first.
    page.evaluate("() => { const all = app.graph._nodes; all.push(all.splice(all.indexOf(window.hidden), 1)[0]); }")
    focus(page)
    copied = page.evaluate(f"{ENCODE}.id")
    assert copied != original
    own = page.locator("ssr-subject-view").nth(1)
    own.get_by_role("button", name="Look").click()
    page.wait_for_function("document.querySelectorAll('ssr-subject-view')[1].querySelector('.ssr-message').textContent === ''")
    assert last_run(server)["prompt"][4] == [str(copied)]
    page.wait_for_timeout(1500)
    shape = own.locator("canvas").bounding_box()
    page.mouse.click(shape["x"] + shape["width"] / 2, shape["y"] + shape["height"] / 2)
    page.wait_for_timeout(300)
    page.wait_for_function("document.querySelectorAll('ssr-subject-view')[1].getAttribute('aria-busy') === 'false'")
    values = f"[{copies}[0], window.hidden].map(node => node.widgets.find(widget => widget.name === 'points').value)"
    assert page.evaluate(values) == ["64, 64", ""]


def alive(page, kind, condition="true"):
    """How many objects of a kind are left after the garbage is collected, of those that fulfil a condition on `object`."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    prototype = session.send("Runtime.evaluate", {"expression": f"({kind}).prototype"})["result"]["objectId"]
    objects = session.send("Runtime.queryObjects", {"prototypeObjectId": prototype})["objects"]["objectId"]
    count = f"function () {{ return this.filter(object => {condition}).length; }}"
    found = session.send("Runtime.callFunctionOn", {"objectId": objects, "functionDeclaration": count})["result"]["value"]
    session.detach()
    return found


VIEWS = "customElements.get('ssr-subject-view')"
HEAVY_AND_GONE = "!object.isConnected && object.querySelector('canvas').width > 0"


def test_copies_that_are_never_pasted_leave_nothing(page):
    look(page)
    page.evaluate(f"() => {{ app.canvas.deselectAll(); app.canvas.select({ENCODE}); }}")
    page.evaluate("() => app.canvas.copyToClipboard()")
    before = [alive(page, kind) for kind in (VIEWS, "ResizeObserver")]
    for _ in range(5):
        page.evaluate("() => app.canvas.copyToClipboard()")
    assert [alive(page, kind) for kind in (VIEWS, "ResizeObserver")] == before


def enter(page, number, request):
    """Opens the subgraph through one of its nodes, as users do it."""
    page.evaluate(
        f"number => {{ app.canvas.ds.scale = 1; app.canvas.centerOnNode({SUBGRAPH_NODES}[number]); app.canvas.setDirty(true, true); }}",
        number,
    )
    page.wait_for_timeout(700)
    if "canvas" in request.node.callspec.id:
        x, y = page.evaluate(
            f"""number => {{
                const node = {SUBGRAPH_NODES}[number], box = app.canvas.canvas.getBoundingClientRect(), ds = app.canvas.ds;
                return [(node.pos[0] + node.size[0] / 2 + ds.offset[0]) * ds.scale + box.left,
                        (node.pos[1] + node.size[1] - 6 + ds.offset[1]) * ds.scale + box.top];
            }}""",
            number,
        )
        page.mouse.move(x - 3, y)
        page.mouse.dblclick(x, y)
    else:
        identity = page.evaluate(f"number => {SUBGRAPH_NODES}[number].id", number)
        page.locator(f'[data-node-id="{identity}"]').get_by_test_id("subgraph-enter-button").first.click()
    page.wait_for_function("app.canvas.graph !== app.graph || app.canvas.subgraph")
    page.wait_for_timeout(500)
    focus(page)


def to_subgraph(page):
    made = page.evaluate(
        f"() => Boolean(app.graph.convertToSubgraph && app.graph.convertToSubgraph(new Set([{ENCODE}])))",
    )
    if not made:
        pytest.skip("this frontend cannot make a subgraph here")


def test_in_a_subgraph_used_twice_look_runs_the_instance_that_was_opened(page, server, request):
    to_subgraph(page)
    first, second = page.evaluate(
        f"""() => {{
            const [node] = {SUBGRAPH_NODES};
            const copy = node.clone();
            app.graph.add(copy);
            copy.pos = [node.pos[0], node.pos[1] + 1200];
            return [node.id, copy.id];
        }}"""
    )
    page.evaluate(LIKE_THE_FIRST, [first, second])
    inner = page.evaluate(f"{SUBGRAPH_NODES}[0].subgraph.nodes[0].id")
    for number, instance in ((1, second), (0, first)):
        enter(page, number, request)
        look(page)
        assert last_run(server)["prompt"][4] == [f"{instance}:{inner}"], "what the server was asked to run"
        assert last_run(server)["status"]["status_str"] == "success"
        page.evaluate("() => app.canvas.setGraph(app.graph.rootGraph ?? app.graph)")
        page.wait_for_timeout(500)


def test_nodes_in_a_subgraph_leave_nothing_when_the_graph_is_made_anew(page, request):
    to_subgraph(page)
    enter(page, 0, request)
    look(page)
    seen = pixels(page)
    rename = f"() => {{ {TRACKER}.checkState(); {ENCODE}.title += '!'; {TRACKER}.checkState(); }}"
    counts = []
    for number in range(5):
        page.evaluate(rename)
        page.evaluate(f"async () => {{ await {TRACKER}.undo(); }}")
        page.wait_for_timeout(600)
        if number in (1, 4):  # the first may still hold what was clicked on
            counts.append(alive(page, VIEWS))
    # Nodes 2.0 itself keeps every node that it has drawn, through the tooltips of its slots.
    if "canvas" in request.node.callspec.id:
        assert counts[1] <= counts[0]
    assert alive(page, VIEWS, HEAVY_AND_GONE) == 0
    assert page.locator("ssr-subject-view").count() == 1
    assert page.evaluate("app.canvas.graph.nodes.length") == 1, "still inside"
    focus(page)
    settled(page)
    assert pixels(page) == seen


def test_after_a_change_of_tabs_the_last_result_is_seen_again(browser, page, server, request):
    nodes2 = "canvas" not in request.node.callspec.id
    page, errors = open_page(browser, server.url)  # with one tab
    set_renderer(page, nodes2)
    load(page, template())
    to_subgraph(page)
    enter(page, 0, request)
    for _ in range(5):
        set_widget(page, "query", f"a cat {time.time()}")  # one that the server does not know yet
        look(page)
        # Frontends forget results that are faster than the answer to their prompt.
        if page.evaluate(f"Object.keys({TRACKER}.nodeOutputs ?? {{}}).length"):
            break
    seen = pixels(page)
    page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("document.querySelector('ssr-subject-view') === null")
    page.wait_for_timeout(500)
    page.evaluate("() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    page.wait_for_function(
        "document.querySelector('ssr-subject-view') !== null || app.graph._nodes.some(node => node.subgraph)"
    )
    page.wait_for_timeout(800)
    if page.evaluate("app.canvas.graph === app.graph"):
        enter(page, 0, request)
    focus(page)
    settled(page)
    assert pixels(page) == seen
    assert errors.ours() == []
    page.close()


def test_nothing_listens_any_more_after_a_node_is_removed(page):
    """The detached elements are asked through the browser's debugger."""
    look(page)
    page.mouse.move(*place_of(page, 30, 30))
    page.mouse.down()
    page.mouse.move(*place_of(page, 80, 30), steps=6)
    page.mouse.up()
    settled(page)
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    page.evaluate("window.kept = [...document.querySelectorAll('ssr-subject-view, ssr-subject-view *')]")
    count = page.evaluate("window.kept.length")
    assert count > 5
    assert listeners(session, count) >= 10
    page.evaluate(f"() => {{ window.removed = {ENCODE}; app.graph.remove(window.removed); }}")
    page.wait_for_timeout(500)
    assert page.locator("ssr-subject-view").count() == 0
    assert listeners(session, count) == 0

    page.evaluate("() => { app.graph.add(window.removed); delete window.removed; delete window.kept; }")
    focus(page)
    assert view(page).is_visible()
    assert listeners(session, page.evaluate("(window.kept = [...document.querySelectorAll('ssr-subject-view *')]).length")) >= 8


def listeners(session, count):
    """Listeners of ours on the kept elements."""
    found = 0
    for number in range(count):
        thing = session.send("Runtime.evaluate", {"expression": f"window.kept[{number}]"})["result"]["objectId"]
        own = session.send("DOMDebugger.getEventListeners", {"objectId": thing})["listeners"]
        kinds = ("click", "input", "wheel", "focusin", "focusout")
        found += sum(listener["type"] in kinds or listener["type"].startswith("pointer") for listener in own)
    return found


def test_a_removed_nodes_view_is_freed(page, request):
    """A click would select the node, and the frontend keeps what was selected in the buttons of its toolbox."""
    page.evaluate("() => app.queuePrompt(0, 1)")
    page.wait_for_function(f"{VIEW}.querySelector('.ssr-message').textContent === ''")
    page.mouse.move(*place_of(page, 30, 30))
    for kind, x in (("pointerdown", 30), ("pointermove", 80), ("pointerup", 80)):
        page.evaluate(
            f"""([kind, clientX, clientY]) => {VIEW}.querySelector("canvas").dispatchEvent(new PointerEvent(
                kind, {{ clientX, clientY, pointerId: 1, isPrimary: true, button: 0 }}))""",
            [kind, *place_of(page, x, 30)],
        )
    settled(page)
    assert len(points(page)) == 2
    before = alive(page, VIEWS)
    page.evaluate(f"() => app.graph.remove({ENCODE})")
    page.mouse.move(720, 1280)
    page.wait_for_timeout(500)
    # Nodes 2.0 itself keeps every node that it has drawn, through the tooltips of its slots.
    if "canvas" in request.node.callspec.id:
        assert alive(page, VIEWS) == before - 1
    assert alive(page, VIEWS, HEAVY_AND_GONE) == 0


def test_the_extension_asks_the_server_for_pictures_and_runs_and_nothing_else(page, server):
    session = page.context.new_cdp_session(page)
    asked = []

    def note(event):
        if PACK_FOLDER in json.dumps(event["initiator"]):
            asked.append(event["request"]["url"])

    session.on("Network.requestWillBeSent", note)
    session.send("Network.enable")
    session.send("Debugger.enable")
    session.send("Debugger.setAsyncCallStackDepth", {"maxDepth": 32})  # what is asked for after an await is ours too
    look(page)
    click_reference(page, 30, 30)
    settled(page)
    paths = {url.removeprefix(server.url).removeprefix("/api").split("?")[0] for url in asked}
    refusals = set() if draws_dom_widgets(page) else {"/queue"}  # older frontends do not answer whether they were refused
    assert paths == {"/prompt", "/view"} | refusals
    asked.clear()
    page.wait_for_timeout(3000)
    assert asked == [], "polling"
    session.detach()
