"""What the picture in Encode Subject leaves behind in the browser when its node goes: nothing. Asked through the browser's debugger."""

from support.browser import (
    ENCODE,
    TRACKER,
    VIEW,
    enter,
    focus,
    look,
    pixels,
    place_of,
    points,
    settled,
    to_subgraph,
    view,
)


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
