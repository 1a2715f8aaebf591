"""The pack in the frontend's search, and its wires in the frontend's colours."""

import pytest
from support.browser import open_page


@pytest.fixture(scope="module")
def page(browser, server):
    page, errors = open_page(browser, server.url)
    yield page
    assert errors.ours() == []
    page.close()


@pytest.mark.parametrize("typed", ["ipadapter", "reference", "consistent character", "style"])
def test_of_the_packs_nodes_those_that_encode_are_found_first(page, server, typed):
    store = "document.getElementById('vue-app').__vue_app__.config.globalProperties.$pinia._s.get('nodeDef')"
    if not page.evaluate(f"'search_aliases' in {store}.nodeDefsByName.SSR_EncodeSubject"):
        pytest.skip("this frontend's search knows no other words than a node's names")
    found = page.evaluate(f"typed => {store}.nodeSearchService.searchNode(typed, []).map(node => node.name)", typed)
    ours = [
        name for name in found if name.startswith("SSR_") and name != "SSR_LoadMIPAdapter"
    ]  # its own name has "ipadapter" in it
    encoding = [name for name in server.get("/object_info") if name.startswith("SSR_Encode")]
    assert set(ours[: len(encoding)]) == set(encoding)


def test_a_wire_keeps_its_colour_when_the_palette_changes(page):
    """In the canvas and in Nodes 2.0."""
    for palette in ("dark", "light", "nord"):
        page.evaluate("palette => app.extensionManager.setting.set('Comfy.ColorPalette', palette)", palette)
        page.wait_for_timeout(300)
        link, slot, style, core = page.evaluate(
            """() => [LGraphCanvas.link_type_colors.SSR_SUBJECT, app.canvas.default_connection_color_byType.SSR_SUBJECT,
                getComputedStyle(document.documentElement).getPropertyValue("--color-datatype-SSR_SUBJECT").trim(),
                LGraphCanvas.link_type_colors.MODEL]"""
        )
        assert (link, slot, style) == ("#ffdb33",) * 3, palette
        assert core not in ("", "#ffdb33")
    page.evaluate("app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")
