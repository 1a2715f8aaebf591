"""The picture in Encode Subject, in ComfyUI's own frontend and in both of its renderers: what it shows, and what it takes from a server."""

import json
from pathlib import Path

import pytest
from support.browser import (
    ENCODE,
    VIEW,
    Errors,
    button,
    click_reference,
    eventually,
    focus,
    last_run,
    load,
    look,
    message,
    pixels,
    place_of,
    points,
    set_widget,
    settled,
    shown,
    template,
    view,
)
from support.server import PACK_FOLDER

HOSTILE = "<img src=x onerror=window.hacked=1> \"cat' </script><script>window.hacked=1</script>"
OTHER = "<b>another</b>"


def test_look_shows_where_the_query_looks_before_anything_is_sampled(page, server, request):
    set_widget(page, "query", "a cat")
    blank = pixels(page)
    look(page)
    run = last_run(server)
    assert run["status"]["status_str"] == "success"
    images = [
        entry for entry in run["outputs"].values() if "images" in entry and "text" not in entry
    ]  # a scene tells its caption
    assert images == [], "something was sampled"
    whole = pixels(page)
    assert whole != blank

    chips = view(page).locator(".ssr-chips button")
    assert chips.all_text_contents() == ["whole query", "a", "cat"]
    chips.nth(2).hover()
    word = pixels(page)
    assert word != whole
    chips.nth(1).hover()
    assert pixels(page) not in (word, whole)
    button(page, "Look").hover()
    assert pixels(page) == whole
    chips.nth(2).click()
    button(page, "Look").hover()
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
    (before,) = (node for node in template()["nodes"] if node["type"] == "SSR_EncodeSubject")
    assert len(node["widgets_values"]) == len(before["widgets_values"]), "the view must not be saved as a value"
    load(page, saved)
    assert view(page).locator("input[type=range]").input_value() == "0.25"


def test_a_pinned_word_and_the_keyboards_place_outlast_a_run(page):
    set_widget(page, "query", "a cat")
    look(page)
    chips = view(page).locator(".ssr-chips button")
    chips.nth(2).click()
    pinned = pixels(page)
    focused = "document.activeElement?.textContent"
    assert page.evaluate(focused) == "cat"
    button(page, "Look").dispatch_event("click")
    settled(page)
    assert (page.evaluate(focused), pixels(page)) == ("cat", pinned)
    set_widget(page, "query", "the red cat")
    button(page, "Look").dispatch_event("click")
    settled(page)
    assert chips.all_text_contents() == ["whole query", "the", "red", "cat"]
    assert [chip.get_attribute("aria-pressed") for chip in chips.all()] == ["false", "false", "false", "true"]
    assert page.evaluate(focused) == "cat"
    set_widget(page, "query", "a star")
    look(page)
    assert [chip.get_attribute("aria-pressed") for chip in chips.all()] == ["true", "false", "false"]


def test_the_old_picture_stays_until_the_new_one_is_there(page):
    look(page)
    seen = pixels(page)
    held = []
    page.route("**/view?*", lambda route: held.append(route))
    set_widget(page, "query", "a cat and")
    with page.expect_request("**/view?*"):
        button(page, "Look").click()
    page.wait_for_timeout(500)
    assert (pixels(page), view(page).locator(".ssr-chips button").all_text_contents()) == (seen, ["cat"])
    assert (view(page).get_attribute("aria-busy"), message(page)) == ("true", "Looking…")
    for route in held:
        route.continue_()
    page.unroute("**/view?*")
    settled(page)
    assert view(page).locator(".ssr-chips button").all_text_contents() == ["whole query", "a", "cat", "and"]
    assert pixels(page) != seen


def test_a_batch_is_leafed_through(page):
    page.evaluate(
        f"""() => {{
            const encode = {ENCODE};
            const image = encode.inputs.findIndex(input => input.name === "image");
            const scene = encode.getInputNode(image);
            const other = scene.clone();
            app.graph.add(other);
            other.widgets.find(widget => widget.name === "scene").value = 7;
            const batch = LiteGraph.createNode("ImageBatch");
            app.graph.add(batch);
            scene.connect(0, batch, 0);
            other.connect(0, batch, 1);
            batch.connect(0, encode, image);
        }}"""
    )
    look(page)
    turn = view(page).locator(".ssr-turn")
    assert (turn.text_content(), turn.get_attribute("aria-label")) == ("1 / 2", "Next picture (1 / 2)")
    first = pixels(page)
    turn.click()
    page.wait_for_function(f"{VIEW}.querySelector('.ssr-turn').textContent === '2 / 2'")
    assert pixels(page) != first
    click_reference(page, 64, 64)
    settled(page)
    assert turn.text_content() == "2 / 2", "the second is still seen"
    turn.click()
    page.wait_for_function(f"{VIEW}.querySelector('.ssr-turn').textContent === '1 / 2'")


def test_the_view_says_what_it_is_to_those_who_do_not_see_it(page):
    canvas = view(page).locator("canvas")
    assert canvas.get_attribute("role") == "img"
    assert "Click" in canvas.get_attribute("aria-label")
    assert view(page).locator(".ssr-message").get_attribute("role") == "status"
    assert view(page).locator("input[type=range]").get_attribute("aria-label")


