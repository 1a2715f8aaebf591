"""What a run needs to go on exactly where it stood: weights, optimizer, average and gradient scaler, out of its engine and into it.

accelerate's own saving is not used: it keeps pickles, and loads those of registered objects without any restriction. Random states
are not kept: samples and noise follow from the seed and the position.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from .. import tensor_files
from ..finite import fault
from . import state_file
from .average import Average

WEIGHTS, STATE = "model.safetensors", "state.safetensors"
OLD_OPTIMIZER, OLD_AVERAGE, OLD_SCALER = "optimizer.bin", "custom_checkpoint_0.pkl", "scaler.pt"
"""As accelerate called them, which kept a run's state until version 0.1."""


def check_engine(accelerator: Accelerator) -> None:
    """Raises ValueError for engines whose state cannot be kept, and where half precision would train without scaled gradients."""
    known = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.FSDP)
    if accelerator.distributed_type not in known:
        raise ValueError(
            f"accelerate is set up for {accelerator.distributed_type.value}; training runs on one device, data-parallel or "
            "with FSDP. Run `accelerate config` again, or start without `accelerate launch`."
        )
    if accelerator.mixed_precision == "fp16" and accelerator.scaler is None:
        raise ValueError(
            f"precision: fp16 needs a GPU: on {accelerator.device.type} gradients are not scaled, and small ones would be lost. Set "
            "precision to bf16 or no."
        )


def gather(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, average: Average | None
) -> tuple[dict[str, Tensor], Any]:
    """The weights by their own names and the rest of the state. All processes take part; the first gets everything."""
    kept = {
        "optimizer": _optimizer_state(accelerator, model, optimizer),
        "average": None if average is None else {"updates": average.updates, "values": averaged(accelerator, model, average)},
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
    }
    return _weights(accelerator, model), kept


def averaged(accelerator: Accelerator, model: nn.Module, average: Average) -> dict[str, Tensor]:
    """The average by the weights' names."""
    with average.in_place():
        return {name: value.detach().cpu().clone() for name, value in _weights(accelerator, model).items()}


def write(folder: Path, weights: Mapping[str, Tensor], kept: Any) -> None:
    tensor_files.write(weights, folder / WEIGHTS)
    state_file.write(kept, folder / STATE)


def load(accelerator: Accelerator, model: nn.Module, optimizer: Any, average: Average | None, folder: Path) -> None:
    """Put a checkpoint's state in place. Raises ValueError or FileNotFoundError that names what does not fit."""
    kept = state_file.read(folder / STATE) if (folder / STATE).is_file() else _old_state(accelerator, folder)
    if (average is None) != (kept["average"] is None):
        raise ValueError(
            f"{folder} was made {'with' if average is None else 'without'} `ema`; go on with it as it was, or fine-tune from the "
            "checkpoint's weights in another `out` (start_from)."
        )
    if average is not None:
        values = kept["average"]["values"]
        if isinstance(values, list):  # of an earlier version
            average.load_state_dict(kept["average"])
        else:
            _put_weights(accelerator, model, values, folder / STATE)
            average.load_state_dict({**kept["average"], "values": [p.detach().clone() for p in average.parameters]})
    weights, _ = tensor_files.read(folder / WEIGHTS, "go on from an earlier checkpoint: move this one away")
    _put_weights(accelerator, model, {name.removeprefix("module."): value for name, value in weights.items()}, folder / WEIGHTS)
    _put_optimizer_state(accelerator, model, optimizer, kept["optimizer"], folder)
    if accelerator.scaler is not None and kept["scaler"] is not None:
        accelerator.scaler.load_state_dict(kept["scaler"])


def finite(accelerator: Accelerator, optimizer: Any, average: Average | None) -> bool:
    """Whether all weights are such as a file may hold (finite.fault), and all that is kept about them are numbers, on every process."""
    weights = [parameter.detach() for group in optimizer.param_groups for parameter in group["params"]]
    weights += [] if average is None else average.values
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    wrong = sum(fault(_local(value)) is not None for value in weights) + sum(
        not bool(_local(value).isfinite().all()) for value in kept
    )
    return accelerator.reduce(torch.tensor(float(wrong), device=accelerator.device), "sum").item() == 0


