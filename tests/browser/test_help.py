"""The help pages in the frontend: there in the user's language, with their pictures, and nothing is asked for that is not there."""

import pytest
from support.browser import ENCODE, draws_dom_widgets, load, loaded, open_page, template
from support.server import PACK_FOLDER


@pytest.mark.parametrize(("language", "heading"), [("en", "Encode Subject"), ("zh", "编码主体")])
def test_help_opens_with_its_picture_and_asks_for_nothing_that_is_not_there(browser, server, request, language, heading):
    page, errors = open_page(browser, server.url)
    if not draws_dom_widgets(page):
        page.close()
        pytest.skip("this frontend shows help pages elsewhere")
    missing = []
    page.on("response", lambda answer: answer.status == 404 and PACK_FOLDER in answer.url and missing.append(answer.url))
    page.evaluate("language => app.extensionManager.setting.set('Comfy.Locale', language)", language)
    page.reload()  # a change of language makes the graph anew at some moment
    loaded(page)
    try:
        load(page, template())
        page.evaluate(f"() => {{ app.canvas.selectItems([{ENCODE}]); }}")
        page.evaluate("() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', true)")
        page.get_by_test_id("panel-tab-info").click(timeout=60_000)
        picture = page.locator("img[src*='docs/images/encode_subject.jpg']").first
        picture.wait_for(state="visible", timeout=60_000)
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        assert page.get_by_role("heading", name=heading).count() > 0
        if folder := request.config.getoption("--screenshots"):
            page.screenshot(path=f"{folder}/help_{language}.png")
    finally:
        page.evaluate("() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)")
        page.evaluate("() => app.extensionManager.setting.set('Comfy.Locale', 'en')")
        page.close()
    assert missing == []
    assert errors.ours() == []
