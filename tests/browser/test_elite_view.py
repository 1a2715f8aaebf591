"""The picture in Encode Subject (ELITE): its frame follows what is marked, and clicks count everywhere until a frame is set by hand."""

import json

import pytest
from support.browser import (
    PLACE,
    VIEW,
    button,
    click_reference,
    eventually,
    last_run,
    look,
    message,
    open_page,
    place_of,
    set_renderer,
    settled,
    still,
    view,
)
from support.templates import path_of

ENCODE = "app.graph._nodes.find(node => node.type === 'SSR_EncodeSubjectELITE')"
CORNERS = [(8, 8), (120, 8), (8, 120), (120, 120)]


@pytest.fixture
def page(browser, server):
    """With the object of the template's mask shown."""
    page, errors = open_page(browser, server.url)
    set_renderer(page, False)
    workflow = json.loads(path_of("ssr_mini_elite_picture_and_mask").read_text())
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", workflow)
    page.evaluate(f"() => {{ app.canvas.ds.scale = 1; app.canvas.centerOnNode({ENCODE}); app.canvas.setDirty(true, true); }}")
    page.wait_for_timeout(500)
    still(page, PLACE)
    look(page)
    yield page
    page.close()
    assert errors.ours() == []


def entry(page):
    return page.evaluate(f"app.nodeOutputs[{ENCODE}.id].ssr_subject[0]")


def widget(page, name):
    return page.evaluate(f"name => {ENCODE}.widgets.find(widget => widget.name === name).value", name)


def set_crop(page, text):
    page.evaluate(
        f"text => {{ const w = {ENCODE}.widgets.find(w => w.name === 'crop'); w.value = text; w.callback(text); }}", text
    )


def beside(page):
    """A corner of the picture that is not in the frame."""
    left, top, right, bottom = (128 * side for side in entry(page)["box"])
    return next((x, y) for x, y in CORNERS if not (left < x + 1 and x < right and top < y + 1 and y < bottom))


def cursor(page, *place):
    page.mouse.move(*place_of(page, *place))
    return page.evaluate(f"{VIEW}.querySelector('canvas').style.cursor")


def test_a_click_beside_the_frame_joins_what_is_marked(page, server):
    assert entry(page)["around"]
    first = beside(page)
    assert cursor(page, *first) == "crosshair"
    click_reference(page, *first)
    settled(page)
    assert widget(page, "points") == "{}, {}".format(*first)
    assert last_run(server)["status"]["status_str"] == "success"
    left, top, right, bottom = (128 * side for side in entry(page)["box"])
    assert left <= first[0] < right
    assert top <= first[1] < bottom


def test_without_a_mask_or_a_click_it_is_told_that_the_whole_picture_counts(page):
    page.evaluate(f"() => {{ const e = {ENCODE}; e.disconnectInput(e.inputs.findIndex(input => input.name === 'mask')); }}")
    button(page, "Look").click()
    eventually(page, lambda: message(page), "No mask and no click: the whole picture counts as the object")
    click_reference(page, 64, 64)
    settled(page)


def test_a_frame_around_what_is_marked_is_not_dragged_by_accident(page):
    assert "arrow keys" not in view(page).locator("canvas").get_attribute("title")
    left, top, right, bottom = (128 * side for side in entry(page)["box"])
    edge = (right, (top + bottom) / 2) if right < 120 else (left, (top + bottom) / 2)
    page.mouse.move(*place_of(page, edge[0] - 0.5, edge[1] - 0.5))
    page.mouse.down()
    page.mouse.move(*place_of(page, 64, 64), steps=6)
    page.mouse.up()
    settled(page)
    assert widget(page, "crop") == ""
    assert widget(page, "points"), "it was a stroke"


def test_beside_a_frame_set_by_hand_nothing_is_seen_and_no_fit_is_spoken_of(page):
    place = beside(page)
    left, top, right, bottom = (round(128 * side) for side in entry(page)["box"])
    set_crop(page, f"{left}, {top}, {right}, {bottom}")
    look(page)
    assert not entry(page)["around"]
    assert "arrow keys" in view(page).locator("canvas").get_attribute("title")
    assert cursor(page, *place) == "not-allowed"
    click_reference(page, *place)
    page.wait_for_timeout(300)
    assert widget(page, "points") == ""
    assert message(page) == "Outside the frame nothing is seen. Move or enlarge the frame"
    set_crop(page, "")
    look(page)
    assert cursor(page, *place) == "crosshair"


def test_a_crop_that_is_wider_than_the_frame_is_seen_at_once(page):
    """The frame around the object lies within it, as the middle of a crop does where a fit takes that."""
    place = beside(page)
    set_crop(page, "0, 0, 128, 128")
    assert cursor(page, *place) != "not-allowed"
