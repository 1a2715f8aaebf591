"""Steps of all methods for gpu.py in diffusers' UNets, where there is no ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from gpu_measure import Row
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from ssr_core.hosts.diffusers import lasr
from ssr_core.hosts.diffusers.attach import branches_attached
from ssr_core.hosts.diffusers.base import layout_of
from ssr_core.hosts.diffusers.context import Entering, contexts_attached
from ssr_core.layout import UNetLayout
from ssr_core.methods.lasr import contexts
from ssr_core.methods.lasr.embedder import EmbedderShapes, SubjectEmbedder
from ssr_core.schedule import Manner

NAME = "diffusers"
WHOLE_STEP = True
PLACE = 5
"""Of a subject's word in the text."""
BOTH, SUBJECT_ALONE = (0, 1), (None, 0)
"""Which rows of K and V the unconditional and the conditional chunk attend to."""


def unet(kind: str, device: torch.device, dtype: torch.dtype, width: int) -> Any:
    """Stable Diffusion 1.5's or XL's UNet, or a narrower one, with random weights."""
    if kind == "sd15":
        config: dict[str, Any] = {
            "block_out_channels": (width, 2 * width, 4 * width, 4 * width), "cross_attention_dim": 768, "attention_head_dim": 8,
        }  # fmt: skip
    else:
        config = {
            "block_out_channels": (width, 2 * width, 4 * width), "cross_attention_dim": 2048,
            "attention_head_dim": tuple(factor * width // 64 for factor in (1, 2, 4)), "transformer_layers_per_block": (1, 2, 10),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "use_linear_projection": True,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
        }  # fmt: skip
    with torch.device(device):
        made = UNet2DConditionModel(**config)
    return made.to(dtype).requires_grad_(False).train(False)


def rows(kind: str, base: Any, device: torch.device, dtype: torch.dtype, side: int, pictures: int) -> list[Row]:
    """The plain step first."""
    layout, text_width, count = layout_of(base.config), base.config.cross_attention_dim, 2 * pictures

    def like(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    latent, text, steps = like(count, 4, side, side), like(count, 77, text_width), torch.full((count,), 500, device=device)
    added = {"added_cond_kwargs": {"text_embeds": like(count, 1280), "time_ids": torch.full((count, 6), 1024.0, device=device)}}

    def call() -> Any:
        return base(latent, steps, text, **(added if kind == "sdxl" else {}))

    def row(name: str, attached: Callable[[], AbstractContextManager[Any]]) -> Row:
        @contextmanager
        def opened() -> Iterator[Callable[[], Any]]:
            with attached():
                yield call

        return Row(name, opened)

    def pairs(sides: int, tokens: int) -> list[tuple[Tensor, Tensor]]:
        return [(like(sides, tokens, layer.width), like(sides, tokens, layer.width)) for layer in layout.layers]

    def branches(given: Sequence[Any], chunks: Any = BOTH, strength: float = 0.65, **more: Any) -> Callable[[], Any]:
        return lambda: branches_attached(base, layout, given, chunks, Manner(strength), **more)

    plain = row("plain", nullcontext)
    if kind == "sdxl":
        names = [[like(1, text_width) for _ in range(2)] for _ in range(2)]
        gates = [torch.randn(layer.width, device=device) for layer in layout.layers]
        found = [("MIP, two", 4), ("MIP, two of 16 tokens", 16)]
        return [
            plain,
            *(row(name, branches([pairs(2, n), pairs(2, n)], strength=0.75, words=names, gates=gates)) for name, n in found),
        ]
    thirds = [(torch.arange(512) * 3 // 512 == third).float().expand(1, 512, -1) for third in range(3)]
    learned = _Learned(layout, text_width, pictures, device)
    return [
        plain,
        row("SSR, one", branches([pairs(2, 462)])),
        row("SSR, three", branches([pairs(2, 3 * 462)])),
        row("SSR, three in regions", branches([pairs(2, 462)] * 3, places=[Manner(region=third) for third in thirds])),
        row("ELITE", branches([pairs(1, 256)], SUBJECT_ALONE, 0.8, said=[[(PLACE,)]])),
        row("LASR", lambda: contexts_attached(base, layout, learned)),
    ]


@contextmanager
def compiled(base: Any) -> Iterator[None]:
    """The UNet's forward pass under torch.compile."""
    forward = base.forward
    base.forward = torch.compile(forward)
    try:
        yield
    finally:
        base.forward = forward


class _Learned:
    """A learned subject in the positive prompt: half of every context is made from what enters the layer's block."""

    def __init__(self, layout: UNetLayout, text_width: int, pictures: int, device: torch.device) -> None:
        with torch.device(device):
            self.embedder = SubjectEmbedder(EmbedderShapes(layout, text_width, 1, 3)).requires_grad_(False)
            encoder = CLIPTextModel(CLIPTextConfig(**_TEXT)).requires_grad_(False).train(False)
        self.encode, self.pictures = lasr.encoding(encoder), pictures
        ids = torch.full((pictures, 77), 49407)
        ids[:, PLACE] = 345
        self.prompts = contexts.prompts_of(ids, torch.randn(pictures, 77, text_width), [345]).to(device)
        self.static = torch.randn(pictures, 77, text_width, device=device)
        self.subject = contexts.Learned(self.embedder, 345, 1.0)

    def begin(self, timestep: Any, text: Tensor) -> None:
        pass

    def make(self, number: int, text: Tensor, entering: Entering) -> Tensor:
        features, time = (part[self.pictures :] for part in entering)  # the conditional rows
        made = contexts.layer_context(self.encode, self.prompts, self.static, [self.subject], number, features, time, 0.5)
        return torch.cat([text[: self.pictures], made.to(text.dtype)])


_TEXT = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "projection_dim": 768,
    "hidden_act": "quick_gelu", "max_position_embeddings": 77,
}  # fmt: skip
"""CLIP-L's."""
