"""What the view tells beside its map: errors, what is missing, what has changed, points of another picture."""

import pytest
from support.browser import (
    ENCODE,
    TRACKER,
    button,
    click_reference,
    draws_dom_widgets,
    eventually,
    last_run,
    load,
    loaded,
    look,
    message,
    noticed,
    open_page,
    pixels,
    points,
    runs,
    set_widget,
    settled,
    shown,
    stale,
    template,
    view,
    widget,
)

SCENE = "app.graph._nodes.find(node => node.type === 'SSR_MiniScene')"


def another_scene(page, number):
    page.evaluate(f"number => {{ {SCENE}.widgets.find(widget => widget.name === 'scene').value = number; }}", number)
    noticed(page)


def scene_number(page):
    return page.evaluate(f"{SCENE}.widgets.find(widget => widget.name === 'scene').value")


def fault(page):
    element = view(page).locator(".ssr-fault")
    element.wait_for(state="visible", timeout=60_000)
    told = element.text_content()
    page.keyboard.press("Escape")  # older frontends open a dialog of their own over everything
    page.wait_for_timeout(500)
    return told


def take_from_files(page, name, file=None):
    """Encode Subject's input comes from Load SSR Models. file: its encoder, in place of one that is there and empty."""
    page.evaluate(
        f"""([name, file]) => {{
            const encode = {ENCODE}, models = LiteGraph.createNode("SSR_LoadModels");
            app.graph.add(models);
            models.title = "Files";
            if (file) models.widgets[0].value = file;
            const slot = models.outputs.findIndex(output => output.name === name);
            models.connect(slot, encode, encode.inputs.findIndex(input => input.name === name));
        }}""",
        [name, file],
    )


def test_in_the_parameters_panel_it_has_no_row_and_its_width_stays_the_nodes(page, request):
    if not draws_dom_widgets(page):
        pytest.skip("this frontend has no Parameters panel")
    look(page)
    before = view(page).bounding_box()["width"]
    page.evaluate(f"() => {{ app.canvas.deselectAll(); app.canvas.selectItems([{ENCODE}]); }}")
    page.evaluate("() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', true)")
    try:
        page.locator(".widget-item").first.wait_for(timeout=30_000)
        page.locator(".widget-item", has_text="query").first.wait_for(timeout=30_000)
        rows = page.locator(".widget-item").all_text_contents()
        assert not any("ssr_view" in row for row in rows), rows
        page.evaluate(
            f"() => {{ {ENCODE}.widgets.find(one => one.name === 'ssr_view').width = 625; app.canvas.setDirty(true, true); }}"
        )
        page.wait_for_timeout(500)
        if folder := request.config.getoption("--screenshots"):
            page.screenshot(path=f"{folder}/panel_{request.node.callspec.id.replace(' ', '_')}.png")
        assert view(page).bounding_box()["width"] == pytest.approx(before, rel=0.02)
    finally:
        page.evaluate("() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)")


def test_an_error_stands_in_the_view_until_the_next_run(page):
    set_widget(page, "points", "500, 500")
    button(page, "Look").click()
    assert "None of the 1 points lies in the part of the picture that the encoder sees" in fault(page)
    assert view(page).locator(".ssr-fault").get_attribute("role") == "alert"
    set_widget(page, "points", "")
    look(page)
    assert not view(page).locator(".ssr-fault").is_visible()


def test_a_refused_prompt_is_told_too(page):
    page.evaluate(f"() => {{ const e = {ENCODE}; e.disconnectInput(e.inputs.findIndex(input => input.name === 'image')); }}")
    page.evaluate("() => app.queuePrompt(0, 1)")
    assert "Required input is missing: image" in fault(page)
    view(page).locator(".ssr-fault").click()
    assert not view(page).locator(".ssr-fault").is_visible(), "a click takes it away"


