"""Graphs made with the older port (node ids ApplySSR, EncodeSSRQuery, LoadSSRAligner, LoadSSRAttention) open with our nodes.

Hosts that know node replacement offer it, in the frontend's list of errors, where the older port is not installed; prompts in API
format they replace unasked.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyAPI, io
from server import PromptServer

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

_OLD_IDS = frozenset(fields["old_node_id"] for fields in REPLACEMENTS)


def complete(json_data: Any) -> Any:
    """Before a prompt in API format is replaced: the host reads every mapped input and the title, and a query at the head of a chain
    never had a `prev_ssr_embeds`."""
    for node in json_data.get("prompt", {}).values():
        if node.get("class_type") in _OLD_IDS:
            node.setdefault("_meta", {})
        if node.get("class_type") == "EncodeSSRQuery":
            node["inputs"].setdefault("prev_ssr_embeds", None)
    return json_data


async def register() -> None:
    """Does nothing on hosts without node replacement."""
    replacement = getattr(ComfyAPI(), "node_replacement", None)
    server = getattr(PromptServer, "instance", None)
    if replacement is None or server is None:
        return
    for fields in REPLACEMENTS:
        await replacement.register(io.NodeReplace(**fields))
    server.add_on_prompt_handler(complete)
