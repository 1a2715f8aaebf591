"""Clicks and strokes on the picture in Encode Subject become points that select, whatever else happens at the same time."""

import itertools

import pytest
from support.browser import (
    ENCODE,
    VIEW,
    button,
    clear_points,
    click_reference,
    focus,
    last_run,
    load,
    look,
    open_page,
    pixels,
    place_of,
    points,
    runs,
    set_widget,
    settled,
    template,
    view,
    widget,
)

SUBJECT = {
    "picture": {"filename": "none.png", "subfolder": "", "type": "temp"}, "width": 128, "height": 128, "box": [0, 0, 1, 1],
    "query": "late", "map": "AAAAAA==", "words": [{"text": "late", "map": "AAAAAA=="}], "marked": None,
}  # fmt: skip


def stroke(page, *places, steps=12):
    """With the button still down at the end."""
    page.mouse.move(*place_of(page, *places[0]))
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place_of(page, *place), steps=steps)


def test_clicks_and_strokes_become_points_that_select(page, server):
    set_widget(page, "query", "")
    set_widget(page, "points", "64, 64")
    look(page)
    click_reference(page, 26, 90)
    settled(page)
    assert points(page) == [(64, 64), (26, 90)]
    assert last_run(server)["status"]["status_str"] == "success"

    click_reference(page, 65, 63)  # on the first point
    settled(page)
    assert points(page) == [(26, 90)]

    stroke(page, (77, 26), (115, 26))
    page.mouse.up()
    settled(page)
    drawn = points(page)[1:]
    assert drawn[0] == (77, 26)
    assert 2 <= len(drawn) <= 7
    assert all(left[0] < right[0] and left[1] == right[1] for left, right in itertools.pairwise(drawn))

    selected = pixels(page)
    set_widget(page, "query", "cat")
    button(page, "Clear points").click()
    settled(page)
    assert widget(page, "points") == ""
    assert not button(page, "Clear points").is_visible()
    assert pixels(page) != selected


def test_typed_points_are_seen_and_a_click_adds_to_them(page):
    look(page)
    bare = pixels(page)
    page.evaluate(
        f"() => {{ const w = {ENCODE}.widgets.find(w => w.name === 'points'); w.value = '20.5, 100'; w.callback('20.5, 100'); }}"
    )
    assert button(page, "Clear points").is_visible()
    assert pixels(page) != bare
    set_widget(page, "points", "20.5, 100; 90, 90")  # nobody tells
    click_reference(page, 40, 30)
    settled(page)
    assert points(page) == [(20.5, 100), (90, 90), (40, 30)]


def test_unreadable_points_are_not_shown_and_a_click_starts_afresh(page):
    set_widget(page, "query", "cat")
    look(page)
    set_widget(page, "points", "somewhere; 3, 4")
    click_reference(page, 40, 30)
    settled(page)
    assert points(page) == [(40, 30)]


@pytest.mark.parametrize("zoom", [0.3, 0.6, 2])
def test_points_land_where_the_mouse_is_at_any_zoom(page, zoom):
    look(page)
    focus(page, zoom)
    click_reference(page, 96, 40)
    settled(page)
    ((x, y),) = points(page)
    pixel = 1 / zoom  # of the window, in pixels of the reference, at least
    assert (x, y) == pytest.approx((96, 40), abs=max(0.5, pixel))


def test_points_land_where_the_mouse_is_on_a_screen_of_double_density(browser, server):
    page, errors = open_page(browser, server.url, device_scale_factor=2)
    load(page, template())
    look(page)
    assert page.evaluate(f"{VIEW}.querySelector('canvas').width === 2 * {VIEW}.querySelector('canvas').clientWidth")
    click_reference(page, 96, 40)
    settled(page)
    page.close()
    assert errors.ours() == []


def test_a_click_at_the_edge_stays_inside(page, server):
    set_widget(page, "query", "")
    set_widget(page, "points", "3, 3")
    look(page)
    click_reference(page, 127.4, 127.4)
    settled(page)
    assert points(page)[-1] == (127, 127)
    assert last_run(server)["status"]["status_str"] == "success"


