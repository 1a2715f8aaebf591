"""Golden cases of askerlee/AdaFace-dev at 6b1560fa (data/lasr): weights and inputs by recipe, and the tiny models of the cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import golden_weights
from torch import Tensor, nn

from ssr_core.hosts.diffusers import context
from ssr_core.layout import SD15, UNetLayout
from ssr_core.methods.lasr.contexts import Learned
from ssr_core.methods.lasr.embedder import EmbedderShapes, SubjectEmbedder

DATA = Path(__file__).parents[1] / "golden" / "data" / "lasr"
START, END, LENGTH = 49406, 49407, 77
TINY = UNetLayout(channels=(32, 64, 128, 128), depths=(1, 1, 1, 0), resnets=2, heads=8)
"""The UNet of whole-model cases: Stable Diffusion 1.5's at a tenth of its width."""


@cache
def _listing() -> dict[str, Any]:
    return json.loads((DATA / "cases.json").read_text())


@cache
def cases() -> dict[str, dict[str, Any]]:
    return {case["id"]: case for case in _listing()["cases"]}


def of_kind(kind: str) -> list[str]:
    return [name for name, case in cases().items() if case["kind"] == kind]


@cache
def _arrays() -> dict[str, Tensor]:
    return load_file(DATA / "arrays.safetensors")


def assert_close(actual: Tensor, name: str, key: str) -> None:
    """Within the case's tolerance. Of arrays that are kept thinned, every n-th number of the last axis is compared."""
    expected, stated = _arrays()[f"{name}/{key}"], cases()[name]["expected"][key]
    step = _listing()["thinned"]["arrays"].get(f"{name}/{key}", 1)
    torch.testing.assert_close(actual.detach()[..., ::step], expected, atol=stated["atol"], rtol=stated["rtol"])


def raw(seed: int, key: str, *shape: int) -> Tensor:
    """An input."""
    return torch.from_numpy(golden_weights.raw(seed, key, shape))


def auto(seed: int, key: str, shape: Sequence[int]) -> Tensor:
    """A parameter."""
    return torch.from_numpy(golden_weights.tensor(seed, key, tuple(shape)))


def check_recipe() -> None:
    own = _listing()["recipe_self_check"]
    torch.testing.assert_close(auto(own["seed"], own["key"], own["shape"])[0, :4], torch.tensor(own["first4"]))


def fill(module: nn.Module, seed: int, rename: Callable[[str], str]) -> None:
    """Weights by recipe under the names that the cases give them."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(auto(seed, rename(name), parameter.shape))


def embedder(seed: int, words: int, rank: int, layout: UNetLayout = SD15, bias: bool = True) -> SubjectEmbedder:
    made = SubjectEmbedder(EmbedderShapes(layout, 768, words, rank))
    fill(made, seed, lambda name: name)
    if not bias:  # is the same as a bias of zero
        with torch.no_grad():
            made.static.bias.zero_()
    return made


def subjects(case: dict[str, Any], strength: float = 1.0) -> list[Learned]:
    return [Learned(embedder(one["seed"], one["n_init"], one["rank"]), one["token_id"], strength) for one in case["subjects"]]


def token_ids(prompts: Sequence[str]) -> Tensor:
    """[prompts, 77] of a case's prompts, by CLIP's vocabulary."""
    known = _listing()["token_ids"]
    rows = [[START, *known[prompt]] for prompt in prompts]
    return torch.tensor([row + [END] * (LENGTH - len(row)) for row in rows])


class Tokenizer:
    """The cases' prompts and placeholders as transformers' tokenizer gives them."""

    def __call__(self, texts: Any, add_special_tokens: bool = True, **_: Any) -> Any:
        ids = token_ids([texts] if isinstance(texts, str) else texts)
        if not add_special_tokens:
            return SimpleNamespace(input_ids=[token for token in ids[0].tolist() if token not in (START, END)])
        return SimpleNamespace(input_ids=ids)


def features(case: dict[str, Any], layer: dict[str, Any], batch: int) -> Tensor:
    """What enters a layer: [B, C, h, w]."""
    index, width = layer["emb_idx"], layer["channels"]
    spread = raw(case["seed"], f"infeat.{index}", batch, width, *layer["hw"])
    return spread + raw(case["seed"], f"infeat_mean.{index}", batch, width, 1, 1)


def mask(rectangles: Sequence[Sequence[int]], height: int, width: int) -> Tensor:
    """[B, H, W], 1 inside."""
    made = torch.zeros(len(rectangles), height, width)
    for row, (top, bottom, left, right) in zip(made, rectangles, strict=True):
        row[top:bottom, left:right] = 1
    return made


class TextEncoder:
    """transformers' CLIP text model by recipe: its table of tokens, and a function from rows of embeddings to last hidden states."""

    def __init__(self, case: dict[str, Any]) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        self.model = CLIPTextModel(CLIPTextConfig(**case["clip"])).eval().requires_grad_(False)
        seed = case.get("clip_seed", case["seed"])
        # transformers 5 dropped the prefix from its own names.
        fill(self.model, seed, lambda name: "clip.text_model." + name.removeprefix("text_model."))
        (self.table,) = (module for name, module in self.model.named_modules() if name.endswith("token_embedding"))
        self.rows = 0

    def embeds(self, ids: Tensor) -> Tensor:
        return self.table(ids)

    def __call__(self, rows: Tensor) -> Tensor:
        self.rows += len(rows)
        handle = self.table.register_forward_hook(lambda *_: rows)
        try:
            return self.model(torch.zeros(rows.shape[:2], dtype=torch.long)).last_hidden_state
        finally:
            handle.remove()