def test_a_hostile_query_is_text(page):
    look(page)
    set_widget(page, "query", HOSTILE)
    image = page.evaluate(f"app.nodeOutputs[{ENCODE}.id].ssr_subject[0].picture")
    hostile = {
        "picture": image, "width": 128, "height": 128, "box": [0, 0, 1, 1], "query": HOSTILE, "map": "AAAAAA==",
        "words": [{"text": HOSTILE, "map": "AAAAAA=="}, {"text": OTHER, "map": "AAAAAA=="}], "marked": None,
    }  # fmt: skip
    page.evaluate(f"entry => {ENCODE}.onExecuted({{ ssr_subject: [entry] }})", hostile)
    chips = view(page).locator(".ssr-chips button")
    chips.get_by_text(OTHER, exact=True).wait_for(timeout=10_000)
    assert chips.all_text_contents() == ["whole query", HOSTILE, OTHER]
    chips.nth(1).hover()
    chips.nth(1).click()
    assert page.evaluate(f"{VIEW}.querySelectorAll('img, script, b').length") == 0
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    "change",
    [
        {"picture": {"filename": '"><img src=x onerror=window.hacked=1>', "subfolder": "../..", "type": "input"}},
        {"picture": {"filename": {"toString": "x"}, "subfolder": 5, "type": None}},
        {"picture": "javascript:window.hacked=1"},
        {"picture": {"filename": "x" * 100_000, "subfolder": "", "type": "temp"}},
        {"map": "A" * 6_000_000},
        {"map": "%%%"},
        {"map": "AAAA"},
        {"map": None},
        {"width": 1e300},
        {"width": -5},
        {"height": "many"},
        {"box": "x"},
        {"box": [0, 0, 1]},
        {"box": [1, 1, 0, 0]},
        {"box": [0, 0, 1e300, 1]},
        {"box": [None, {}, [], "1"]},
        {"words": "x"},
        {"words": [None, 5, {"text": {}, "map": 7}, {"text": "w" * 100_000, "map": "AAAAAA=="}] * 1000},
        {"marked": "%%%"},
        {"marked": "AAAA"},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_a_hostile_answer_breaks_nothing(page, change):
    entry = {
        "picture": {"filename": "none.png", "subfolder": "", "type": "temp"}, "width": 128, "height": 128, "box": [0, 0, 1, 1],
        "query": "", "map": "AAAAAA==", "words": [], "marked": None, **change,
    }  # fmt: skip
    page.evaluate(f"entry => {ENCODE}.onExecuted({{ ssr_subject: [entry, null, 'text', {{}}] }})", entry)
    page.evaluate(f"() => {{ {ENCODE}.onExecuted({{ ssr_subject: 'text' }}); {ENCODE}.onExecuted(null); }}")
    page.evaluate(f"entry => {ENCODE}.onExecuted({{ ssr_subject: Array(1000).fill(entry) }})", entry)
    shown(page)
    assert view(page).locator(".ssr-chips button").count() <= 81
    assert all(len(text) <= 200 for text in view(page).locator(".ssr-chips button").all_text_contents())
    assert view(page).locator(".ssr-turn").text_content() in ("", "1 / 64")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate(f"{VIEW}.querySelectorAll('img, script').length") == 0


def test_an_error_of_ours_would_be_noticed(browser, server):
    page = browser.new_page()
    errors = Errors(page)
    page.goto(server.url)
    module = f"/extensions/{PACK_FOLDER}/lib/heat.js"
    page.evaluate(f"async () => {{ const heat = await import('{module}'); setTimeout(() => heat.shadePicture(null, 2)); }}")
    eventually(page, lambda: any("heat.js" in error for error in errors.ours()), True)
    errors.found.clear()
    page.evaluate(f"async () => {{ await import('/extensions/{PACK_FOLDER}/lib/none.js').catch(() => null); }}")
    # The console's messages tell their file beside the text.
    eventually(page, lambda: any("none.js" in error for error in errors.ours()), True)
    page.close()


def test_wheel_and_middle_button_over_the_picture_move_the_canvas(page):
    look(page)
    state = "() => [app.canvas.ds.scale, ...app.canvas.ds.offset]"
    page.mouse.move(*place_of(page, 64, 64))
    scale, left, top = page.evaluate(state)
    page.mouse.wheel(0, -120)
    page.wait_for_function(f"app.canvas.ds.scale > {scale}")
    page.wait_for_timeout(400)
    assert scale * 1.05 < page.evaluate(state)[0] < scale * 1.25, "one step"
    focus(page)
    scale, left, top = page.evaluate(state)
    page.mouse.move(*place_of(page, 64, 64))
    page.mouse.down(button="middle")
    for step in range(1, 6):
        x, y = 12 * step, 8 * step
        page.mouse.move(750 + x, 650 + y)
    moved = page.evaluate(state)
    page.mouse.up(button="middle")
    page.mouse.move(300, 300)
    assert moved[0] == scale
    assert (moved[1], moved[2]) != (left, top)
    assert page.evaluate(state) == moved, "let go"
    assert points(page) == []
