"""Textual Inversion, the baseline: one vector for a placeholder, the same for every layer, step and picture.

The run is LASR's (learning.py) with reconstruction as its only loss. What it learns is an ordinary embedding, which every program loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ... import finite, tensor_files
from ...neighbours import kind_of
from ...shown import shown
from ...tensor_files import Shapes
from . import contexts, losses
from .from_words import one_token
from .learning import Losses, Step
from .losses import RateSchedule
from .recipe import Models, Recipe, describing

RATE = 5e-3
"""For each picture of a batch (rinongal/textual_inversion, configs/stable-diffusion/v1-finetune.yaml)."""
KEY = "emb_params"
"""The tensor's name in files of embeddings as A1111's web UI writes them; ComfyUI takes any."""


class OneVector(nn.Module):
    def __init__(self, vector: Tensor) -> None:
        """vector: [D], what it begins as."""
        super().__init__()
        self.vector = nn.Parameter(vector.clone())


class InversionLearner:
    """Begins as the describing word of the largest weight. Its rate is constant."""

    repeats, compares = 1, False

    def __init__(self, models: Models, recipe: Recipe, rate: float = RATE) -> None:
        """Raises ValueError as begin does."""
        found = describing(recipe, models.tokens)
        self.placeholder = recipe.placeholder.strip()
        self.token = one_token(self.placeholder, models.tokens, "placeholder", "z")
        heaviest = max(reversed(found), key=lambda one: one.weight)
        self.module = OneVector(models.table[heaviest.token].detach().float().cpu()).to(models.device)
        self.schedule, self.rate = RateSchedule(0, 0, 1.0, 1.0, 1.0), rate

    def losses(self, models: Models, step: Step) -> Losses:
        ids = models.ids(step.drawn.singles(self.placeholder))
        prompts = contexts.prompts_of(ids, models.embeds(ids), [self.token], ids.shape[1])
        rows = contexts.substituted(prompts.embeds, prompts.marks, [self.module.vector.expand(len(ids), -1)])
        states = models.encode(rows)  # [B, T, D]
        predicted = models.predict(step.noisy, step.timesteps, lambda *_: states)
        simple = losses.reconstruction(predicted, step.noise, step.mask)
        return {"total": simple, "reconstruction": simple}


def save(vector: Tensor, path: Path, provenance: Mapping[str, str] | None = None, new: bool = False) -> None:
    """An embedding of one token, [1, D], as a safetensors file. provenance: what else it says of itself. Raises FloatingPointError for a
    vector that no file should keep."""
    value = vector.detach().to("cpu", torch.float32)[None]
    if (fault := finite.fault(value)) is not None:
        raise FloatingPointError(f"The embedding holds {fault}. Lower the rate, and learn it anew.")
    tensor_files.write({KEY: value}, path, provenance or {}, new)


def load(path: Path, width: int) -> Tensor:
    """What save wrote: [D]. width: D of the text encoder. Raises ValueError that names the file for anything else."""

    def look(named: str, shapes: Shapes, metadata: Mapping[str, str]) -> None:
        if shapes != {KEY: (1, width)}:
            kind = kind_of(shapes) or "something else"
            raise ValueError(
                f"{named} is {kind} ({tensor_files.listed(sorted(shapes))}); expected {KEY}, an embedding of one token of width {width}. "
                "Choose a file of ssr-encoder learn --method textual-inversion, learned on this kind of model."
            )

    (value,) = tensor_files.read(path, "learn it again", look)[0].values()
    if (fault := finite.fault(value)) is not None:
        raise ValueError(f"{shown(path)} holds {fault}. Learn it again.")
    return value[0].float()
