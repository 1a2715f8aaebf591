"""Modules of our own under the host's memory management."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch
from torch import Tensor, nn

from ...branches import BranchInput, check_representable

KeysValues = tuple[tuple[Tensor, Tensor], ...]


def patcher_class(disable_dynamic: bool = False) -> Any:
    """The host's ModelPatcher. Looked up at call time: hosts with dynamic VRAM swap another class in while they start."""
    plain = comfy.model_patcher.ModelPatcher
    return plain if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", plain)


def managed(make: Callable[..., nn.Module], state: Mapping[str, Tensor]) -> tuple[Any, Any]:
    """A module with these weights, and its patcher. make: given operations, device and dtype as the host wants them."""
    offload = comfy.model_management.text_encoder_offload_device()
    module = make(operations=comfy.ops.manual_cast, device=offload, dtype=next(iter(state.values())).dtype)
    module.requires_grad_(False).train(False)
    patcher = patcher_class()(module, load_device=comfy.model_management.get_torch_device(), offload_device=offload)
    dynamic = getattr(patcher, "is_dynamic", lambda: False)()
    module.load_state_dict(state, assign=dynamic)
    return module, patcher


def loaded(patcher: Any) -> torch.device:
    """The device a module of ours is on from now on, after the host made room for it. A place where the user can interrupt."""
    comfy.model_management.throw_exception_if_processing_interrupted()
    comfy.model_management.load_models_gpu([patcher])
    return patcher.load_device


def keys_values(
    patcher: Any,
    project: Callable[[Tensor, Tensor, Tensor], Iterator[tuple[Tensor, Tensor]]],
    branch: BranchInput,
    dtype: torch.dtype,
) -> KeysValues:
    """K and V of every layer, each [2, N, C] of dtype on the host's intermediate device. Computed in float32.

    project: tokens [2, N, D] and the scales of keys and values [2, N, 1] -> K and V, layer by layer.
    """
    device, keep = loaded(patcher), comfy.model_management.intermediate_device()
    tokens, key_scale, value_scale = (tensor.float().to(device) for tensor in branch.rows)
    made = tuple((key.to(keep, dtype), value.to(keep, dtype)) for key, value in project(tokens, key_scale, value_scale))
    check_representable(made, dtype)
    return made
