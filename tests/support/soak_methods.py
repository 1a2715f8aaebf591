"""The methods that Mini's own files do not have, at Mini's shapes with random weights, and the nodes of a subject of each method in a
prompt of the soak. What they draw is noise; which bits it has, and that nothing of it stays, is what the soak looks at."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssr_core.methods.elite import formats as elite_formats
from ssr_core.methods.elite.mapper import Elite, EliteConfig
from ssr_core.methods.lasr import subject_file
from ssr_core.methods.lasr.embedder import EmbedderShapes, SubjectEmbedder
from ssr_core.methods.lasr.subject import LasrSubject, weights_of
from ssr_core.methods.mip import formats as mip_formats
from ssr_core.methods.mip.adapter import AdapterConfig, MIPAdapter, fingerprint
from ssr_core.methods.ssr import formats as ssr_formats
from ssr_core.mini import files
from ssr_core.mini.vocabulary import tokenizer

METHODS = ("ssr", "mip", "elite", "lasr")
FILE = "soak.safetensors"
ELITE_WORD, LASR_WORD = "rocket", "mushroom"
"""Words of Mini's world that stand for subjects."""
APPLIES = {
    "ssr": "SSR_ApplySubjectAdvanced",
    "mip": "SSR_ApplyObjectsMIP",
    "elite": "SSR_ApplySubjectELITE",
    "lasr": "SSR_ApplySubjectLASR",
}
ENCODES = {
    "ssr": "SSR_EncodeSubject",
    "mip": "SSR_EncodeObjectMIP",
    "elite": "SSR_EncodeSubjectELITE",
    "lasr": "SSR_PromptWithSubjectLASR",
}

Graph = dict[str, Any]
MANNER = {"start": 0.0, "curve": "constant", "layers": "all"}


def write(models: Path) -> None:
    """A file of each method into its folder."""
    layout = ssr_formats.read([files.find(files.FOLDER, files.ENCODER)]).config.layout
    for folder in ("ssr_mip", "ssr_elite", "ssr_lasr"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    elite = _filled(Elite(EliteConfig(layout, files.WIDTH, files.WIDTH, 32, (6, 2, 3, 4, 5), 16)), 1)
    states = {"global": elite.global_mapper.state_dict(), "local": elite.local_mapper.state_dict()}
    elite_formats.write(elite_formats.of_state(elite.config, states), models / "ssr_elite" / FILE)
    adapter = _filled(MIPAdapter(AdapterConfig(layout, files.WIDTH, files.WIDTH, 4)), 2)
    state = adapter.state_dict()
    weights = mip_formats.Weights(adapter.config, state, fingerprint(state, adapter.config))
    mip_formats.write(weights, models / "ssr_mip" / FILE)
    embedder = _filled(SubjectEmbedder(EmbedderShapes(layout, files.WIDTH, 1, 3)), 3)
    token = tokenizer()(LASR_WORD, add_special_tokens=False).input_ids
    subject_file.save(LasrSubject(embedder.shapes, weights_of(embedder), LASR_WORD, *token), models / "ssr_lasr" / FILE)


def _filled(module: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1, generator=generator)
    return module


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def mip(rng: random.Random, graph: Graph, model: list[Any], name: str, fault: str) -> list[Any]:
    """Two objects, by two pictures; one may have a region of its own."""
    graph["mip"] = node("SSR_LoadMIPAdapter", adapter_file=FILE)
    inputs = {"mask": [f"scene {name}", 1]} if rng.random() < 0.5 else {}
    if fault == "while encoding":
        inputs = {"points": "500, 500"}  # outside of the picture
    shared = {"mip_adapter": ["mip", 0], "clip": ["mini", 1], "clip_vision": ["mini", 3], "image": [f"scene {name}", 0]}
    graph[f"encode {name}"] = node(ENCODES["mip"], **shared, name=[f"scene {name}", 2], strength=1.0, **inputs)
    more = {"region": [f"scene {name}", 1]} if rng.random() < 0.3 else {}
    graph[f"second {name}"] = node(ENCODES["mip"], **shared, name="tree", previous=[f"encode {name}", 0], **more)
    graph[f"apply {name}"] = node(
        APPLIES["mip"], model=model, mip_adapter=["mip", 0], objects=[f"second {name}", 0], strength=rng.choice((0.5, 1.0)),
        **MANNER, end=rng.choice((0.6, 1.0)), combine=rng.choice(("by word, gated", "by word", "separate")),
        layer_strengths=_layers(fault),
    )  # fmt: skip
    return [f"apply {name}", 0]


def elite(rng: random.Random, graph: Graph, model: list[Any], name: str, fault: str) -> list[Any]:
    """Its prompt is called "said" and its name."""
    graph["elite"] = node("SSR_LoadELITE", elite_file=FILE)
    inputs = {"points": "500, 500"} if fault == "while encoding" else {"mask": [f"scene {name}", 1]}
    graph[f"encode {name}"] = node(
        ENCODES["elite"], elite=["elite", 0], clip_vision=["mini", 3], image=[f"scene {name}", 0], strength=1.0, **inputs
    )
    graph[f"said {name}"] = node(
        "SSR_PromptWithSubjectELITE", clip=["mini", 1], subject=[f"encode {name}", 0], text=f"a {ELITE_WORD} in the desert",
        placeholder=ELITE_WORD, words=rng.choice((1, 2)),
    )  # fmt: skip
    graph[f"apply {name}"] = node(
        APPLIES["elite"], model=model, elite=["elite", 0], subject=[f"encode {name}", 0], strength=rng.choice((0.0, 0.8)),
        **MANNER, end=rng.choice((0.6, 1.0)), layer_strengths=_layers(fault),
    )  # fmt: skip
    return [f"apply {name}", 0]


def lasr(rng: random.Random, graph: Graph, model: list[Any], name: str, fault: str) -> list[Any]:
    """Its prompt is called "said" and its name; what it has for encoding is "encode", the same node where that fails."""
    graph["lasr"] = node("SSR_LoadSubjectLASR", subject_file=FILE, clip=["mini", 1])
    text = "a tree in the desert" if fault == "while encoding" else f"a {LASR_WORD} on a green meadow"
    graph[f"said {name}"] = node(ENCODES["lasr"], clip=["mini", 1], subject=["lasr", 0], text=text)
    graph[f"apply {name}"] = node(
        APPLIES["lasr"], model=model, clip=["mini", 1], subject=["lasr", 0], alpha=rng.choice((0.0, 0.5)), **MANNER,
        end=rng.choice((0.6, 1.0)), reuse_steps=rng.choice((1, 2)), layer_strengths=_layers(fault),
    )  # fmt: skip
    return [f"apply {name}", 0]


def _layers(fault: str) -> str:
    """Two numbers are none that a UNet could have."""
    return "1, 2" if fault == "while applying" else ""
