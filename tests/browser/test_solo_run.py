"""Look: a run of one node alone, in front of what waits, and what the view tells of it."""

import json

import pytest
from support.browser import (
    ENCODE,
    VIEW,
    button,
    draws_dom_widgets,
    eventually,
    last_run,
    load,
    look,
    message,
    pixels,
    runs,
    set_widget,
    settled,
    template,
    view,
)
from support.workflow import to_prompt


def test_the_end_of_the_prompt_before_is_not_taken_for_the_end_of_ours(page):
    """The server's count of what waits and its answer to our prompt come by two ways, in any order."""
    look(page)
    states = page.evaluate(
        f"""async () => {{
            const {{ api }} = await import("/scripts/api.js");
            const status = count => api.dispatchEvent(new CustomEvent("status", {{
                detail: count === null ? null : {{ exec_info: {{ queue_remaining: count }} }} }}));
            const rest = () => new Promise(resolve => setTimeout(resolve, 50));
            const states = [];
            app.queuePrompt = async () => true; // accepted, and nothing ever comes of it
            for (const counts of [[0, 1, 0], [null]]) {{
                {VIEW}.querySelector("button[title^=Run]").click();
                await rest();
                for (const count of counts) {{
                    status(count);
                    states.push({VIEW}.getAttribute("aria-busy"));
                }}
            }}
            delete app.queuePrompt;
            return states;
        }}"""
    )
    assert states == ["true", "true", "false", "false"]


def test_a_run_shows_that_it_runs_and_clicks_meanwhile_become_one_more(page, server):
    look(page)
    page.evaluate(
        """() => {
            window.asked = [];
            const queuePrompt = app.queuePrompt;
            app.queuePrompt = function (...request) { window.asked.push(request); return queuePrompt.apply(this, request); };
        }"""
    )
    before = runs(server)
    state = f"[{VIEW}.getAttribute('aria-busy'), {VIEW}.querySelector('.ssr-message').textContent]"
    busy = page.evaluate(
        f"() => {{ for (let i = 0; i < 10; i++) {VIEW}.querySelector('button[title^=Run]').click(); return {state}; }}"
    )
    assert busy == ["true", "Looking…"]
    settled(page)
    page.wait_for_timeout(500)
    assert page.evaluate(state) == ["false", ""]
    asked = page.evaluate("() => { delete app.queuePrompt; return window.asked; }")
    assert [request[:2] for request in asked] == [[-1, 1], [-1, 1]], "in front of what waits, and once more"
    assert runs(server) == before + 2


def test_a_run_that_waits_shows_that_and_clicks_meanwhile_become_one_more(page, server):
    look(page)
    seen, before = pixels(page), runs(server)
    sampling = to_prompt(template(), server.get("/object_info"))
    (sampler,) = (node["inputs"] for node in sampling.values() if node["class_type"] == "KSampler")
    sampler["steps"] = 5000
    server.submit(sampling)
    while not server.get("/queue")["queue_running"]:
        page.wait_for_timeout(50)
    set_widget(page, "query", "a cat")
    button(page, "Look").click()
    eventually(page, lambda: len(server.get("/queue")["queue_pending"]), 1)
    page.wait_for_timeout(500)
    assert (view(page).get_attribute("aria-busy"), message(page), pixels(page)) == ("true", "Looking…", seen)
    set_widget(page, "query", "the cat")
    button(page, "Look").click()
    page.wait_for_timeout(500)
    assert len(server.get("/queue")["queue_pending"]) == 1
    page.evaluate("async () => { await app.api.interrupt(); }")
    page.wait_for_function(f"{VIEW}.querySelector('.ssr-chips').textContent.includes('the')", timeout=60_000)
    settled(page)
    assert runs(server) == before + 3


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "failed"])
def test_a_run_that_fails_ends(page, window, server, refused):
    look(page)
    if refused:
        page.evaluate(f"() => {{ const e = {ENCODE}; e.disconnectInput(e.inputs.findIndex(input => input.name === 'clip')); }}")
    else:
        set_widget(page, "points", "500, 500")
    button(page, "Look").click()
    page.wait_for_function(f"{VIEW}.getAttribute('aria-busy') === 'false'", timeout=20_000)
    assert message(page) == ""
    if not refused:
        assert "None of the 1 points" in json.dumps(last_run(server)["status"])
    page.keyboard.press("Escape")  # the frontend's dialog
    page.wait_for_timeout(500)
    window[1].found.clear()  # the frontend logs the server's answer, with us in the stack
    load(page, template())
    look(page)


def test_look_changes_no_widget(page):
    """Seeds whose control says so roll on after every prompt of the whole graph, not after this one."""
    control = "app.graph._nodes.flatMap(n => n.widgets ?? []).find(w => w.name === 'control_after_generate')"
    page.evaluate(f"() => {{ {control}.value = 'randomize'; }}")
    values = (
        "() => Object.fromEntries(app.graph._nodes.map(node => [node.id, (node.widgets ?? []).map(widget => widget.value)]))"
    )
    before = page.evaluate(values)
    look(page)
    look(page)
    assert page.evaluate(values) == before
    assert page.evaluate(f"typeof {control}.afterQueued") == "function"


def test_a_whole_prompt_queued_right_after_look_rolls_seeds_on(page, server):
    if not draws_dom_widgets(page):
        pytest.skip("this frontend does not say whether it queues a part or all")
    before = runs(server)
    seeds = page.evaluate(
        f"""async () => {{
            const {{ widgets }} = app.graph._nodes.find(node => node.type === "KSampler");
            const [seed, control] = ["seed", "control_after_generate"].map(name => widgets.find(widget => widget.name === name));
            control.value = "increment";
            const first = seed.value;
            {VIEW}.querySelector("button[title^=Run]").click();
            await app.queuePrompt(0, 1);
            await new Promise(resolve => setTimeout(resolve, 1500));
            return [first, seed.value];
        }}"""
    )
    settled(page)
    assert seeds[1] == seeds[0] + 1
    assert runs(server) == before + 2


def test_a_bypassed_node_says_why_it_does_not_run(page, server):
    look(page)
    before = runs(server)
    for mode in (2, 4):
        page.evaluate(f"mode => {{ {ENCODE}.mode = mode; }}", mode)
        button(page, "Look").dispatch_event("click")
        assert "bypassed" in page.evaluate(f"{VIEW}.querySelector('.ssr-message').textContent")
    page.wait_for_timeout(500)
    assert runs(server) == before
    page.evaluate(f"() => {{ {ENCODE}.mode = 0; }}")
    page.wait_for_timeout(300)
    look(page)
