"""Steps with the SSR-Encoder's subjects, for step_overhead.py: ours, the official algorithm, which projects K and V at every step, and the
older pack of this method where it is installed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from host import comfy_host, layout_of, sd15_unet
from torch import Tensor, nn
from variants import Variant

SIDE = 64
"""Of SD1.5's latents, for which operations are counted."""
# Operations of a step in GFLOP, counted by tests/host/test_counts.py and, for the official algorithm, in the method's facts.
PLAIN, SUBJECT, PROJECTIONS = 1606.5, 42.7, 35.4
IN_THIRDS = 45.0
"""Three subjects in regions with hard edges: over one subject's, columns that lie on an edge of a coarse grid count twice."""


PORT = "ComfyUI-SSREncoder"


class Step:
    """One UNet call as the host's APPLY_MODEL chain makes it."""

    def __init__(self, base: Any, device: torch.device, dtype: torch.dtype, side: int = SIDE, pictures: int = 1) -> None:
        self.class_obj, self.layout, self.pictures = base, layout_of(base), pictures
        rows = 2 * pictures
        self.latent = torch.randn(rows, 4, side, side, device=device, dtype=dtype)
        self.text = torch.randn(rows, 77, 768, device=device, dtype=dtype)
        self.timesteps = torch.full((rows,), 500.0, device=device)

    def __call__(self, latent: Tensor, sigmas: Tensor, concat: Any, text: Any, control: Any, options: dict[str, Any]) -> Tensor:
        return self.class_obj.diffusion_model(latent, self.timesteps, context=self.text, transformer_options=options)


def thirds() -> list[Tensor]:
    """Three regions with hard edges, side by side."""
    column = torch.arange(512) * 3 // 512
    return [(column == third).float().expand(1, 512, -1) for third in range(3)]


def ours(step: Step, subjects: int, device: torch.device, dtype: torch.dtype, in_thirds: bool = False) -> Any:
    """Bound as while sampling: one run, so K and V are placed once."""
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    layout = step.layout
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
    """The official algorithm in the host: every layer projects the subject tokens of the whole batch at every step."""
    from comfy.ldm.modules.attention import optimized_attention

    layout = step.layout
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


def older_port(step: Step, device: torch.device, dtype: torch.dtype) -> Any:
    """Its nodes, with one subject on the positive side. It numbers the UNet's input blocks otherwise than the host does, so that two
    layers get none and one gets another's; that is left as it is."""
    from comfy.model_patcher import ModelPatcher
    from safetensors.torch import save_file
    from support import neighbours

    nodes = neighbours.nodes(PORT)
    weights = {
        f"{layer.ip_adapter_number}.to_{side}_SSR.weight": torch.randn(layer.width, 768) / 768**0.5
        for layer in step.layout.layers
        for side in ("k", "v")
    }
    with tempfile.TemporaryDirectory() as folder:
        save_file(weights, Path(folder) / "layers.safetensors")
        (attentions,) = neighbours.run(nodes["LoadSSRAttention"], checkpoint=str(Path(folder) / "layers.safetensors"))
    for attention in attentions.values():
        attention.to(device).to(dtype)
    embeds = {"positive": [{"scale": 0.65, "embed": torch.randn(1, 462, 768, device=device, dtype=dtype)}], "negative": []}
    patcher = ModelPatcher(step.class_obj, load_device=device, offload_device=torch.device("cpu"))
    (patched,) = neighbours.run(nodes["ApplySSR"], model=patcher, ssr_attentions=attentions, ssr_embeds=embeds)
    options = {**patched.model_options["transformer_options"], "cond_or_uncond": [1, 0]}
    return lambda: step(step.latent, step.timesteps, None, None, None, options)


def variants(device: torch.device, dtype: torch.dtype, side: int | None) -> list[Variant]:
    from support import neighbours  # here, since it needs pytest, which a machine with a GPU may lack

    step = Step(sd15_unet(device, dtype), device, dtype, side or SIDE)
    plain = Variant("plain", lambda: step(step.latent, step.timesteps, None, None, None, {"cond_or_uncond": [1, 0]}), 0.0)
    rows = [
        Variant("one subject", ours(step, 1, device, dtype), SUBJECT),
        Variant("three subjects", ours(step, 3, device, dtype), 3 * SUBJECT),
        Variant("three, a third of the picture each", ours(step, 3, device, dtype, in_thirds=True), IN_THIRDS),
        Variant("recompute, one", recomputing(step, 1, device, dtype), SUBJECT + PROJECTIONS),
        Variant("recompute, three", recomputing(step, 3, device, dtype), 3 * (SUBJECT + PROJECTIONS)),
    ]
    counted = step.latent.shape[-1] == SIDE
    rows = [row._replace(extra=row.extra / PLAIN if counted and row.extra is not None else None) for row in rows]
    if neighbours.find(PORT) is None:
        print(f"{PORT} is not in the host's custom_nodes, so its row is left out.\n")
    else:
        rows.append(Variant(f"{PORT}, one subject", older_port(step, device, dtype), None))
    return [plain, *rows]
