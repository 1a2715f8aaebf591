"""Steps with two objects of the MIP-Adapter, for step_overhead.py: ours, the official algorithm re-stated, and two references of
IPAdapter_plus where it is installed.

The official one projects the objects' keys and values and the names' keys in every layer at every step, and makes maps of all 77 tokens
(mip.md, section 5 and D14).
"""

from __future__ import annotations

from typing import Any

import torch
from host import comfy_host, layout_of, sdxl_unet
from torch import Tensor, nn
from variants import Variant

SIDE = 64
"""Of the latent: 512 x 512 pixels. A GPU takes SDXL's own 128."""
COUNTED = {
    "two objects, 4 tokens": 0.0006,
    "two objects, 16 tokens": 0.0021,
    "official, 4 tokens": 0.0139,
    "official, 16 tokens": 0.0178,
}
"""Over plain at 1024 x 1024 (mip.md, corrections; ours in tests/host/mip/test_mip_counts.py)."""
IP_ADAPTER = "ComfyUI_IPAdapter_plus"


class Step:
    """One UNet call as the host's APPLY_MODEL chain makes it."""

    def __init__(self, base: Any, device: torch.device, dtype: torch.dtype, side: int, pictures: int = 1) -> None:
        self.class_obj, self.layout = base, layout_of(base)
        base.current_patcher = self  # what asks for hooks finds none
        self.current_hooks = None
        rows = 2 * pictures
        self.latent = torch.randn(rows, 4, side, side, device=device, dtype=dtype)
        self.text = torch.randn(rows, 77, 2048, device=device, dtype=dtype)
        self.y = torch.randn(rows, 2816, device=device, dtype=dtype)
        self.timesteps = torch.full((rows,), 500.0, device=device)

    def __call__(self, latent: Tensor, sigmas: Tensor, concat: Any, text: Any, control: Any, options: dict[str, Any]) -> Tensor:
        model = self.class_obj.diffusion_model
        return model(latent, self.timesteps, context=self.text, y=self.y, transformer_options=options)


def ours(step: Step, tokens: int, words: int, device: torch.device, dtype: torch.dtype) -> Any:
    """Bound as while sampling: one run, so K, V and the names' keys are made once."""
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    layout, manner = step.layout, comfy_host.part("ssr_core.schedule").Manner

    def like(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    branches = tuple(
        tuple((like(2, tokens, layer.width), like(2, tokens, layer.width)) for layer in layout.layers) for _ in range(2)
    )
    parts = (
        sampling.Applied(
            layout,
            branches,
            manner(0.75),
            word_embeds=tuple(like(2, words, 2048) for _ in range(2)),
            gates=tuple(like(layer.width) for layer in layout.layers),
        ),
    )
    bound, run = sampling.bind(parts), sampling.Run(parts)
    options = {"cond_or_uncond": [1, 0], sampling.KEY: run}
    return lambda: bound(step, step.latent, step.timesteps, None, None, None, options)


def official(step: Step, tokens: int, words: int, device: torch.device, dtype: torch.dtype) -> Any:
    """The official algorithm in the host, two objects."""
    from comfy.ldm.modules.attention import optimized_attention

    modules = dict(comfy_host.part("ssr_core.hosts.comfyui.layout").cross_attentions(step.class_obj.diffusion_model))
    names = torch.randn(2, 2, 77, 2048, device=device, dtype=dtype)  # [rows, objects, 77, D]
    pictures = torch.randn(2, 2, tokens, 2048, device=device, dtype=dtype)
    attn2 = {}
    for layer in step.layout.layers:
        to_k, to_v = (nn.Linear(2048, layer.width, bias=False, device=device, dtype=dtype) for _ in range(2))
        gate = torch.randn(layer.width, device=device, dtype=dtype)

        def attend(
            q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any], to_k: Any = to_k, to_v: Any = to_v, gate: Any = gate
        ) -> Tensor:
            heads = extra["n_heads"]
            text = optimized_attention(q, k, v, heads, transformer_options=extra)
            block = (*extra["block"][:2], extra.get("block_index", 0))
            query = q.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, L, d]
            relevance, found = [], []
            for number in range(2):
                keys = modules[block].to_k(names[:, number]).unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, 77, d]
                maps = ((keys @ query.transpose(-1, -2)) * keys.shape[-1] ** -0.5).softmax(dim=-1)  # [B, H, 77, L]
                relevance.append(maps[:, :, 1 : 1 + words].mean(dim=(1, 2)))
                picture = pictures[:, number]
                found.append(optimized_attention(q, to_k(picture), to_v(picture), heads, transformer_options=extra))
            total = relevance[0] + relevance[1]
            opened = torch.sigmoid(text @ gate)
            opened = opened / opened.mean(dim=1, keepdim=True)
            return text + sum(
                0.75 * (share / total * opened)[..., None] * one for share, one in zip(relevance, found, strict=True)
            )

        attn2[layer.block] = attend
    options = {"cond_or_uncond": [1, 0], "patches_replace": {"attn2": attn2}}
    return lambda: step(step.latent, step.timesteps, None, None, None, options)


