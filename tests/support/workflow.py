"""Workflows as users save them (UI format) into prompts as the server takes them (API format)."""

from __future__ import annotations

from typing import Any

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTES = {"Note", "MarkdownNote"}


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """What the frontend's own conversion does for graphs without subgraphs, reroutes and muted nodes."""
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        described = object_info[node["type"]]["input"]
        specs = {**described.get("required", {}), **described.get("optional", {})}
        linked = {slot["name"]: slot["link"] for slot in node.get("inputs", []) if slot.get("link") is not None}
        values = iter(node.get("widgets_values", []))
        inputs: dict[str, Any] = {}
        for name, spec in specs.items():
            kind, options = spec[0], spec[1] if len(spec) > 1 else {}
            if (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput"):
                inputs[name] = next(values)
                if options.get("control_after_generate") or options.get("image_upload"):
                    next(values)
            if name in linked:
                _, source, slot, *_ = links[linked[name]]
                inputs[name] = [str(source), slot]
        left = list(values)
        if left:
            raise ValueError(f"{node['type']} has {len(left)} widget values too many: {left}")
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": node["type"]}}
    return prompt
