"""What a node looks like when it is added: its title fits, and its parts stand in the same order whichever module arrives first."""

import re

import pytest
from support.browser import Errors, loaded, open_page


def widgets(page, kind):
    return page.evaluate(
        "kind => { const node = LiteGraph.createNode(kind); app.graph.add(node); return node.widgets.map(one => one.name); }",
        kind,
    )


def test_every_title_fits_its_node(browser, server):
    page, errors = open_page(browser, server.url)
    wide = page.evaluate(
        """() => {
            const ctx = document.createElement("canvas").getContext("2d");
            const ours = Object.keys(LiteGraph.registered_node_types).filter(name => name.startsWith("SSR_"));
            return ours.map(name => LiteGraph.createNode(name)).filter(node => {
                ctx.font = node.titleFontStyle ?? "14px Arial";
                return ctx.measureText(node.title).width > node.size[0] - 34;
            }).map(node => node.title);
        }"""
    )
    assert wide == []
    assert errors.ours() == []
    page.close()


@pytest.mark.parametrize("late", ["ssr_subject.js", "ssr_text.js"])
def test_a_loaded_subjects_picture_stands_above_its_text_whichever_module_is_late(browser, server, late):
    page = browser.new_page()
    errors = Errors(page)
    page.route(re.compile(rf"/{re.escape(late)}"), lambda route: (page.wait_for_timeout(1500), route.continue_()))
    page.goto(server.url)
    loaded(page)
    for kind in ("SSR_LoadSubject", "SSR_LoadObjectsMIP", "SSR_LoadSubjectELITE"):
        assert widgets(page, kind)[-2:] == ["ssr_view", "report"]
    for kind in ("SSR_LearnSubjectLASR", "SSR_SaveSubjectLASR", "SSR_LoadSubjectLASR"):
        assert widgets(page, kind)[-1] == "report"
    assert widgets(page, "SSR_SelectByPoints")[-1] == "ssr_view"
    assert widgets(page, "SSR_MiniScene")[-1] == "report"
    assert errors.ours() == []
    page.close()