def two_references(step: Step, device: torch.device, dtype: torch.dtype) -> Any:
    """Two nodes of IPAdapter_plus, a reference each, with the plain adapter for SDXL: 4 tokens of ViT-bigG's embedding, 1280 wide."""
    from comfy.cli_args import args
    from comfy.model_patcher import ModelPatcher
    from support import neighbours

    setattr(
        args, {torch.float16: "fp16_unet", torch.bfloat16: "bf16_unet", torch.float32: "fp32_unet"}[dtype], True
    )  # theirs too
    layers = enumerate(comfy_host.part("ssr_core.layout").SDXL.layers)
    # As the host's executor opens a file: modules of that pack work with such tensors only if they hold no others.
    with torch.inference_mode():
        adapter = {
            "ip_adapter": {
                f"{2 * number + 1}.{name}.weight": torch.randn(layer.width, 2048) / 2048**0.5
                for number, layer in layers
                for name in ("to_k_ip", "to_v_ip")
            },
            "image_proj": nn.ModuleDict({"proj": nn.Linear(1280, 4 * 2048), "norm": nn.LayerNorm(2048)}).state_dict(),
        }
    patched = ModelPatcher(step.class_obj, load_device=device, offload_device=torch.device("cpu"))
    for _ in range(2):
        (patched, *_) = neighbours.run(
            neighbours.nodes(IP_ADAPTER)["IPAdapterEmbeds"],
            model=patched,
            ipadapter=adapter,
            pos_embed=torch.randn(1, 1280),
            neg_embed=torch.zeros(1, 1280),
            weight=0.75,
            weight_type="linear",
            start_at=0.0,
            end_at=1.0,
        )
    options = {
        **patched.model_options["transformer_options"],
        "cond_or_uncond": [1, 0],
        "sigmas": torch.ones(2, device=device),
        "original_shape": list(step.latent.shape),
    }
    found = {type(one).__name__ for one in options["patches_replace"]["attn2"].values()}
    assert found == {"Attn2Replace"}, found
    return lambda: step(step.latent, step.timesteps, None, None, None, options)


def variants(device: torch.device, dtype: torch.dtype, side: int | None) -> list[Variant]:
    from support import neighbours  # here, since it needs pytest, which a machine with a GPU may lack

    step = Step(sdxl_unet(device, dtype), device, dtype, side or SIDE)
    plain = Variant("plain", lambda: step(step.latent, step.timesteps, None, None, None, {"cond_or_uncond": [1, 0]}), 0.0)
    rows = [plain]
    for tokens, words in ((4, 1), (16, 2)):
        for name, make in (("two objects", ours), ("official", official)):
            name = f"{name}, {tokens} tokens"
            rows.append(Variant(name, make(step, tokens, words, device, dtype), COUNTED[name]))
    if neighbours.find(IP_ADAPTER) is None:
        print(f"{IP_ADAPTER} is not in the host's custom_nodes, so its row is left out.\n")
    else:
        rows.append(Variant(f"{IP_ADAPTER}, two references", two_references(step, device, dtype), None))
    return rows
