"""Three hundred prompts through one ComfyUI server: is any lost, do their bits change, does memory grow?

    python benchmarks/soak.py --out soak

SSR Mini on the CPU. The prompts switch subjects, LoRAs, FreeU, batch sizes and sizes; a tenth fails, in one node or another or in the
middle of a sampling, and a tenth is interrupted while it samples. Afterwards the same prompts run in reverse order on a fresh server that
keeps no node's output, and every latent must have the same bits. They also run without subjects, to see how much memory the host itself
gathers. Writes soak.json and soak.svg; ends with an error if a prompt was lost, a bit differed, or memory grew by more than the host's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))
from support import comfy_host, soak
from support.server import running

from ssr_core.evaluation.report import plot
from ssr_core.shown import percent

CACHE = "--cache-classic"
"""The last prompt's outputs are kept. The newer host would otherwise keep all of them until the machine runs short of memory."""
WARM = 0.2
"""Share of the prompts after which memory is taken for settled."""
GROWTH = 25
"""Megabytes by which a server may grow more with subjects than without: allocators never give back all."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    options = parser.parse_args()
    if reason := comfy_host.missing():
        raise SystemExit(reason)
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = soak.plan(options.count, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        long, drawn, held = run(Path(folder) / "long", jobs, CACHE)
        again = [soak.Job(job.name, job.graph) for job in reversed(jobs) if job.ends == "success"]
        fresh, expected, _ = run(Path(folder) / "fresh", again, "--cache-none")
        without = [soak.Job(job.name, soak.bare(job.graph), job.ends) for job in jobs if not job.ends.startswith("error")]
        plain, _, plain_held = run(Path(folder) / "plain", without, CACHE)
    different = [name for name, latent in expected.items() if name not in drawn or not torch.equal(latent, drawn[name])]
    report = {
        "prompts": dict(Counter(job.ends for job in jobs)),
        "lost": long.lost + fresh.lost,
        "different_bits": different,
        "memory_mb": [round(held / 1e6, 1) for held in long.memory],
        "held_mb": held,
        "held_mb_without_subjects": plain_held,
        "seconds": round(sum(job.seconds for job in jobs)),
    }
    (options.out / "soak.json").write_text(json.dumps(report, indent=2))
    lines = {
        name: [(number, held / 1e6) for number, held in enumerate(soaked.memory, start=1)]
        for name, soaked in (("memory of the server, MB", long), ("the same prompts without subjects", plain))
    }
    top = 500.0 * (1 + max(held for line in lines.values() for _, held in line) // 500)
    (options.out / "soak.svg").write_text(plot(lines, "prompts", top, "{:.0f}".format))
    print(
        f"{len(jobs)} prompts {report['prompts']} in {report['seconds']} s; lost: {report['lost'] or 'none'}; other bits than fresh: "
        f"{different or 'none'}; held, with what is free given back, after {percent(WARM)} of them and at the end: {held} MB; the same "
        f"without subjects: {plain_held} MB"
    )
    if report["lost"] or different or held[1] - held[0] > plain_held[1] - plain_held[0] + GROWTH:
        raise SystemExit("the soak failed")


def run(base: Path, jobs: list[soak.Job], *arguments: str) -> tuple[soak.Soaked, dict[str, torch.Tensor], tuple[int, int]]:
    """What became of the prompts, the latents, and the megabytes that the server holds once it is warm and at the end."""
    soak.prepare(base)
    warm = int(WARM * len(jobs))
    with running(base, *arguments) as server, tqdm(total=len(jobs), desc=base.name) as bar:
        first = soak.run(server, jobs[:warm], told=lambda job: bar.update())
        soak.census(server)
        held = server.resident()
        rest = soak.run(server, jobs[warm:], told=lambda job: bar.update())
        soak.census(server)
        held_at_the_end = server.resident()
        drawn = soak.latents(server, [job for job in jobs if job.ended == "success"])
    soaked = soak.Soaked(first.jobs + rest.jobs, first.memory + rest.memory)
    return soaked, drawn, (round(held / 1e6), round(held_at_the_end / 1e6))


if __name__ == "__main__":
    main()
