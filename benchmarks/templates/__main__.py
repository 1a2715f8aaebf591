"""Write example_workflows/*.json anew: python -m benchmarks.templates [NAME ...] [--described object_info.json]"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from .blueprint import NAME, blueprint
from .content import SSR, Template
from .graph import ROOT, Graph, write
from .layout import place
from .others import OTHERS
from .reroutes import lead_around
from .sizes import SIZES

TEMPLATES: tuple[Template, ...] = (*SSR, *OTHERS)
FOLDER = ROOT / "example_workflows"
HEIGHTS = (1200, 1270)
"""What the view that ComfyUI opens still shows in letters that can be read; lower is better."""
WIDEST = 2045
"""The same from left to right."""


def described() -> dict[str, Any]:
    """The host's object_info, from a server of its own."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.server import running

    with tempfile.TemporaryDirectory() as base, running(Path(base)) as server:
        return server.get("/object_info")


def built(template: Template, info: dict[str, Any]) -> dict[str, Any]:
    graph = Graph(info, SIZES)
    template.make(graph)
    if place(graph, HEIGHTS) and (hidden := lead_around(graph)):
        sys.stdout.write(f"{template.name}: {hidden} links stay behind nodes\n")
    if (wide := max(node.pos[0] + node.size[0] for node in graph.nodes)) > WIDEST:
        raise ValueError(f"It is {wide} wide, which opens too small to be read; {WIDEST} is the most.")
    return graph.to_json(template.formerly, _app(graph, template) if template.app else None)


def _app(graph: Graph, template: Template) -> dict[str, Any]:
    """What makes a workflow open in the app mode of hosts that have it."""
    by_title = {node.title or node.type: node.id for node in graph.nodes}
    results = [node.id for node in graph.nodes if node.type == "SaveImage"]
    return {
        "linearMode": True,
        "linearData": {"inputs": [[by_title[title], name] for title, name in template.app], "outputs": results},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of templates, as they were called formerly (default: all)")
    parser.add_argument("--described", type=Path, help="a saved object_info (default: from a server that is started for it)")
    options = parser.parse_args()
    info = json.loads(options.described.read_text()) if options.described else described()
    for template in TEMPLATES:
        if not options.names or template.formerly in options.names:
            try:
                write(built(template, info), FOLDER / f"{template.name}.json")
            except ValueError as error:
                sys.exit(f"{template.name}: {error}")
            sys.stdout.write(f"{template.name}\n")
    if not options.names:
        write(blueprint(Graph(info, SIZES)), ROOT / "subgraphs" / f"{NAME}.json")


if __name__ == "__main__":
    main()
