"""Many prompts through one server, and the same again on a fresh one: what a long working day does to it, compressed.

Prompts switch subjects, models, batch sizes and sizes, lose their subject nodes, fail, and are interrupted in between. Each one ends
as it should or the soak fails, and each latent must have the bits that it has on a server that keeps nothing from one prompt to the
next and runs them in another order.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from support import soak_methods
from support.server import Server
from torch import Tensor

LORAS = ("soak_a.safetensors", "soak_b.safetensors")
QUEUED = 6
"""How many prompts wait in the server's queue at a time."""
CLASSES = ("boat", "star", "fish", "house", "tree")
PLACES = ("on a green meadow", "in the desert", "in the white snow")
LONG = 400
"""Sampling steps of a prompt that is to be interrupted."""
FAULTS = ("in the scene", "while encoding", "while applying", "while sampling")
"""Where a prompt that is to fail does so, with each method in turn."""

TEST_PACK = Path(__file__).with_name("soak_pack.py")
"""Nodes that only the soak has."""

Graph = dict[str, Any]


@dataclass
class Job:
    """One prompt. ends: how it must end: "success", "interrupted", or "error in" a node's type."""

    name: str
    graph: Graph
    ends: str = "success"
    prompt_id: str = ""
    ended: str = ""
    seconds: float = 0.0


@dataclass
class Soaked:
    """memory: resident bytes of the server when each prompt was found to have ended; those queued behind it may run already."""

    jobs: list[Job]
    memory: list[int] = field(default_factory=list)

    @property
    def lost(self) -> list[str]:
        """Prompts that ended otherwise than they had to, or not at all."""
        return [f"{job.name}: {job.ended or 'no end'}, not {job.ends}" for job in self.jobs if job.ended != job.ends]


def prepare(base: Path) -> None:
    """Into a server's base directory: two LoRAs for Mini's UNet, so that there are models to switch between, a file of each method that
    has none for Mini, and the soak's own nodes."""
    loras, pack = base / "models" / "loras", base / "custom_nodes" / "soak_pack"
    loras.mkdir(parents=True, exist_ok=True)
    pack.mkdir(parents=True, exist_ok=True)
    shutil.copy(TEST_PACK, pack / "__init__.py")
    soak_methods.write(base / "models")
    for number, file in enumerate(LORAS):
        generator = torch.Generator().manual_seed(number)
        name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
        state = {
            f"{name}.lora_up.weight": torch.randn(96, 4, generator=generator) / 10,
            f"{name}.lora_down.weight": torch.randn(4, 96, generator=generator) / 10,
            f"{name}.alpha": torch.tensor(4.0),
        }
        save_file(state, loras / file)


def plan(count: int, seed: int = 0) -> list[Job]:
    """Prompts of every kind, in an order that changes something at almost every one."""
    rng = random.Random(f"soak/{seed}")
    kinds = ["success"] * 8 + ["error", "interrupted"]
    ends = [kinds[number % len(kinds)] for number in range(count)]
    rng.shuffle(ends)
    jobs, faults = [], 0
    methods = soak_methods.METHODS
    every = [
        (fault, methods[(turn + place) % len(methods)]) for turn in range(len(methods)) for place, fault in enumerate(FAULTS)
    ]
    for number, end in enumerate(ends):
        fault, method = "", ""
        if end == "error":
            (fault, method), faults = every[faults % len(every)], faults + 1
            method = "ssr" if (fault, method) == ("in the scene", "lasr") else method  # a learned subject has no scene
        graph = _graph(rng, f"{number:03}", end, fault, method)
        jobs.append(Job(f"{number:03}", graph, f"error in {_failing(fault, method)}" if fault else end))
    return jobs


def _failing(fault: str, method: str) -> str:
    """Type of the node that fails."""
    applies, encodes = soak_methods.APPLIES, soak_methods.ENCODES
    return {
        "in the scene": "SSR_MiniScene", "while encoding": encodes[method], "while applying": applies[method],
        "while sampling": "KSampler",
    }[fault]  # fmt: skip


