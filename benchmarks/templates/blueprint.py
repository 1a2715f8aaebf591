"""The blueprint "Subject from a picture": what the SSR-Encoder's templates have between a checkpoint and a sampler, as one node."""

from __future__ import annotations

import uuid
from typing import Any

from .content import REAL
from .graph import Graph, Node, saved

NAME = "Subject from a picture"
DESCRIPTION = "Makes a model draw what a word selects in a picture (SSR-Encoder, SD1.5). Outputs the model, for a sampler."
INPUTS = (
    ("model", "MODEL"),
    ("clip", "CLIP"),
    ("image", "IMAGE"),
    ("mask", "MASK"),
    ("query", "STRING"),
    ("strength", "FLOAT"),
)
WIDGETS = ("query", "strength")
INPUT_NODE, OUTPUT_NODE = -10, -20
"""Ids that the host gives to the two ends of every subgraph."""


def blueprint(graph: Graph) -> dict[str, Any]:
    """What ComfyUI reads from subgraphs/."""
    ends = Node(
        INPUT_NODE, "", None, None, (120, 160), outputs=[{"name": name, "type": kind, "links": None} for name, kind in INPUTS]
    )
    loaded = graph.node("SSR_LoadModels")
    subject = graph.node(
        "SSR_EncodeSubject", ssr_encoder=loaded["ssr_encoder"], clip=ends["clip"], clip_vision=loaded["clip_vision"], image=ends["image"],
        query=ends["query"], mask=ends["mask"],
    )  # fmt: skip
    apply = graph.node(
        "SSR_ApplySubject",
        model=ends["model"],
        ssr_encoder=loaded["ssr_encoder"],
        subject=subject["subject"],
        strength=ends["strength"],
    )
    for node, pos in ((loaded, (160, 0)), (subject, (500, 0)), (apply, (860, 0))):
        node.pos = pos
    defaults = {"query": "", "strength": REAL.strength}
    for node, name in ((subject, "query"), (apply, "strength")):
        widgets = [entry["name"] for entry in node.inputs if "widget" in entry]
        node.widgets[widgets.index(name)] = defaults[name]
    last = max(number for number, *_ in graph.links) + 1
    apply.outputs[0]["links"] = [last]
    identity = _identity("definition")
    links = [_link(*link) for link in graph.links]
    links.append(
        {"id": last, "origin_id": apply.id, "origin_slot": 0, "target_id": OUTPUT_NODE, "target_slot": 0, "type": "MODEL"}
    )
    definition = {
        "id": identity,
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": len(graph.nodes), "lastLinkId": last, "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": NAME,
        "inputNode": {"id": INPUT_NODE, "bounding": [0, 0, 120, 160]},
        "outputNode": {"id": OUTPUT_NODE, "bounding": [1200, 0, 120, 60]},
        "inputs": [
            {"id": _identity(entry["name"]), "name": entry["name"], "type": entry["type"], "linkIds": entry["links"], "pos": [90, 20 * row]}
            for row, entry in enumerate(ends.outputs, start=1)
        ],
        "outputs": [{"id": _identity("output"), "name": "model", "type": "MODEL", "linkIds": [last], "pos": [1220, 20]}],
        "widgets": [],
        "nodes": [saved(node, order) for order, node in enumerate(graph.nodes)],
        "groups": [],
        "links": links,
        "extra": {},
        "category": "SSR-Encoder",
        "description": DESCRIPTION,
    }  # fmt: skip
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [_outside(identity, [[str(subject.id), "query"], [str(apply.id), "strength"]])],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [definition]},
        "extra": {},
    }


def _outside(identity: str, widgets: list[list[str]]) -> dict[str, Any]:
    """The node that stands for the subgraph."""
    inputs = [
        {"name": name, "type": kind, "link": None, **({"widget": {"name": name}} if name in WIDGETS else {})}
        for name, kind in INPUTS
    ]
    return {
        "id": 1,
        "type": identity,
        "pos": [0, 0],
        "size": [280, 180],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": inputs,
        "outputs": [{"name": "model", "type": "MODEL", "links": []}],
        "title": NAME,
        "properties": {"proxyWidgets": widgets, "cnr_id": "ssr-encoder", "ver": "0.1.0"},
        "widgets_values": [],
    }


def _link(number: int, source: Any, target: Node, name: str) -> dict[str, Any]:
    place = next(index for index, entry in enumerate(target.inputs) if entry["name"] == name)
    ends = {"origin_id": source.node.id, "origin_slot": source.number, "target_id": target.id, "target_slot": place}
    return {"id": number, **ends, "type": source.type}


def _identity(of: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"ComfyUI-SSR-Encoder/subgraphs/{NAME}/{of}"))
