"""ComfyUI's page as the browser tests drive it: opened in one of its renderers, with the errors that are ours, and the view's parts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.server import PACK_FOLDER
from support.templates import path_of

TEMPLATE = path_of("ssr_mini_text_query")
ENCODE = "app.canvas.graph._nodes.find(node => node.type === 'SSR_EncodeSubject')"
VIEW = "document.querySelector('ssr-subject-view')"
PLACE = f"Object.values({VIEW}?.getBoundingClientRect().toJSON() ?? {{}})"
TRACKER = "app.extensionManager.workflow.activeWorkflow.changeTracker"
SUBGRAPH_NODES = "app.graph._nodes.filter(node => node.subgraph)"


class Errors:
    """What a page complains about: thrown errors with their stack, console errors with the file that they come from."""

    def __init__(self, page: Any) -> None:
        self.found: list[str] = []
        page.on("pageerror", lambda error: self.found.append(f"{error} {error.stack or ''}"))
        page.on("console", self._console)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.found.append(f"{message.text} {message.location['url']}")

    def ours(self) -> list[str]:
        return [error for error in self.found if "ssr" in error.lower() or PACK_FOLDER in error]


def open_page(browser: Any, url: str, **options: Any) -> tuple[Any, Errors]:
    """The frontend, loaded; options as of a browser's new_page."""
    page = browser.new_page(**{"viewport": {"width": 1500, "height": 1300}, **options})
    errors = Errors(page)
    page.goto(url)
    loaded(page)
    return page, errors


def loaded(page: Any) -> None:
    """Until the frontend has opened its own first workflow, which would take the place of one that is opened before."""
    workflow = "window.app?.extensionManager?.workflow?.activeWorkflow?.changeTracker"
    page.wait_for_function(f"{workflow} && !window.app.extensionManager.spinner", timeout=90_000)


def draws_dom_widgets(page: Any) -> bool:
    """Whether Nodes 2.0 of this frontend mounts elements of packs: from 1.28 on."""
    return version(page) >= (1, 28)


def version(page: Any) -> tuple[int, int]:
    """Of the frontend."""
    major, minor, *_ = page.evaluate("window.__COMFYUI_FRONTEND_VERSION__").split(".")
    return int(major), int(minor)


def set_renderer(page: Any, nodes2: bool) -> None:
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", nodes2)


def template() -> Any:
    """The text query's, with two sampling steps: views look before anything is sampled."""
    workflow = json.loads(TEMPLATE.read_text())
    (sampler,) = (node for node in workflow["nodes"] if node["type"] == "KSampler")
    sampler["widgets_values"][2] = 2
    return workflow


def load(page: Any, workflow: Any) -> None:
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", workflow)
    page.wait_for_timeout(300)
    focus(page)


def focus(page: Any, scale: float = 1) -> None:
    """Brings the view's node into the middle of the window."""
    page.evaluate(
        f"scale => {{ app.canvas.ds.scale = scale; app.canvas.centerOnNode({ENCODE}); app.canvas.setDirty(true, true); }}",
        scale,
    )
    page.wait_for_timeout(500)
    still(page, PLACE)


def still(page: Any, numbers: str) -> None:
    """Waits until the numbers of an expression are the same for ten frames: a busy machine is late to lay things out."""
    page.evaluate(
        f"""async () => {{
            let last = "", same = 0;
            for (let frame = 0; frame < 600 && same < 10; frame++) {{
                await new Promise(requestAnimationFrame);
                const now = JSON.stringify({numbers});
                same = now === last ? same + 1 : 0;
                last = now;
            }}
        }}"""
    )


def eventually(page: Any, read: Callable[[], Any], expected: Any) -> None:
    """Waits until what is read is as expected; what it is in the end fails the test."""
    deadline = time.monotonic() + 30
    while (found := read()) != expected and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert found == expected


def shown(page: Any) -> None:
    """Waits until the view has taken what it was told last, or has refused it."""
    page.wait_for_function(f"{VIEW}.getAttribute('aria-busy') !== 'true'", timeout=60_000)