def _graph(rng: random.Random, name: str, end: str, fault: str, method: str) -> Graph:
    """method: of the subject in a prompt that is to fail; the others mix."""
    steps = LONG if end == "interrupted" else rng.choice((3, 4, 6))
    graph: Graph = {"mini": node("SSR_LoadMini")}
    model = ["mini", 0]
    if rng.random() < 0.5:
        graph["lora"] = node("LoraLoaderModelOnly", model=model, lora_name=rng.choice(LORAS), strength_model=0.8)
        model = ["lora", 0]
    if rng.random() < 0.2:
        graph["freeu"] = node("FreeU_V2", model=model, b1=1.1, b2=1.2, s1=0.9, s2=0.6)
        model = ["freeu", 0]
    count = rng.choice((0, 1, 1, 2, 3)) if end == "success" else 1
    # At most one of each but the SSR-Encoder: one ELITE reads the texts of a MODEL, one placeholder stands for a learned subject.
    mixed = rng.sample(("ssr", "ssr", "mip", "elite", "lasr"), count)
    for number, one in enumerate([method] if method else mixed):
        if one != "lasr":
            _scene(rng, graph, f"{number}", fault)
        add = {"ssr": _subject, "mip": soak_methods.mip, "elite": soak_methods.elite, "lasr": soak_methods.lasr}[one]
        model = add(rng, graph, model, f"{number}", fault)
        if rng.random() < 0.2:
            graph[f"record {number}"] = node("SSR_RecordFootprint", model=model)
            model = [f"record {number}", 0]
    if fault == "while sampling":
        graph["fault"] = node("SoakFault", model=model, call=rng.choice((1, 2, 3)))
        model = ["fault", 0]
    graph["latent"] = node(
        "EmptyLatentImage", width=rng.choice((96, 128, 160)), height=rng.choice((96, 128)), batch_size=rng.choice((1, 1, 2, 4))
    )
    graph["positive"] = node("CLIPTextEncode", clip=["mini", 1], text=f"a {rng.choice(CLASSES)} {rng.choice(PLACES)}")
    graph["negative"] = node("CLIPTextEncode", clip=["mini", 1], text="")
    graph["sampler"] = node(
        "KSampler", model=model, seed=rng.randrange(1 << 32), steps=steps, cfg=rng.choice((1.0, 4.0)),
        sampler_name=rng.choice(("euler", "dpmpp_2m", "uni_pc")), scheduler="normal",
        positive=_positive(graph), negative=["negative", 0], latent_image=["latent", 0], denoise=1.0,
    )  # fmt: skip
    graph["save"] = node("SaveLatent", samples=["sampler", 0], filename_prefix=name)
    return graph


def _positive(graph: Graph) -> list[Any]:
    """The plain prompt, or those that say subjects, combined."""
    said = [name for name in graph if name.startswith("said ")]
    found = [said[0], 0] if said else ["positive", 0]
    for name in said[1:]:
        graph[f"with {name}"] = node("ConditioningCombine", conditioning_1=found, conditioning_2=[name, 0])
        found = [f"with {name}", 0]
    return found


def _scene(rng: random.Random, graph: Graph, name: str, fault: str) -> None:
    """The reference of a subject. No two of a prompt are the same node: ComfyUI 0.3.64 without a cache forgets what equal nodes gave once
    the first of them has been used up."""
    marked = 4 if fault == "in the scene" else rng.choice((1, 2))  # of two or three objects
    graph[f"scene {name}"] = node(
        "SSR_MiniScene", scene=rng.randrange(40) + 100 * int(name), objects=rng.choice((2, 3)), background="any", marked=marked
    )


def _subject(rng: random.Random, graph: Graph, model: list[Any], name: str, fault: str) -> list[Any]:
    """Add the nodes of one subject of the SSR-Encoder; the MODEL that has it."""
    words, mask = rng.choice(((True, False), (False, True), (True, True)))
    inputs: dict[str, Any] = {"query": [f"scene {name}", 2] if words else "", "mask_weight": 3.0}
    if mask:
        inputs["mask"] = [f"scene {name}", 1]
    if fault == "while encoding":
        inputs |= {"query": "", "points": "500, 500"}  # outside of the picture
    graph[f"encode {name}"] = node(
        "SSR_EncodeSubject",
        ssr_encoder=["mini", 4], clip=["mini", 1], clip_vision=["mini", 3], image=[f"scene {name}", 0],
        null_query="", fit="center crop", strength=1.0, **inputs,
    )  # fmt: skip
    applied = {"model": model, "ssr_encoder": ["mini", 4], "subject": [f"encode {name}", 0], "strength": rng.choice((0.5, 1.0))}
    if rng.random() < 0.5 and fault != "while applying":
        graph[f"apply {name}"] = node("SSR_ApplySubject", **applied)
        return [f"apply {name}", 0]
    graph[f"apply {name}"] = node(
        "SSR_ApplySubjectAdvanced", **applied, start=0.0, end=rng.choice((0.6, 1.0)), curve=rng.choice(("constant", "fade out")),
        layers=rng.choice(("all", "detail")), combine="joint", subject_scaling="official", region=[f"scene {name}", 1],
        layer_strengths="1, 2" if fault == "while applying" else "",
    )  # fmt: skip
    return [f"apply {name}", 0]


