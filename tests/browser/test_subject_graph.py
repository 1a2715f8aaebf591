"""The picture in Encode Subject while graphs change around it: copies, subgraphs, undo, tabs; and what it asks for."""

import json
import time

from support.browser import (
    ENCODE,
    SUBGRAPH_NODES,
    TRACKER,
    click_reference,
    draws_dom_widgets,
    enter,
    eventually,
    focus,
    last_run,
    load,
    loaded,
    look,
    open_page,
    pixels,
    set_renderer,
    set_widget,
    settled,
    template,
    to_subgraph,
    view,
    widget,
)
from support.server import PACK_FOLDER

LIKE_THE_FIRST = """([original, copy]) => {
    app.graph.getNodeById(original).inputs.forEach((input, slot) => {
        if (input.link == null) return;
        const link = app.graph.links.get?.(input.link) ?? app.graph.links[input.link];
        app.graph.getNodeById(link.origin_id).connect(link.origin_slot, app.graph.getNodeById(copy), slot);
    });
}"""

COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink")
"""Words that Mini knows."""


def test_the_view_survives_undo_and_a_change_of_renderer(page, request):
    look(page)
    seen = pixels(page)
    old = page.evaluate(f"() => {{ window.old = {ENCODE}; {TRACKER}.checkState(); return window.old.title; }}")
    page.evaluate(f"() => {{ {ENCODE}.title = 'renamed'; {TRACKER}.checkState(); }}")
    page.evaluate(f"async () => {{ await {TRACKER}.undo(); }}")
    # Undo makes nodes anew.
    eventually(page, lambda: page.evaluate(f"[{ENCODE} !== window.old, {ENCODE}?.title]"), [True, old])
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
    copies = f"app.graph._nodes.filter(node => node.type === 'SSR_EncodeSubject' && String(node.id) !== '{original}')"
    eventually(page, lambda: page.evaluate(f"{copies}.length"), 1)
    eventually(page, page.locator("ssr-subject-view").count, 2)
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


def test_after_a_change_of_tabs_the_last_result_is_seen_again(browser, page, server, request):
    nodes2 = "canvas" not in request.node.callspec.id
    page, errors = open_page(browser, server.url)  # with one tab
    set_renderer(page, nodes2)
    load(page, template())
    to_subgraph(page)
    enter(page, 0, request)
    for _ in range(5):
        set_widget(
            page, "query", f"a cat {' '.join(COLOURS[int(digit) % len(COLOURS)] for digit in str(time.time_ns()))}"
        )  # a new one
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