@pytest.mark.parametrize(("language", "words"), [("zh", "所有点都在"), ("fr", "tous les points"), ("ru", "точки")])
def test_an_error_is_told_in_the_users_language(browser, server, language, words):
    page, errors = open_page(browser, server.url)
    page.evaluate("language => app.extensionManager.setting.set('Comfy.Locale', language)", language)
    page.reload()  # a change of language makes the graph anew at some moment
    loaded(page)
    try:
        load(page, template())
        set_widget(page, "points", "500, 500")
        view(page).locator("button[title]").first.click()
        told = fault(page)
        assert words in told
        assert "`" not in told
        assert "None of the 1 points" in view(page).locator(".ssr-fault").get_attribute("title"), (
            "the words of the host, to search for"
        )
    finally:
        page.evaluate("() => app.extensionManager.setting.set('Comfy.Locale', 'en')")
        page.close()
    assert errors.ours() == []


def test_an_empty_query_is_told_before_anything_runs(page, server):
    before = runs(server)
    set_widget(page, "query", " ")
    noticed(page)
    nothing = "Nothing says what to take: write a query, connect a mask, or click on the picture"
    assert message(page) == f"{nothing}\nLook shows the picture"
    blank = pixels(page)
    button(page, "Look").click()
    eventually(page, lambda: message(page), nothing)
    shown(page)
    assert pixels(page) != blank
    assert runs(server) == before + 1
    assert last_run(server)["status"]["status_str"] == "success"
    click_reference(page, 64, 64)
    settled(page)
    assert points(page) == [(64, 64)]
    assert widget(page, "query") == " "
    look(page)
    assert view(page).locator(".ssr-stale").is_hidden()


def test_a_picture_is_shown_before_anything_selects_also_if_it_was_changed(page, server):
    set_widget(page, "query", "")
    noticed(page)
    button(page, "Look").click()
    shown(page)
    first = pixels(page)
    another_scene(page, 7)
    assert stale(page)
    click_reference(page, 64, 64)  # in a picture that is not the node's any more
    eventually(page, lambda: pixels(page) != first, True)
    shown(page)
    assert points(page) == []
    assert not stale(page)
    click_reference(page, 64, 64)
    settled(page)
    assert points(page) == [(64, 64)]


def test_where_nothing_selects_what_a_node_before_it_lacks_is_told_too(page, server):
    """Mini Scene could run by itself: it must not pass for an answer."""
    set_widget(page, "query", "")
    noticed(page)
    before = runs(server)
    take_from_files(page, "clip_vision", "nothing.safetensors")
    button(page, "Look").click()
    assert fault(page).startswith('Files: There is no SSR-Encoder file "nothing.safetensors"')
    assert runs(server) == before


def test_what_a_node_before_it_fails_at_is_told_too(page):
    take_from_files(page, "ssr_encoder")
    button(page, "Look").click()
    assert fault(page).startswith("Files: ")  # the files are there, and empty
    load(page, template())


def test_a_result_of_the_former_picture_takes_no_clicks(page):
    look(page)
    held = []
    page.route("**/view?*", lambda route: held.append(route))
    set_widget(page, "query", "a cat")
    with page.expect_request("**/view?*"):
        button(page, "Look").click()
    another_scene(page, 7)
    for route in held:
        route.continue_()
    page.unroute("**/view?*")
    settled(page)
    assert stale(page)
    with page.expect_request("**/view?*"):
        click_reference(page, 64, 64)
    settled(page)
    assert (points(page), stale(page)) == ([], False)


def test_what_a_node_before_it_lacks_is_told_until_it_is_another(page):
    look(page)
    take_from_files(page, "ssr_encoder", "nothing.safetensors")
    noticed(page)
    button(page, "Look").click()
    told = fault(page)
    assert told.startswith('Files: There is no SSR-Encoder file "nothing.safetensors"')
    assert told.count("nothing.safetensors") == 1, "the host repeats it for every input"
    page.evaluate(f"() => {{ const e = {ENCODE}; e.disconnectInput(e.inputs.findIndex(one => one.name === 'ssr_encoder')); }}")
    noticed(page)
    assert not view(page).locator(".ssr-fault").is_visible()


