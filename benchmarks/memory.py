"""Extra memory per subject while sampling, against the floor of its K and V.

    python benchmarks/memory.py

ComfyUI's own UNet at SD1.5 shape, 64 x 64 latents, cond + uncond. On a GPU: peak allocated memory of a step, minus that of the plain
step, K and V coming from the CPU as they do in a graph. On a CPU, where torch counts no allocations: bytes of the tensors that
a run holds. On a GPU for one picture and for sixteen, on a CPU for one.
"""

from __future__ import annotations

import json

import torch
from gpu_measure import name_of
from host import arguments, chosen, comfy_host, sd15_unet
from variants_ssr import Step

MB = 1e6


def main() -> None:
    options = arguments(__doc__.splitlines()[0]).parse_args()
    device, dtype = chosen(options)
    sampling, layout = comfy_host_parts(device, dtype)
    base = sd15_unet(device, dtype)
    element = torch.empty(0, dtype=dtype).element_size()
    floor = 2 * 462 * sum(layer.width for layer in layout.layers) * 2 * element
    rows = {}
    print(f"{name_of(device)}, {dtype}, one UNet call, cond + uncond; floor per subject {floor / MB:.1f} MB\n")
    print("| subjects | pictures | K and V held, MB | peak above plain, MB | floor, MB |\n|---|---|---|---|---|")
    for pictures in (1, 16) if device.type == "cuda" else (1,):
        plain = peak(base, sampling, layout, 0, pictures, device, dtype)[1]
        for subjects in (1, 3):
            held, top = peak(base, sampling, layout, subjects, pictures, device, dtype)
            above = None if top is None else top - plain
            shown = "-" if above is None else f"{above / MB:.1f}"
            print(f"| {subjects} | {pictures} | {held / MB:.1f} | {shown} | {subjects * floor / MB:.1f} |")
            rows[f"{subjects} subjects, {pictures} pictures"] = {
                "held": held,
                "peak_above_plain": above,
                "floor": subjects * floor,
            }
    if options.json:
        options.json.write_text(json.dumps({"device": name_of(device), "dtype": str(dtype), "rows": rows}, indent=2))


def comfy_host_parts(device: torch.device, dtype: torch.dtype):
    comfy_host.start(cpu=device.type == "cpu")
    return comfy_host.part("ssr_core.hosts.comfyui.sampling"), comfy_host.part("ssr_core.layout").SD15


def peak(base, sampling, layout, subjects, pictures, device, dtype):
    """(bytes of K and V on the sampling device, peak bytes of a step or None)."""
    keys_values = tuple(
        tuple(torch.randn(2, 462 * subjects, layer.width, dtype=dtype) for _ in range(2)) for layer in layout.layers
    )
    applied = sampling.Applied(layout, (keys_values,) if subjects else (), comfy_host.part("ssr_core.schedule").Manner(0.65))
    run = sampling.Run((applied,))
    step = Step(base, device, dtype, pictures=pictures)
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
    with torch.inference_mode():
        options = {"cond_or_uncond": [1, 0], sampling.KEY: run}
        sampling.bind((applied,))(step, step.latent, step.timesteps, None, None, None, options)
    top = torch.cuda.max_memory_allocated() - start if device.type == "cuda" else None
    tensors = [tensor for key, pair in run._kept.items() if key[0] == "kv" for tensor in pair]
    return sum(tensor.nbytes for tensor in tensors), top


if __name__ == "__main__":
    main()