def set_widget(page: Any, name: str, value: Any) -> None:
    page.evaluate(
        f"([name, value]) => {{ {ENCODE}.widgets.find(widget => widget.name === name).value = value; }}", [name, value]
    )


def widget(page: Any, name: str) -> Any:
    return page.evaluate(f"name => {ENCODE}.widgets.find(widget => widget.name === name).value", name)


def points(page: Any) -> list[tuple[float, ...]]:
    """Of the points input, as numbers."""
    return [tuple(map(float, point.split(","))) for point in widget(page, "points").split(";") if point]


def view(page: Any) -> Any:
    return page.locator("ssr-subject-view").first


def button(page: Any, name: str) -> Any:
    return view(page).get_by_role("button", name=name)


def message(page: Any) -> str:
    return page.evaluate(f"{VIEW}.querySelector('.ssr-message').textContent")


def pixels(page: Any) -> str:
    """What the view's canvas shows, to compare."""
    return page.evaluate(f"{VIEW}.querySelector('canvas').toDataURL()")


def history(server: Any) -> list[Any]:
    """The prompts that are over. A result reaches the page a little before its prompt is."""
    deadline = time.monotonic() + 60
    while any(server.get("/queue").values()):
        if time.monotonic() > deadline:
            raise TimeoutError("the server's queue is not empty after a minute")
        time.sleep(0.05)
    return list(server.get("/history").values())


def runs(server: Any) -> int:
    return len(history(server))


def last_run(server: Any) -> Any:
    return history(server)[-1]


def settled(page: Any) -> None:
    """Waits until the run that the view asked for is over and its picture is there."""
    page.wait_for_function(
        f"{VIEW}.getAttribute('aria-busy') !== 'true' && {VIEW}.querySelector('.ssr-message').textContent === ''",
        timeout=60_000,
    )
    page.wait_for_timeout(300)


def look(page: Any) -> None:
    button(page, "Look").click()
    settled(page)


def place_of(page: Any, x: float, y: float, width: int = 128, height: int = 128) -> tuple[float, float]:
    """Where in the window the middle of a pixel of the reference is, which is width x height large."""
    shape = view(page).locator("canvas").bounding_box()
    scale = min(shape["width"] / width, shape["height"] / height)
    left = shape["x"] + (shape["width"] - scale * width) / 2
    top = shape["y"] + (shape["height"] - scale * height) / 2
    return left + (x + 0.5) * scale, top + (y + 0.5) * scale


def click_reference(page: Any, x: float, y: float, **size: int) -> None:
    page.mouse.click(*place_of(page, x, y, **size))


def clear_points(page: Any) -> None:
    """Without a run."""
    page.evaluate(
        f"() => {{ const points = {ENCODE}.widgets.find(w => w.name === 'points'); points.value = ''; points.callback(''); }}"
    )


def to_subgraph(page: Any) -> None:
    """Encode Subject alone becomes one."""
    made = page.evaluate(
        f"() => Boolean(app.graph.convertToSubgraph && app.graph.convertToSubgraph(new Set([{ENCODE}])))",
    )
    if not made:
        pytest.skip("this frontend cannot make a subgraph here")


def enter(page: Any, number: int, request: Any) -> None:
    """Opens the subgraph through one of its nodes, as users do it."""
    page.evaluate(
        f"number => {{ app.canvas.ds.scale = 1; app.canvas.centerOnNode({SUBGRAPH_NODES}[number]); app.canvas.setDirty(true, true); }}",
        number,
    )
    page.wait_for_timeout(700)
    node = f"{SUBGRAPH_NODES}[{number}]"
    still(page, f"[...{node}.pos, ...{node}.size, ...app.canvas.ds.offset]")
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


def noticed(page: Any) -> None:
    """The frontend looks at the graph after every click and key; tests change it without."""
    page.evaluate(f"() => {TRACKER}.checkState()")


def stale(page: Any) -> bool:
    """Whether the view says that what it shows was made of something else."""
    return view(page).locator(".ssr-stale").is_visible()
