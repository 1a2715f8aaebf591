"""What a subject costs per sampling step, against the plain UNet and against recomputing K and V at every step.

    python benchmarks/step_overhead.py            # any device; ComfyUI found as the host tests find it

ComfyUI's own UNet at SD1.5 shape, 64 x 64 latents, cond + uncond. All variants run interleaved in one process, in an order that
is shuffled every round, with a plain step before and after each; the table gives the median over rounds of a variant's time divided
by the mean of its two plain neighbours.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from typing import Any

import torch
from host import arguments, chosen, comfy_host, name_of, sd15_unet
from torch import Tensor, nn

PLAIN, SUBJECT, PROJECTIONS = 1606.5, 42.7, 35.4
"""Operations of a step in GFLOP: the UNet's own, a subject's attention (both counted by tests/host/test_counts.py), and projecting its K
and V at every step (counted with torch's FlopCounterMode on Xiaojiu-z/SSR_Encoder, ssr_encoder/attention_processor.py)."""
VARIANTS = {
    "one subject": 1,
    "three subjects": 3,
    "three, a third of the picture each": 3,
    "recompute, one": 1,
    "recompute, three": 3,
}
IN_THIRDS = 44.6
"""The same of three subjects in regions with hard edges. More than one subject's: coarse grids have columns that lie in two regions."""


class Step:
    """One UNet call as the host's APPLY_MODEL chain makes it."""

    def __init__(self, base: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.class_obj = base
        self.latent = torch.randn(2, 4, 64, 64, device=device, dtype=dtype)
        self.text = torch.randn(2, 77, 768, device=device, dtype=dtype)
        self.timesteps = torch.full((2,), 500.0, device=device)

    def __call__(self, latent: Tensor, sigmas: Tensor, concat: Any, text: Any, control: Any, options: dict[str, Any]) -> Tensor:
        return self.class_obj.diffusion_model(latent, self.timesteps, context=self.text, transformer_options=options)


def thirds() -> list[Tensor]:
    """Three regions with hard edges, side by side."""
    column = torch.arange(512) * 3 // 512
    return [(column == third).float().expand(1, 512, -1) for third in range(3)]


def ours(step: Step, subjects: int, device: torch.device, dtype: torch.dtype, in_thirds: bool = False) -> Any:
    """A step with subjects bound as while sampling: in one run, so that K and V are moved to the device once."""
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    layout = comfy_host.part("ssr_core.layout").SD15
    manner = comfy_host.part("ssr_core.schedule").Manner

    def applied(tokens: int, region: Tensor | None = None) -> Any:
        keys_values = tuple(
            tuple(torch.randn(2, tokens, layer.width, device=device, dtype=dtype) for _ in range(2)) for layer in layout.layers
        )
        return sampling.Applied(layout, (keys_values,), manner(0.65, region=region))

    parts = tuple(applied(462, region) for region in thirds()) if in_thirds else (applied(462 * subjects),)
    bound, run = sampling.bind(parts), sampling.Run(parts)
    options = {"cond_or_uncond": [1, 0], sampling.KEY: run}
    return lambda: bound(step, step.latent, step.timesteps, None, None, None, options)


def recomputing(step: Step, subjects: int, device: torch.device, dtype: torch.dtype) -> Any:
    """Every layer projects the subject tokens of the whole batch at every step, as Xiaojiu-z/SSR_Encoder's
    ssr_encoder/attention_processor.py does."""
    from comfy.ldm.modules.attention import optimized_attention

    layout = comfy_host.part("ssr_core.layout").SD15
    tokens = torch.randn(2, 462 * subjects, 768, device=device, dtype=dtype)
    attn2 = {}
    for layer in layout.layers:
        to_k, to_v = (nn.Linear(768, layer.width, bias=False, device=device, dtype=dtype) for _ in range(2))

        def attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any], to_k: Any = to_k, to_v: Any = to_v) -> Tensor:
            text = optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra)
            return text + 0.65 * optimized_attention(q, to_k(tokens), to_v(tokens), extra["n_heads"], transformer_options=extra)

        attn2[layer.block] = attend
    options = {"cond_or_uncond": [1, 0], "patches_replace": {"attn2": attn2}}
    return lambda: step(step.latent, step.timesteps, None, None, None, options)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="default: 9 on a CPU, 60 on a GPU")
    options = parser.parse_args()
    device, dtype = chosen(options)
    rounds = options.rounds or (9 if device.type == "cpu" else 60)
    step = Step(sd15_unet(device, dtype), device, dtype)
    calls = {
        name: recomputing(step, subjects, device, dtype)
        if name.startswith("recompute")
        else ours(step, subjects, device, dtype, in_thirds="third" in name)
        for name, subjects in VARIANTS.items()
    }
    calls["plain"] = lambda: step(step.latent, step.timesteps, None, None, None, {"cond_or_uncond": [1, 0]})

    def seconds(name: str) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        calls[name]()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    times: dict[str, list[float]] = {name: [] for name in calls}
    ratios: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with torch.inference_mode():
        for name in calls:
            seconds(name)  # warm-up
        times["plain"].append(seconds("plain"))
        for _ in range(rounds):
            for name in random.sample(list(VARIANTS), len(VARIANTS)):
                times[name].append(seconds(name))
                times["plain"].append(seconds("plain"))
                ratios[name].append(times[name][-1] / statistics.mean(times["plain"][-2:]))

    print(f"{name_of(device)}, {dtype}, torch {torch.__version__}, {rounds} interleaved rounds, one UNet call, cond + uncond\n")
    print(f"a plain call takes {statistics.median(times['plain']):.4f} s (median)\n")
    print("| variant | ratio to plain, median | middle half of the rounds | operations allow |\n|---|---|---|---|")
    allowed = {}
    for name, subjects in VARIANTS.items():
        extra = subjects * (SUBJECT + (PROJECTIONS if name.startswith("recompute") else 0.0))
        extra = IN_THIRDS if "third" in name else extra
        allowed[name] = 1 + extra / PLAIN
        low, middle, high = statistics.quantiles(ratios[name], n=4)
        print(f"| {name} | {middle:.3f} | {low:.3f} to {high:.3f} | {allowed[name]:.3f} |")
    if options.json:
        figures = {"device": name_of(device), "dtype": str(dtype), "torch": torch.__version__}
        figures |= {"seconds": times, "ratios": ratios, "operations_allow": allowed}
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