def unet(seed: int) -> Any:
    """The tiny UNet in diffusers' classes, its weights drawn under their LDM names."""
    import diffusers

    made = diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=TINY.channels,
        layers_per_block=2,
        cross_attention_dim=768,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )
    fill(made, seed, lambda name: "unet." + _ldm_name(name))
    return made.eval().requires_grad_(False)


_INSIDE = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}  # fmt: skip
_ENDS = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}  # fmt: skip


def _ldm_name(name: str) -> str:
    """diffusers' name of a parameter in Stable Diffusion 1.x's UNet -> the LDM name."""
    for ours, theirs in _ENDS.items():
        if name.startswith(ours + "."):
            return theirs + name.removeprefix(ours)
    stage, *rest = name.split(".")
    if stage == "mid_block":
        kind, index, *inner = rest
        place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(index)}"
    else:
        level, kind, index, *inner = rest
        down = stage == "down_blocks"
        if kind in ("downsamplers", "upsamplers"):
            has_attention = not (stage == "up_blocks" and level == "0")
            place = (
                f"input_blocks.{3 * int(level) + 3}.0.op"
                if down
                else f"output_blocks.{3 * int(level) + 2}.{1 + has_attention}.conv"
            )
            return f"{place}.{inner[-1]}"
        number = 3 * int(level) + int(index) + down
        place = f"{'input' if down else 'output'}_blocks.{number}.{int(kind == 'attentions')}"
    if kind == "resnets":
        inner[0] = _INSIDE[inner[0]]
    return ".".join((place, *inner))


def run_with_contexts(model: Any, latents: Tensor, steps: Tensor, contexts: Callable[[int, Tensor, Tensor], Tensor]) -> Tensor:
    """The UNet's prediction with a context of its own for each layer.

    contexts: (layer, what enters its block [B, C, h, w], time vector [B, T]) -> [B, 77, 768], asked in the order of layers.
    """

    class Given:
        def begin(self, timestep: Any, text: Tensor) -> None:
            pass

        def make(self, number: int, text: Tensor, entering: context.Entering) -> Tensor:
            return contexts(number, *entering)

    with context.contexts_attached(model, TINY, Given()):
        return model(latents, steps, torch.zeros(len(latents), LENGTH, 768)).sample


def noisy(latents: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
    """Stable Diffusion's forward process, from its definition."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = torch.from_numpy(np.cumprod(1 - betas)).float()[steps].view(-1, 1, 1, 1)
    return kept.sqrt() * latents + (1 - kept).sqrt() * noise


def near(expected, rel=1e-4, abs=0.0):
    return pytest.approx(expected, rel=rel, abs=abs)


def value(case, key, part="expected"):
    stated = case[part][key]
    return near(stated["value"], stated.get("rtol", 1e-6), stated.get("atol", 0.0))
