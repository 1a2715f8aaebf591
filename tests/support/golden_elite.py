"""Golden cases of ELITE: outputs of csyxwei/ELITE for deterministic weights (recipe in golden_recipe.py).

They are thinned, as data/elite/cases.json says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from support import golden_recipe
from torch import Tensor

from ssr_core.attention import Branch, add_branches, plan_spans, scaled_dot_product
from ssr_core.layout import UNetLayout
from ssr_core.merge import token_gate, word_attention, words_at
from ssr_core.methods.elite.mapper import Elite, EliteConfig

DATA = Path(__file__).parents[1] / "golden" / "data" / "elite"
TINY = UNetLayout(channels=(32, 64, 128, 128), depths=(1, 1, 1, 0), resnets=2, heads=2)
TINY_CONFIG = EliteConfig(layout=TINY, text_width=48, vision_width=32)
START, END, PLACEHOLDER = 49406, 49407, 338
"""CLIP's ids; the placeholder is "s</w>"."""


@cache
def listing() -> dict[str, Any]:
    return json.loads((DATA / "cases.json").read_text())


@cache
def case(name: str) -> dict[str, Any]:
    return next(one for one in listing()["cases"] if one["name"] == name)


@cache
def outputs(name: str) -> dict[str, Tensor]:
    return {
        key.partition("/")[2]: tensor
        for key, tensor in load_file(DATA / "vectors.safetensors").items()
        if key.partition("/")[0] == name
    }


def thinned(name: str, key: str, tensor: Tensor) -> Tensor:
    """The values of a tensor that the case keeps."""
    assert list(tensor.shape) == case(name)["shapes"][key]
    every = case(name)["every"].get(key)
    return tensor.detach() if every is None else tensor.detach().flatten()[::every]


def check(name: str, key: str, actual: Tensor, **tolerance: float) -> None:
    """Whether a tensor is the case's, within the case's tolerance."""
    torch.testing.assert_close(
        thinned(name, key, actual).float(), outputs(name)[key].float(), **{**case(name)["tolerance"], **tolerance}
    )


def error(name: str, key: str, actual: Tensor) -> float:
    """|actual - expected| / |expected| over what the case keeps."""
    expected = outputs(name)[key].double()
    return float((thinned(name, key, actual).double() - expected).norm() / expected.norm())


def given(name: str, key: str) -> Tensor:
    """An input of a case."""
    shape = case(name)["inputs"][key]["shape"]
    return torch.from_numpy(golden_recipe.raw(case(name)["case_seed"], f"input:{key}", shape))


def fill(name: str, module: torch.nn.Module, prefix: str = "", renamed: str = "") -> Any:
    """The case's weights. renamed: what newer libraries dropped from the front of a module's names."""
    seed = case(name)["case_seed"]
    state = {
        key: torch.from_numpy(golden_recipe.weight(seed, f"{prefix}{renamed}{key}", tuple(tensor.shape)))
        for key, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }
    module.load_state_dict(state, strict=False, assign=True)
    return module.train(False)


def elite(name: str, config: EliteConfig = TINY_CONFIG) -> Elite:
    with torch.device("meta"):  # filled without being drawn first
        made = Elite(config)
    fill(name, made.global_mapper, "global.")
    fill(name, made.local_mapper, "local.")
    return made


def unet(name: str) -> Any:
    import diffusers

    described = case(name)["params"]
    made = diffusers.UNet2DConditionModel(**(described.get("diffusers_config") or described["diffusers_unet_config"]))
    return fill(name, made, "unet.").requires_grad_(False)


def text_encoder(name: str) -> Any:
    import transformers

    made = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=49408,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=3,
            hidden_act="quick_gelu",
            eos_token_id=END,
        )
    )
    # transformers 5 dropped the prefix that every published checkpoint has.
    prefix = "" if any(key.startswith("text_model.") for key in made.state_dict()) else "text_model."
    return fill(name, made, "text_encoder.", prefix).requires_grad_(False)