def _local(value: Any) -> Tensor:
    """A process's part of a tensor that is spread over several."""
    return value.to_local() if hasattr(value, "to_local") else value


def _weights(accelerator: Accelerator, model: nn.Module) -> dict[str, Tensor]:
    return accelerator.get_state_dict(model)


def _is_sharded(accelerator: Accelerator) -> bool:
    return accelerator.distributed_type == DistributedType.FSDP


def _options() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=True)


def _optimizer_state(accelerator: Accelerator, model: nn.Module, optimizer: Any) -> Any:
    """By a parameter's number, or by its name where parameters are sharded."""
    if _is_sharded(accelerator):
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        return get_optimizer_state_dict(model, optimizer.optimizer, options=_options())
    return {"state": optimizer.state_dict()["state"]}


def _put_weights(accelerator: Accelerator, model: nn.Module, weights: Mapping[str, Tensor], named: Path) -> None:
    try:
        if _is_sharded(accelerator):
            from torch.distributed.checkpoint.state_dict import set_model_state_dict

            set_model_state_dict(model, dict(weights), options=_options())
        else:
            accelerator.unwrap_model(model).load_state_dict(weights)
    except RuntimeError as error:  # torch lists every name and shape
        raise ValueError(
            f"{named} does not fit what the configuration describes: names or shapes differ. Go on with the configuration that the "
            "run began with (config.yaml beside it)."
        ) from error


def _put_optimizer_state(accelerator: Accelerator, model: nn.Module, optimizer: Any, kept: Any, folder: Path) -> None:
    if _is_sharded(accelerator):
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        set_optimizer_state_dict(model, optimizer.optimizer, kept, options=_options())
        return
    current = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = kept["state"] if isinstance(kept, dict) else None
    eight_bit = not isinstance(optimizer.optimizer, torch.optim.AdamW)
    fits = _fits_eight_bit if eight_bit else _fits
    if not isinstance(state, dict) or not all(
        number in range(len(parameters)) and fits(one, parameters[number]) for number, one in state.items()
    ):
        raise ValueError(f"The optimizer's state in {folder} does not fit the configuration. Go on from another checkpoint.")
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})


def _fits_eight_bit(state: Any, parameter: Tensor) -> bool:
    """Whether this is bitsandbytes' state of a parameter, whose two moments are bytes with scales (or floats of a small parameter), all in
    one dictionary beside the step (bitsandbytes/optim/optimizer.py, state_dict)."""
    if not isinstance(state, dict):
        return False
    moments = next((value for value in state.values() if isinstance(value, dict)), state)
    return all(
        isinstance(moments.get(name), Tensor) and moments[name].numel() == parameter.numel() for name in ("state1", "state2")
    )


def _fits(state: Any, parameter: Tensor) -> bool:
    """Whether this is AdamW's state of a parameter."""
    expected = {"step": torch.Size([]), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    return (
        isinstance(state, dict)
        and state.keys() == expected.keys()
        and all(isinstance(state[name], Tensor) and state[name].shape == shape for name, shape in expected.items())
    )


def _old_state(accelerator: Accelerator, folder: Path) -> dict[str, Any]:
    """Of a folder that accelerate wrote."""
    if _is_sharded(accelerator):
        raise ValueError(
            f"{folder} is an earlier version's of an FSDP run, whose pickles are not read. Start anew with start_from."
        )
    average, scaler = folder / OLD_AVERAGE, folder / OLD_SCALER
    return {
        "optimizer": state_file.read_pickle(folder / OLD_OPTIMIZER),
        "average": state_file.read_pickle(average) if average.is_file() else None,
        "scaler": state_file.read_pickle(scaler) if scaler.is_file() else None,
    }
