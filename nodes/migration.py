"""Graphs made with the older port (node ids ApplySSR, EncodeSSRQuery, LoadSSRAligner, LoadSSRAttention) open with our nodes.

Hosts with node replacement offer it in the frontend's list of errors if the older port is not installed; in prompts in API format they
replace nodes without asking.
"""

from __future__ import annotations

import sys
from typing import Any

from comfy_api.latest import ComfyAPI, io

REPLACEMENTS: list[dict[str, Any]] = [
    {
        # Each loader read its half of the pair; ours finds the other half beside it.
        "old_node_id": old,
        "new_node_id": "SSR_LoadEncoder",
        "old_widget_ids": ["checkpoint"],
        "input_mapping": [{"new_id": "encoder_file", "old_id": "checkpoint"}],
        "output_mapping": [{"new_idx": 0, "old_idx": 0}],
    }
    for old in ("LoadSSRAligner", "LoadSSRAttention")
]
REPLACEMENTS += [
    {
        "old_node_id": "EncodeSSRQuery",
        "new_node_id": "SSR_EncodeSubject",
        "old_widget_ids": ["positive_scale", "positive", "negative_scale", "negative"],
        "input_mapping": [
            {"new_id": "ssr_encoder", "old_id": "ssr_aligner"},
            {"new_id": "clip", "old_id": "clip"},
            {"new_id": "clip_vision", "old_id": "clip_vision"},
            {"new_id": "image", "old_id": "image"},
            {"new_id": "query", "old_id": "positive"},
            {"new_id": "null_query", "old_id": "negative"},
            {"new_id": "strength", "old_id": "positive_scale"},
            {"new_id": "previous", "old_id": "prev_ssr_embeds"},
        ],
        "output_mapping": [{"new_idx": 0, "old_idx": 0}],
    },
    {
        "old_node_id": "ApplySSR",
        "new_node_id": "SSR_ApplySubject",
        "input_mapping": [
            {"new_id": "model", "old_id": "model"},
            {"new_id": "ssr_encoder", "old_id": "ssr_attentions"},
            {"new_id": "subject", "old_id": "ssr_embeds"},
            {"new_id": "strength", "set_value": 1.0},  # there, the query's own scale was all the strength there was
        ],
        "output_mapping": [{"new_idx": 0, "old_idx": 0}],
    },
]

_BY_OLD_ID = {fields["old_node_id"]: fields for fields in REPLACEMENTS}


def replace_in_prompt(json_data: dict[str, Any]) -> dict[str, Any]:
    """Replace the nodes of a prompt that a script sends in API format. This comes before the host's own replacement, which fails on chains
    of replaced nodes and on inputs that were left out."""
    # The host's module named nodes, not this package.
    registered = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {})
    prompt = json_data.get("prompt")
    for node in prompt.values() if isinstance(prompt, dict) else ():
        if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
            continue  # the host says what is wrong with it
        fields = _BY_OLD_ID.get(str(node.get("class_type")))
        if fields is not None and fields["old_node_id"] not in registered:
            node["class_type"], given = fields["new_node_id"], node["inputs"]
            node["inputs"] = {
                mapping["new_id"]: given[mapping["old_id"]] if "old_id" in mapping else mapping["set_value"]
                for mapping in fields["input_mapping"]
                if "set_value" in mapping or mapping["old_id"] in given
            }
    return json_data


def listen() -> None:
    """On every host: replace nodes in prompts in API format. Without a server, as in tests, there are no prompts."""
    server = getattr(sys.modules.get("server"), "PromptServer", None)
    if (running := getattr(server, "instance", None)) is not None and not _listens(running):
        running.add_on_prompt_handler(replace_in_prompt)


def _listens(server: Any) -> bool:
    """Whether this handler is there already: hosts may ask a pack for its nodes, or load it, more than once."""
    ours = (replace_in_prompt.__module__, replace_in_prompt.__qualname__)
    known = getattr(server, "on_prompt_handlers", ())
    return any((getattr(one, "__module__", ""), getattr(one, "__qualname__", "")) == ours for one in known)


async def register() -> None:
    """On hosts with node replacement: let the frontend offer it."""
    replacement = getattr(ComfyAPI(), "node_replacement", None)
    if replacement is None:
        return
    for fields in REPLACEMENTS:
        await replacement.register(io.NodeReplace(**fields))