def test_what_was_made_of_something_else_is_marked_and_look_offered(page):
    look(page)
    assert not stale(page)
    for change, back in ((("query", "a star"), ("query", "cat")), (("fit", "pad"), ("fit", "center crop"))):
        set_widget(page, *change)
        noticed(page)
        assert stale(page)
        assert "ssr-wanted" in button(page, "Look").get_attribute("class")
        set_widget(page, *back)
        noticed(page)
        assert not stale(page), "as it was"
    set_widget(page, "strength", 0.5)
    noticed(page)
    assert not stale(page), "changes nothing that is shown"
    another_scene(page, 5)
    assert stale(page)
    look(page)
    assert not stale(page)


def test_what_was_changed_while_it_ran_is_stale_when_it_comes(page):
    look(page)
    held = []
    page.route("**/view?*", lambda route: held.append(route))
    set_widget(page, "query", "a star")
    with page.expect_request("**/view?*"):
        button(page, "Look").click()
    set_widget(page, "query", "a cat")
    noticed(page)
    for route in held:
        route.continue_()
    page.unroute("**/view?*")
    settled(page)
    assert stale(page)


def test_points_of_another_picture_are_dropped_and_can_be_brought_back(page, server):
    look(page)
    click_reference(page, 64, 64)
    settled(page)
    before = runs(server)
    another_scene(page, 7)
    assert (widget(page, "points"), runs(server)) == ("", before)
    back = button(page, "Bring back")
    assert back.is_visible()
    back.click()
    settled(page)
    assert points(page) == [(64, 64)]
    assert not back.is_visible()
    assert not stale(page)
    another_scene(page, 8)
    assert points(page) == []
    look(page)
    click_reference(page, 30, 30)
    settled(page)
    assert points(page) == [(30, 30)]
    assert not back.is_visible(), "new points take their place"


def test_a_frame_of_another_picture_is_dropped_with_the_points_and_brought_back_with_them(page, server):
    set_widget(page, "crop", "8, 8, 120, 120")
    look(page)
    click_reference(page, 64, 64)
    settled(page)
    before = runs(server)
    another_scene(page, 7)
    assert (widget(page, "crop"), widget(page, "points"), runs(server)) == ("", "", before)
    button(page, "Bring back").click()
    settled(page)
    assert (widget(page, "crop"), points(page)) == ("8, 8, 120, 120", [(64, 64)])
    assert runs(server) == before + 1
    assert not button(page, "Bring back").is_visible()


def test_a_frame_alone_is_dropped_too_and_a_new_click_takes_its_place(page):
    set_widget(page, "crop", "8, 8, 120, 120")
    look(page)
    another_scene(page, 7)
    assert widget(page, "crop") == ""
    assert button(page, "Bring back").is_visible()
    look(page)
    click_reference(page, 30, 30)
    settled(page)
    assert not button(page, "Bring back").is_visible()


def test_another_mark_in_the_same_scene_leaves_the_points(page):
    look(page)
    click_reference(page, 64, 64)
    settled(page)
    page.evaluate(f"() => {{ {SCENE}.widgets.find(widget => widget.name === 'marked').value = 2; }}")
    noticed(page)
    assert points(page) == [(64, 64)]


def test_undo_brings_points_and_their_picture_back_together(page):
    look(page)
    noticed(page)
    click_reference(page, 64, 64)
    settled(page)
    noticed(page)
    another_scene(page, 7)
    noticed(page)
    assert points(page) == []
    steps = 0
    while scene_number(page) == 7 and steps < 2:  # the points went after the picture: a step of their own, or the same one
        page.evaluate(f"async () => {{ await {TRACKER}.undo(); }}")
        page.wait_for_timeout(600)
        steps += 1
    assert scene_number(page) != 7
    assert points(page) == [(64, 64)]
