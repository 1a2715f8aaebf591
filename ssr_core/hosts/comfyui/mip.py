"""The MIP-Adapter in the host: its module under the host's memory management, names out of its CLIP, objects on its MODELs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...branches import BranchInput
from ...merge import Combine
from ...methods.mip import formats
from ...methods.mip.adapter import AdapterConfig, MIPAdapter
from ...methods.mip.encode import Adapter
from ...methods.mip.objects import MERGES, Name, ObjectSet, active, branch_inputs, check_adapter, check_name, regions_of
from ...schedule import Manner
from ...shown import shown
from .applied import Applied, parts_of
from .apply import compute_dtype, hang
from .layout import check_model
from .managed import KeysValues, keys_values, loaded, managed
from .texts import encode_plain

WHAT = "the MIP-Adapter"


@dataclass(frozen=True, eq=False)
class HostAdapter:
    """SSR_MIP_ADAPTER on the wire: the module under a ModelPatcher, and its gates, [C] for every layer.

    gated: whether its file had gates, or they are 1 everywhere. The host finds .patcher when it accounts for memory.
    """

    module: MIPAdapter
    patcher: Any
    gates: tuple[Tensor, ...]
    gated: bool

    @property
    def config(self) -> AdapterConfig:
        return self.module.config

    @property
    def fingerprint(self) -> str:
        return self.module.fingerprint

    def for_encoding(self) -> Adapter:
        return Adapter(self.config, self.fingerprint, self.to_tokens)

    def to_tokens(self, features: Tensor) -> Tensor:
        """[B, E] or [B, P, E] -> [B, T, D] float32."""
        return self.module(features.float().to(loaded(self.patcher)))

    def keys_values(self, branch: BranchInput, dtype: torch.dtype) -> KeysValues:
        return keys_values(self.patcher, self.module.project, branch, dtype)


def load_adapter(path: str) -> HostAdapter:
    """Read an adapter's file into a module that the host manages."""
    weights = formats.read(Path(path))
    layers = range(len(weights.config.layout.layers))
    gates = tuple(weights.state[f"layers.{layer}.gate"].float().clone() for layer in layers)
    module, patcher = managed(partial(MIPAdapter, weights.config), weights.state)
    module.fingerprint = weights.fingerprint
    return HostAdapter(module, patcher, gates, weights.gated)


def encode_name(clip: Any, text: str, width: int) -> Name:
    """An object's name by the text encoders of the base model, and the same rows of the encoding of nothing (mip.md, section 4)."""
    check_name(text)
    encoded, nothing = (encode_plain(clip, one, width, WHAT, "name") for one in (text, ""))
    if encoded.cut:
        raise ValueError(f'The name "{shown(text, 60)}" is longer than 75 tokens. Say what the object is in a word or two.')
    rows = slice(1, len(encoded.pieces))
    return Name(text, encoded.embeds[0, rows], nothing.embeds[0, rows])


def apply_objects(model: Any, adapter: HostAdapter, objects: ObjectSet, manner: Manner, combine: Combine = MERGES[0]) -> Any:
    """A clone of MODEL that also attends to the objects, or MODEL itself where nothing would act.

    K and V of all layers are projected here, once, in the type the MODEL computes in.
    """
    check_model(model, adapter.config.layout, adapter.config.text_width, WHAT)
    check_adapter(objects, adapter.fingerprint)
    manner.check_layers(adapter.config.layout)
    if not manner.acts or not active(objects):
        return model
    dtype = compute_dtype(model)
    inputs, regions = branch_inputs(objects, combine), regions_of(objects, combine)
    gated = combine == "by word, gated" and any(bool(gate.any()) for gate in adapter.gates)
    applied = Applied(
        layout=adapter.config.layout,
        branches=tuple(adapter.keys_values(branch, dtype) for branch in inputs),
        manner=manner,
        places=tuple(manner.within(region) for region in regions) if any(region is not None for region in regions) else (),
        word_embeds=tuple(branch.word_embeds for branch in inputs if branch.word_embeds is not None),
        gates=adapter.gates if gated else (),
        parts=parts_of([(one.name, one.tokens.shape[0]) for one in active(objects)], combine == "joint"),
    )
    return hang(model, applied)