@pytest.mark.parametrize(("width", "height"), [(192, 128), (128, 192)])
def test_outside_of_the_encoders_crop_it_is_dark_and_clicks_do_nothing(page, server, width, height):
    size = {"width": width, "height": height}
    page.evaluate(
        f"""([width, height]) => {{
            const encode = {ENCODE};
            const image = encode.inputs.findIndex(input => input.name === "image");
            const scene = encode.getInputNode(image);
            const scale = LiteGraph.createNode("ImageScale");
            app.graph.add(scale);
            for (const [name, value] of Object.entries({{ width, height, crop: "disabled" }}))
                scale.widgets.find(widget => widget.name === name).value = value;
            scene.connect(0, scale, scale.inputs.findIndex(input => input.name === "image"));
            scale.connect(0, encode, image);
        }}""",
        [width, height],
    )
    places = [(x, y) for x in range(4, width, 24) for y in range(4, height, 24)]  # none on the frame
    seen, edge = {}, {}
    for fit in ("stretch", "pad", "center crop"):
        set_widget(page, "fit", fit)
        look(page)
        for opacity in ("1", "0"):  # bare at last, for the frame
            view(page).locator("input[type=range]").fill(opacity)
            seen[fit, opacity] = [colour(page, *place, width, height) for place in places]
        edge[fit] = whiteness_at_the_crops_edge(page, width, height)
    cropped = [abs(x - width / 2) > 64 or abs(y - height / 2) > 64 for x, y in places]
    for number, outside in enumerate(cropped):
        bare = seen["stretch", "0"][number]
        assert seen["pad", "0"][number] == pytest.approx(bare, abs=3)
        assert seen["center crop", "0"][number] == pytest.approx([value * (0.5 if outside else 1) for value in bare], abs=3)
        assert not outside or seen["center crop", "1"][number] == seen["center crop", "0"][number], "heat outside"
    for fit in ("stretch", "pad", "center crop"):
        assert seen[fit, "1"] != seen[fit, "0"], "no heat"
    assert edge["pad"] == pytest.approx(edge["stretch"], abs=3), "no frame where all is seen"
    dashed = [framed > bare + 10 for framed, bare in zip(edge["center crop"], edge["pad"], strict=True)]
    starts = sum(dash and not before for before, dash in itertools.pairwise(dashed))
    assert starts == pytest.approx(len(dashed) / 10, rel=0.3)  # six pixels of ten
    assert sum(dashed) == pytest.approx(0.6 * len(dashed), rel=0.3)

    before = runs(server)
    outside, inside = ((10, 70), (50, 70)) if width > height else ((70, 10), (70, 50))
    page.mouse.move(*place_of(page, *outside, **size))
    assert page.evaluate(f"{VIEW}.querySelector('canvas').style.cursor") == "not-allowed"
    click_reference(page, *outside, **size)
    page.wait_for_timeout(500)
    assert (points(page), runs(server)) == ([], before)
    page.mouse.move(*place_of(page, *inside, **size))
    assert page.evaluate(f"{VIEW}.querySelector('canvas').style.cursor") == "crosshair"
    click_reference(page, *inside, **size)
    settled(page)
    ((x, y),) = points(page)
    assert (x, y) == pytest.approx(inside, abs=0.5)
    assert last_run(server)["status"]["status_str"] == "success"
    set_widget(page, "fit", "pad")
    look(page)
    click_reference(page, *outside, **size)
    settled(page)
    assert len(points(page)) == 2


def colour(page, x, y, width, height):
    """Of a pixel of the reference, as the view's canvas shows it."""
    return page.evaluate(
        f"""([x, y, width, height]) => {{
            const canvas = {VIEW}.querySelector("canvas");
            const scale = Math.min(canvas.width / width, canvas.height / height);
            const left = (canvas.width - scale * width) / 2 + (x + 0.5) * scale;
            const top = (canvas.height - scale * height) / 2 + (y + 0.5) * scale;
            return [...canvas.getContext("2d").getImageData(left, top, 1, 1).data].slice(0, 3);
        }}""",
        [x, y, width, height],
    )


def whiteness_at_the_crops_edge(page, width, height):
    """The darkest channel of each of the canvas's pixels along one side of the middle square, the lightest of three across it."""
    return page.evaluate(
        f"""([width, height]) => {{
            const canvas = {VIEW}.querySelector("canvas");
            const side = Math.min(width, height), scale = Math.min(canvas.width / width, canvas.height / height);
            const left = (canvas.width - scale * side) / 2, top = (canvas.height - scale * side) / 2, length = Math.floor(scale * side);
            const upright = width > height;
            const at = (along, across) => {{
                const place = upright ? [left + across, top + along] : [left + along, top + across];
                return Math.min(...[...canvas.getContext("2d").getImageData(...place, 1, 1).data].slice(0, 3));
            }};
            return Array.from({{ length }}, (_, along) => Math.max(...[-1, 0, 1].map(across => at(along, across))));
        }}""",
        [width, height],
    )


