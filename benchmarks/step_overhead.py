"""What a method costs per sampling step, against the plain UNet and against the official algorithm.

    python benchmarks/step_overhead.py                   # all methods, on any device; ComfyUI found as the host tests find it
    python benchmarks/step_overhead.py --method elite
    python benchmarks/step_overhead.py --method lasr --side 16 --width 32 --text-layers 1   # small, to try it

ComfyUI's own UNet at each method's real shape, cond + uncond. A method's variants run interleaved, in an order that is shuffled every
round, with a plain step before and after each; the table gives the median over rounds of a variant's time divided by the mean of its two
plain neighbours, and on a GPU the peak of memory above what a plain step takes. Other packs have a row where the host has them.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import variants_elite
import variants_lasr
import variants_mip
import variants_ssr
from gpu_measure import name_of
from host import arguments, chosen
from variants import Variant

METHODS = {"ssr": variants_ssr, "mip": variants_mip, "elite": variants_elite, "lasr": variants_lasr}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--method", choices=METHODS, nargs="+", default=list(METHODS), help="default: all")
    parser.add_argument("--rounds", type=int, help="default: 9 on a CPU, 60 on a GPU")
    parser.add_argument(
        "--side", type=int, help="of the latent; default: the one that the method's operations are counted for, or for mip 64"
    )
    parser.add_argument("--text-layers", type=int, help="of the text encoder; for lasr alone (default 12, its real size)")
    parser.add_argument("--width", type=int, help="of the UNet's first level; for lasr alone (default 320, its real size)")
    options = parser.parse_args()
    size = {name: getattr(options, name) for name in ("width", "text_layers") if getattr(options, name) is not None}
    if size and options.method != ["lasr"]:
        parser.error("--width and --text-layers are for lasr; leave them out")
    device, dtype = chosen(options)
    rounds = options.rounds or (9 if device.type == "cpu" else 60)
    print(f"{name_of(device)}, {dtype}, torch {torch.__version__}, {rounds} interleaved rounds, one UNet call, cond + uncond")
    figures: dict[str, Any] = {"device": name_of(device), "dtype": str(dtype), "torch": torch.__version__, "methods": {}}
    for method in options.method:
        variants = METHODS[method].variants(device, dtype, options.side, **size)
        with torch.inference_mode():
            found = measured(variants, rounds, device)
        print("\n".join(told(method, variants, found)))
        figures["methods"][method] = {**found, "operations_allow": {variant.name: variant.extra for variant in variants[1:]}}
        del variants
        gc.collect()  # one UNet at a time
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def measured(variants: Sequence[Variant], rounds: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """seconds and, of all but the plain one, ratios, by variant; peaks in MB, on a GPU. variants: the plain one first."""
    plain, *others = variants

    def seconds(variant: Variant) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        variant.call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / variant.steps

    times: dict[str, list[float]] = {variant.name: [] for variant in variants}
    ratios: dict[str, list[float]] = {variant.name: [] for variant in others}
    peaks: dict[str, float] = {}
    for variant in variants:
        seconds(variant)  # warm-up
        if device.type == "cuda":
            peaks[variant.name] = _peak(variant)
    times[plain.name].append(seconds(plain))
    for _ in range(rounds):
        for variant in random.sample(others, len(others)):
            times[variant.name].append(seconds(variant))
            times[plain.name].append(seconds(plain))
            ratios[variant.name].append(times[variant.name][-1] / statistics.mean(times[plain.name][-2:]))
    return {"seconds": times, "ratios": ratios, "peaks": peaks}


def told(method: str, variants: Sequence[Variant], found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    plain, *others = variants
    peaks = found["peaks"]
    yield f"\n{method}: a plain call takes {statistics.median(found['seconds'][plain.name]):.4f} s (median)\n"
    yield "| variant | ratio to plain, median | middle half of the rounds | operations allow | peak above plain, MB |"
    yield "|---|---|---|---|---|"
    for variant in others:
        ratios = found["ratios"][variant.name]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        allowed = "-" if variant.extra is None else f"{1 + variant.extra:.4f}"
        peak = f"{peaks[variant.name] - peaks[plain.name]:.0f}" if peaks else "-"
        yield f"| {variant.name} | {middle:.3f} | {low:.3f} to {high:.3f} | {allowed} | {peak} |"


def _peak(variant: Variant) -> float:
    """MB that a call allocates at most."""
    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    variant.call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - start) / 1e6


if __name__ == "__main__":
    main()