def vision_encoder(name: str) -> Any:
    import transformers

    described = case(name)["params"]["vision_config"]
    made = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=described["hidden"],
            intermediate_size=64,
            num_hidden_layers=described["layers"],
            num_attention_heads=described["heads"],
            patch_size=described["patch"],
            image_size=described["image"],
        )
    )
    prefix = "" if any(key.startswith("vision_model.") for key in made.state_dict()) else "vision_model."
    return fill(name, made, "image_encoder.", prefix).requires_grad_(False)


def tokenizer() -> Any:
    """CLIP's, with the words of the prompts that are sampled alone."""
    import transformers

    words = {"a</w>": 320, "s</w>": 338, "in</w>": 530, "the</w>": 518, "snow</w>": 2583}
    merges = [("i", "n</w>"), ("t", "h"), ("th", "e</w>"), ("s", "n"), ("o", "w</w>"), ("sn", "ow</w>")]
    letters = sorted({letter for word in words for letter in word.removesuffix("</w>")})
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "th", "sn", "ow</w>"]
    free = {piece: 10_000 + number for number, piece in enumerate(pieces)}
    vocabulary = {**free, **words, "<|startoftext|>": START, "<|endoftext|>": END}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, pad_token="<|endoftext|>")


def embedding(encoder: Any) -> Any:
    """The token embedding of transformers' CLIPTextModel, which newer versions keep in another place."""
    return getattr(encoder, "text_model", encoder).embeddings.token_embedding


def encode(encoder: Any, ids: Tensor, embeds: Tensor | None = None) -> Tensor:
    """Last hidden state [B, 77, D]; embeds: in the place of the ids' own embeddings."""
    hook = embedding(encoder).register_forward_hook(lambda *_: embeds)
    try:
        return encoder(ids).last_hidden_state
    finally:
        hook.remove()


class Processor:
    """A cross-attention with ELITE's keys and values, for tests of the formula in a whole UNet. local: K and V, or None."""

    def __init__(
        self,
        text: tuple[Tensor, Tensor],
        local: tuple[Tensor, Tensor] | None,
        word: Tensor,
        strength: float,
        coupled: bool,
    ) -> None:
        self.text, self.local, self.word, self.strength, self.coupled = text, local, word, strength, coupled

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        query = attn.to_q(hidden_states)
        text_key, text_value = (encoder_hidden_states @ matrix.T for matrix in self.text)
        out = scaled_dot_product(query, text_key, text_value, attn.heads)
        if self.local is not None:
            chunks = self.word.shape[1]
            (weight,) = token_gate(query, text_key, self.word, attn.heads)
            if self.coupled:
                (attends,) = word_attention(query, text_key, self.word, attn.heads)
                weight = attends / attends.max()
            branch = Branch(*self.local, self.strength, weight)
            out = add_branches(out, query, [branch], plan_spans(range(chunks)), chunks, attn.heads)
        return attn.to_out[0](out)


@contextmanager
def attached(
    unet: Any, elite: Elite, places: Sequence[Sequence[int]], tokens: Tensor | None, strength: float, coupled: bool = False
):
    """ELITE in a diffusers UNet for the length of a with-block. places: of the word by text; tokens: [B, P, D] or None; coupled: the gate
    divided by the whole batch's largest attention, as the authors train (elite.md, E1)."""
    before = dict(unet.attn_processors)
    own = dict(before)
    word = words_at([places], 77)
    layout = elite.config.layout.layers
    local = [None] * len(layout) if tokens is None else list(elite.local_mapper.project(tokens))
    for matrices, pair in zip(elite.global_mapper.matrices(), local, strict=True):
        text = (matrices.key, matrices.value)
        own[f"{matrices.layer.diffusers_name}.processor"] = Processor(text, pair, word, strength, coupled)
    unet.set_attn_processor(own)
    try:
        yield local
    finally:
        unet.set_attn_processor(before)