def test_a_result_that_comes_in_the_middle_of_a_stroke_waits_for_its_end(page):
    set_widget(page, "points", "10, 10")
    look(page)
    stroke(page, (40, 60), (60, 60))
    page.evaluate(f"subject => {ENCODE}.onExecuted({{ ssr_subject: [subject] }})", SUBJECT)
    page.wait_for_timeout(400)
    assert view(page).locator(".ssr-chips button").first.text_content() != "late"
    page.mouse.move(*place_of(page, 90, 60), steps=8)
    page.mouse.up()
    settled(page)
    assert points(page)[:2] == [(10, 10), (40, 60)]
    assert points(page)[-1][0] > 75


def test_a_cancelled_stroke_changes_nothing_and_a_lost_one_is_written(page, server):
    look(page)
    before = runs(server)
    seen = pixels(page)
    stroke(page, (40, 60), (80, 60))
    page.evaluate(
        f"{VIEW}.querySelector('canvas').dispatchEvent(new PointerEvent('pointercancel', {{ pointerId: 1, isPrimary: true }}))"
    )
    page.mouse.up()
    page.mouse.move(5, 5)
    page.wait_for_timeout(300)
    assert (points(page), runs(server), pixels(page)) == ([], before, seen)
    stroke(page, (40, 60), (80, 60))
    page.evaluate(f"{VIEW}.querySelector('canvas').releasePointerCapture(1)")
    page.mouse.move(*place_of(page, 82, 60))
    settled(page)
    drawn = points(page)
    assert len(drawn) >= 2
    page.mouse.up()
    page.wait_for_timeout(300)
    assert points(page) == drawn


def test_a_second_finger_neither_draws_nor_ends_the_stroke(page):
    look(page)
    stroke(page, (30, 30), (60, 30))
    x, y = place_of(page, 100, 100)
    for kind in ("pointerdown", "pointermove", "pointerup", "lostpointercapture"):
        page.evaluate(
            f"""([kind, clientX, clientY]) => {VIEW}.querySelector("canvas").dispatchEvent(new PointerEvent(
                kind, {{ clientX, clientY, pointerId: 2, isPrimary: false, pointerType: "touch", bubbles: true, button: 0 }}))""",
            [kind, x, y],
        )
    assert points(page) == [], "not written before its end"
    page.mouse.move(*place_of(page, 90, 30), steps=6)
    page.mouse.up()
    settled(page)
    assert len(points(page)) >= 3
    assert {y for _, y in points(page)} == {30}


def test_while_points_come_by_a_link_the_picture_only_shows(page, server):
    set_widget(page, "points", "9, 9")
    page.evaluate(
        f"""() => {{
            const encode = {ENCODE};
            const text = LiteGraph.createNode("PrimitiveString");
            app.graph.add(text);
            text.widgets[0].value = "64, 64";
            text.connect(0, encode, encode.inputs.findIndex(input => input.name === "points"));
        }}"""
    )
    look(page)
    before = runs(server)
    canvas = view(page).locator("canvas")
    assert "Click" not in canvas.get_attribute("title")
    assert "Click" not in canvas.get_attribute("aria-label")
    assert not button(page, "Clear points").is_visible()
    click_reference(page, 30, 30)
    page.wait_for_timeout(500)
    assert (widget(page, "points"), runs(server)) == ("9, 9", before)
    page.evaluate(f"() => {{ const e = {ENCODE}; e.disconnectInput(e.inputs.findIndex(input => input.name === 'points')); }}")
    assert "Click" in canvas.get_attribute("title")
    click_reference(page, 30, 30)
    settled(page)
    assert points(page) == [(9, 9), (30, 30)]


def test_without_points_query_and_mask_nothing_runs(page, server):
    set_widget(page, "query", "")
    set_widget(page, "points", "64, 64")
    look(page)
    before = runs(server)
    selected = pixels(page)
    button(page, "Clear points").click()
    page.wait_for_timeout(600)
    assert (widget(page, "points"), runs(server)) == ("", before)
    assert pixels(page) != selected, "what is not selected any more is not shown as if it were"
    click_reference(page, 64, 64)
    settled(page)
    before = runs(server)
    click_reference(page, 64, 64)
    page.wait_for_timeout(600)
    assert (widget(page, "points"), runs(server)) == ("", before)

    page.evaluate(
        f"""() => {{
            const encode = {ENCODE};
            const scene = encode.getInputNode(encode.inputs.findIndex(input => input.name === "image"));
            scene.connect(1, encode, encode.inputs.findIndex(input => input.name === "mask"));
        }}"""
    )
    click_reference(page, 64, 64)
    settled(page)
    before = runs(server)
    button(page, "Clear points").click()
    settled(page)
    assert runs(server) == before + 1
    assert last_run(server)["status"]["status_str"] == "success"
    clear_points(page)
