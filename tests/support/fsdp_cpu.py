"""`ssr-encoder train` with accelerate's FSDP on processors: python -m torch.distributed.run ... -m support.fsdp_cpu FILE [--resume ...]

accelerate 1.15 takes FSDP for graphics cards only: AcceleratorState leaves out MULTI_CPU where it turns a distributed run into an FSDP
one. That one line is put right here; all else is accelerate's and torch's own. Every process says what it keeps."""

from __future__ import annotations

import os
import sys
from typing import Any

from accelerate import state
from accelerate.utils import DistributedType

os.environ.update(
    ACCELERATE_USE_FSDP="true",
    FSDP_VERSION="2",
    FSDP_AUTO_WRAP_POLICY="TRANSFORMER_BASED_WRAP",
    FSDP_TRANSFORMER_CLS_TO_WRAP="ObjectProjection",
    FSDP_STATE_DICT_TYPE="FULL_STATE_DICT",
)
_plain = state.AcceleratorState.__init__


def _on_processors(self: Any, *given: Any, fsdp_plugin: Any = None, **more: Any) -> None:
    _plain(self, *given, fsdp_plugin=fsdp_plugin, **more)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin or self.fsdp_plugin


state.AcceleratorState.__init__ = _on_processors  # type: ignore[method-assign]

from ssr_core import cli  # noqa: E402
from ssr_core.training import run_state  # noqa: E402

_gather = run_state.gather


def _telling(accelerator: Any, model: Any, optimizer: Any, average: Any) -> Any:
    weights = [value for group in optimizer.param_groups for value in group["params"]]
    moments = [kept["exp_avg"] for kept in optimizer.state.values()]
    own = [sum(run_state._local(value).numel() for value in values) for values in (weights, moments)]
    # In one piece: both processes write to the same place at the same time.
    line = f"keeps {' '.join(map(str, own))} of {sum(value.numel() for value in weights)}\n"
    os.write(sys.stdout.fileno(), line.encode())
    return _gather(accelerator, model, optimizer, average)


run_state.gather = _telling
sys.exit(cli.main(["train", *sys.argv[1:], "--cpu"]))
