"""Two subjects in one picture, each in a half of its own, against the same two without regions.

    python benchmarks/regions.py --count 100

SSR Mini in ComfyUI, on the held-out cases of `ssr-encoder evaluate selectivity`: two references of two objects, one queried in each, and
a prompt that names both classes. Left half to the first subject, right half to the second, with a soft edge between. Judged from pixels.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import comfy_host

SIDE = 128
EDGE = 24
"""Pixels over which one half fades into the other."""
STEPS, GUIDANCE = 20, 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    if reason := comfy_host.missing():
        raise SystemExit(reason)
    comfy_host.start()
    world = comfy_host.part("ssr_core.evaluation.selectivity")
    judge = comfy_host.part("ssr_core.evaluation.judge").judge
    draw = Drawing()
    outcomes: dict[str, list[Any]] = {"joint": [], "by word": [], "regions": []}
    placed = {name: [] for name in outcomes}
    for number, case in enumerate(tqdm(list(world.cases(options.count, objects=2, subjects=2)))):
        subjects = [draw.subject(wanted) for wanted in case.wanted]
        for name in outcomes:
            picture = draw.picture(case.prompt, draw.model(name, *subjects), number)
            outcomes[name].append(world.measure(case, picture, tuple(one for pair in subjects for one in pair)))
            seen = [judge(picture).of(wanted.kind) for wanted in case.wanted]
            placed[name] += [
                bool(_middle(one.box) > SIDE / 2) == bool(half) for half, one in enumerate(seen) if one is not None
            ]
    percent = comfy_host.part("ssr_core.shown").percent
    rows = {}
    print("| | look | strict | prompt | on its side |\n|---|---|---|---|---|")
    for name, found in outcomes.items():
        scores, share = world.scores(found), float(np.mean(placed[name]))
        rows[name] = {"look": scores.look, "look_strict": scores.look_strict, "prompt": scores.prompt, "side": share}
        print(f"| {name} | " + " | ".join(map(percent, rows[name].values())) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


class Drawing:
    """Mini in the host, by the pack's own nodes."""

    def __init__(self) -> None:
        extension = asyncio.run(comfy_host.pack().comfy_entrypoint())
        self.nodes = {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}
        self.mini = comfy_host.part("ssr_core.hosts.comfyui.mini").load()
        right = ((torch.arange(SIDE) - (SIDE - EDGE) / 2) / EDGE).clamp(0, 1).expand(1, SIDE, SIDE)  # [1, H, W]
        self.halves = (1 - right, right)

    def run(self, node: str, *inputs: Any, **options: Any) -> Any:
        with torch.inference_mode():
            return self.nodes[node].execute(*inputs, **options).args[0]

    def subject(self, wanted: Any) -> Any:
        image = torch.from_numpy(np.asarray(wanted.scene.drawn.picture).astype(np.float32) / 255)[None]
        return self.run("SSR_EncodeSubject", self.mini.encoder, self.mini.clip, self.mini.clip_vision, image, wanted.kind)

    def model(self, name: str, first: Any, second: Any) -> Any:
        plain = {
            "strength": 1.0, "start": 0.0, "end": 1.0, "curve": "constant", "layers": "all", "subject_scaling": "official",
        }  # fmt: skip
        if name != "regions":
            both = first + second
            return self.run("SSR_ApplySubjectAdvanced", self.mini.model, self.mini.encoder, both, combine=name, **plain)
        model = self.mini.model
        for subject, half in zip((first, second), self.halves, strict=True):
            model = self.run(
                "SSR_ApplySubjectAdvanced", model, self.mini.encoder, subject, combine="joint", region=half, **plain
            )
        return model

    def text(self, words: str) -> Any:
        return self.mini.clip.encode_from_tokens_scheduled(self.mini.clip.tokenize(words))

    def picture(self, prompt: str, model: Any, seed: int) -> Image.Image:
        import comfy.sample

        empty = torch.zeros(1, 4, SIDE // 8, SIDE // 8)
        with torch.inference_mode():
            noise = torch.randn(empty.shape, generator=torch.Generator().manual_seed(seed))
            latent = comfy.sample.sample(
                model, noise, STEPS, GUIDANCE, "euler", "normal", self.text(prompt), self.text(""), empty, seed=seed,
                disable_pbar=True,
            )  # fmt: skip
            pixels = self.mini.vae.decode(latent)[0]  # [H, W, 3]
        return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def _middle(box: tuple[int, int, int, int]) -> float:
    return (box[0] + box[2]) / 2


if __name__ == "__main__":
    main()
