"""What Inspect Model, Save Subject and Load Subject say is in the node to read, and nowhere else in the workflow."""

from support.browser import template

HOSTILE = "<img src=x onerror=window.hacked=1> a cat"


def graph():
    """The text query's template without sampling: the subject is saved, and the MODEL that it is applied to inspected."""
    workflow = template()
    (query,) = (node for node in workflow["nodes"] if node["type"] == "SSR_EncodeSubject")
    query["widgets_values"][0] = HOSTILE
    return workflow


def texts(page):
    """Of every node that has something to say, as its widget holds it and as its text area shows it."""
    return page.evaluate(
        """() => {
            const shown = [...document.querySelectorAll("textarea")].filter(area => area.readOnly).map(area => area.value);
            const nodes = app.graph._nodes.filter(node => node.widgets?.some(widget => widget.name === "report"));
            return [nodes.map(node => [node.type, node.widgets.find(widget => widget.name === "report").value]), shown];
        }"""
    )


def run(page, server):
    before = len(server.get("/history"))
    page.evaluate("app.queuePrompt(0, 1)")
    for _ in range(120):
        page.wait_for_timeout(500)
        if len(server.get("/history")) > before:
            break
    page.wait_for_function("[...document.querySelectorAll('textarea')].filter(area => area.readOnly && area.value).length > 1")
    page.wait_for_timeout(300)


def test_what_a_node_says_is_shown_read_only_and_not_saved(page, server):
    page.evaluate("async workflow => { await app.loadGraphData(workflow); }", graph())
    page.evaluate(
        """() => {
            const of = type => app.graph._nodes.find(node => node.type === type);
            const add = (type, x) => {
                const node = LiteGraph.createNode(type);
                node.pos = [x, -500];
                app.graph.add(node);
                return node;
            };
            const [save, inspect, any] = [add("SSR_SaveSubject", 0), add("SSR_InspectModel", 400), add("AnyWords", -400)];
            const encode = of("SSR_EncodeSubject");
            const mini = of("SSR_LoadMini");
            mini.connect(mini.outputs.findIndex(output => output.type === "CLIP"), any, 0);
            any.connect(0, encode, encode.inputs.findIndex(input => input.name === "clip"));
            of("SSR_EncodeSubject").connect(0, save, 0);
            of("SSR_ApplySubject").connect(0, inspect, 0);
            for (const type of ["KSampler", "VAEDecode", "SaveImage"]) app.graph.remove(of(type));
            app.canvas.ds.scale = 0.7;
            app.canvas.centerOnNode(inspect);
            app.canvas.setDirty(true, true);
        }"""
    )
    run(page, server)
    said, shown = texts(page)
    said = dict(said)
    assert said["SSR_SaveSubject"].startswith("Saved ssr_subjects/subject_")
    assert f'1. "{HOSTILE}"' in said["SSR_InspectModel"]
    assert "K and V: 462 tokens" in said["SSR_InspectModel"]
    assert set(said.values()) <= set(shown)
    assert page.evaluate("window.hacked") is None

    saved = page.evaluate("app.graph.serialize()")
    values = {node["type"]: node.get("widgets_values") or [] for node in saved["nodes"]}
    assert values["SSR_InspectModel"] == []
    assert values["SSR_SaveSubject"] == ["subject"]
    prompt = page.evaluate("async () => (await app.graphToPrompt()).output")
    assert [set(node["inputs"]) for node in prompt.values() if node["class_type"] == "SSR_InspectModel"] == [{"model"}]