def bare(graph: Graph) -> Graph:
    """The same prompt without subjects: the sampler gets the MODEL that went into the first of them, and the plain prompt."""
    kept = {
        name: entry
        for name, entry in graph.items()
        if name == "mini" or not entry["class_type"].startswith(("SSR_", "ConditioningCombine"))
    }
    sampler = kept["sampler"] = {**kept["sampler"], "inputs": {**kept["sampler"]["inputs"]}}
    while (source := sampler["inputs"]["model"][0]) not in kept:
        sampler["inputs"]["model"] = graph[source]["inputs"]["model"]
    sampler["inputs"]["positive"] = ["positive", 0]
    return kept


node = soak_methods.node


def census(server: Server, graph: Graph | None = None, **inputs: Any) -> dict[str, int]:
    """How many tensors and how many things of this pack's the server holds after a graph that ends in the census, or after none."""
    outputs = server.run({**(graph or {}), "census": node("SoakCensus", moment=time.time(), **inputs)})["outputs"]
    return json.loads(outputs["census"]["text"][0])


def run(server: Server, jobs: Sequence[Job], told: Callable[[Job], None] = lambda job: None) -> Soaked:
    """Send the prompts, a few ahead of the one that runs, and wait for each of them."""
    soaked = Soaked(list(jobs))
    waiting: list[Job] = []
    rest = list(jobs)
    while rest or waiting:
        while rest and len(waiting) < QUEUED:
            job = rest.pop(0)
            job.prompt_id, job.ended = server.submit(job.graph), ""
            waiting.append(job)
        job = waiting.pop(0)
        _wait(server, job)
        soaked.memory.append(server.resident())
        told(job)
    return soaked


def _wait(server: Server, job: Job, limit: float = 600) -> None:
    began, running_from, stop_asked = time.monotonic(), -1, False
    while time.monotonic() - began < limit:
        entry = server.get(f"/history/{job.prompt_id}").get(job.prompt_id)
        if entry is not None:
            job.ended, job.seconds = _end(entry["status"]), time.monotonic() - began
            return
        if job.ends == "interrupted" and not stop_asked and _runs(server, job):
            if running_from < 0:
                running_from = server.log.stat().st_size
            elif _sampled(server, running_from):
                stop_asked = True
                _post(server, "/interrupt", {"prompt_id": job.prompt_id})
        time.sleep(0.05)


def _runs(server: Server, job: Job) -> bool:
    """Whether the server works on this very prompt, so that an interruption hits no other."""
    return any(entry[1] == job.prompt_id for entry in server.get("/queue")["queue_running"])


def _sampled(server: Server, since: int) -> bool:
    """Whether a long sampling has made steps since the log was that long: its progress bar tells."""
    with server.log.open("rb") as log:
        log.seek(since)
        return re.search(rf"[1-9]\d*/{LONG} \[".encode(), log.read()) is not None


def _end(status: dict[str, Any]) -> str:
    events = {event[0]: event[1] for event in status["messages"]}
    if "execution_interrupted" in events:
        where = events["execution_interrupted"]["node_type"]
        return "interrupted" if where == "KSampler" else f"interrupted in {where}"
    return f"error in {events['execution_error']['node_type']}" if "execution_error" in events else status["status_str"]


def _post(server: Server, path: str, content: dict[str, Any]) -> None:
    request = urllib.request.Request(f"{server.url}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).close()


def latents(server: Server, jobs: Sequence[Job]) -> dict[str, Tensor]:
    """What each prompt that ended in success drew."""
    return {
        job.name: load_file(next((server.base / "output").glob(f"{job.name}_*.latent")))["latent_tensor"]
        for job in jobs
        if job.ends == "success"
    }
