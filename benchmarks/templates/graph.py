"""A graph as ComfyUI saves it, built node by node. Knows the host's file format; not what a template is about, nor where nodes stand."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ssr_core.weights import read_manifest

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
ROOT = Path(__file__).parents[2]
PACK, CORE = ("ssr-encoder", "0.1.0"), ("comfy-core", "0.3.64")
"""Where a missing node is looked for, and the version that it was saved with."""
ROLES = {"input": ("#232", "#353"), "output": ("#223", "#335"), "note": ("#432", "#653")}
"""Colours of nodes that a reader looks for first."""


class Slot(NamedTuple):
    """An output of a node, to be given to another node's input."""

    node: Node
    number: int
    type: str


@dataclass(eq=False)
class Node:
    """size: (width, height) of the body, without its title."""

    id: int
    type: str
    title: str | None
    role: str | None
    size: tuple[int, int]
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    widgets: list[Any] = field(default_factory=list)
    pos: tuple[int, int] = (0, 0)

    def __getitem__(self, name: str) -> Slot:
        number = next(number for number, output in enumerate(self.outputs) if output["name"].lower() == name.lower())
        return Slot(self, number, self.outputs[number]["type"])

    def socket(self, name: str) -> int:
        """Which of the sockets on its left side an input is, counted from the top. Those of widgets stand elsewhere."""
        return [entry["name"] for entry in self.inputs if "widget" not in entry].index(name)


class Graph:
    """described: the host's object_info. columns: nodes from left to right, each column from top to bottom. reroutes: points that a
    link passes, by its number. widest: of a node, in pixels; many columns leave little room."""

    def __init__(self, described: dict[str, Any], sizes: dict[str, tuple[int, int]]) -> None:
        self.described, self.sizes = described, sizes
        self.nodes: list[Node] = []
        self.links: list[tuple[int, Slot, Node, str]] = []
        self.columns: list[list[Node]] = []
        self.reroutes: dict[int, list[tuple[int, int]]] = {}
        self.widest = 400

    def node(
        self, kind: str, title: str | None = None, role: str | None = None, size: tuple[int, int] | None = None, /, **given: Any
    ) -> Node:
        """A node with its links (Slot values) and widgets (all others). Raises ValueError for a name that it does not have."""
        width, height = size or self.sizes[kind]
        made = Node(len(self.nodes) + 1, kind, title, role, (min(width, self.widest), height))
        self.nodes.append(made)
        if kind == "MarkdownNote":
            made.widgets = [given["text"]]
            return made
        told = self.described[kind]
        specs = {**told["input"].get("required", {}), **told["input"].get("optional", {})}
        if unknown := given.keys() - specs.keys():
            raise ValueError(f"{kind} has no input {unknown}; it has {list(specs)}")
        for name, spec in specs.items():
            self._input(made, name, spec[0], spec[1] if len(spec) > 1 else {}, given.get(name))
        made.outputs = [
            {"name": name, "type": type_, "links": None}
            for name, type_ in zip(told["output_name"], told["output"], strict=True)
        ]
        return made

    def _input(self, made: Node, name: str, kind: Any, options: dict[str, Any], value: Any) -> None:
        is_widget = isinstance(kind, list) or kind in WIDGETS
        entry: dict[str, Any] = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind, "link": None}
        if is_widget:
            entry["widget"] = {"name": name}
            default = options.get(
                "default", kind[0] if isinstance(kind, list) and kind else next(iter(options.get("options", [])), "")
            )
            made.widgets.append(default if value is None or isinstance(value, Slot) else value)
            if options.get("control_after_generate"):
                made.widgets.append("fixed")
            if options.get("image_upload"):
                made.widgets.append("image")
        made.inputs.append(entry)
        if isinstance(value, Slot):
            self._connect(made, name, value)

    def _connect(self, target: Node, name: str, source: Slot) -> None:
        entry = next(entry for entry in target.inputs if entry["name"] == name)
        entry["link"] = max((number for number, *_ in self.links), default=0) + 1
        output = source.node.outputs[source.number]
        output["links"] = [*(output["links"] or []), entry["link"]]
        self.links.append((entry["link"], source, target, name))

    def relink(self, target: Node, name: str, source: Slot) -> None:
        """Give an input that is linked another source."""
        (old,) = (link for link in self.links if link[2] is target and link[3] == name)
        self.links.remove(old)
        output = old[1].node.outputs[old[1].number]
        output["links"] = [number for number in output["links"] if number != old[0]] or None
        self._connect(target, name, source)

    def to_json(self, name: str, extra: dict[str, Any] | None = None) -> dict[str, Any]:
        """What ComfyUI opens. Without a view of its own, so that it opens with everything in sight."""
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"ComfyUI-SSR-Encoder/{name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": max((number for number, *_ in self.links), default=0),
            "nodes": [saved(node, order) for order, node in enumerate(self.nodes)],
            "links": [self._link(*link) for link in self.links],
            "groups": [],
            "config": {},
            "extra": {**(extra or {}), **self._reroutes()},
            "version": 0.4,
        }

    def _reroutes(self) -> dict[str, Any]:
        points: list[dict[str, Any]] = []
        last = []
        for number, places in sorted(self.reroutes.items()):
            for place, pos in enumerate(places):
                parent = {"parentId": len(points)} if place else {}
                points.append({"id": len(points) + 1, **parent, "pos": list(pos), "linkIds": [number]})
            last.append({"id": number, "parentId": len(points)})
        return {"reroutes": points, "linkExtensions": last} if points else {}

    def _link(self, number: int, source: Slot, target: Node, name: str) -> list[Any]:
        place = next(index for index, entry in enumerate(target.inputs) if entry["name"] == name)
        return [number, source.node.id, source.number, target.id, place, source.type]


def saved(node: Node, order: int) -> dict[str, Any]:
    home, version = PACK if node.type.startswith("SSR_") else CORE
    known = {} if node.type == "MarkdownNote" else {"Node name for S&R": node.type, "cnr_id": home, "ver": version}
    models = [model for value in node.widgets if isinstance(value, str) and (model := _download(value))]
    written = {
        "id": node.id,
        "type": node.type,
        "pos": list(node.pos),
        "size": list(node.size),
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": node.inputs,
        "outputs": node.outputs,
        "properties": {**known, **({"models": models} if models else {})},
        "widgets_values": node.widgets,
    }
    if node.title:
        written["title"] = node.title
    if node.role:
        written["color"], written["bgcolor"] = ROLES[node.role]
    return written


def _download(name: str) -> dict[str, str] | None:
    """Where the frontend's dialog of missing models may get a file; it takes no page of several files."""
    weight = next((weight for weight in read_manifest() if weight.name == name), None)
    if weight is None or weight.host != "hub":
        return None
    return {"name": name, "url": weight.url, "directory": weight.folders[0]}


def write(content: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
