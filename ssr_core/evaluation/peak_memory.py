"""How many bytes tensors take at the most while a module runs, on any device: counted tensor by tensor, not asked of an allocator."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """bytes: the most that tensors made since it began took at once while the module ran. What was there before, weights above all, and
    views of it do not count, nor what a fused kernel keeps to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._living = 0
        self._known: set[int] = set()
        self._running = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._count(leaf, given)
        return made

    def _count(self, tensor: Tensor, given: set[int]) -> None:
        storage = tensor.untyped_storage()
        if (identity := storage._cdata) in given or identity in self._known:
            return
        size = storage.nbytes()
        self._known.add(identity)
        self._living += size
        weakref.finalize(storage, self._gone, identity, size).atexit = False
        self._look()

    def _gone(self, identity: int, size: int) -> None:
        self._known.discard(identity)
        self._living -= size

    def _look(self) -> None:
        if self._running:
            self.bytes = max(self.bytes, self._living)

    def running(self, running: bool) -> None:
        self._running = running
        self._look()


@contextmanager
def peak_of(module: nn.Module) -> Iterator[Peak]:
    """What the module's calls take inside of it, with all that was made inside of it before them."""
    with Peak() as peak:
        hooks = [
            module.register_forward_pre_hook(lambda *_: peak.running(True)),
            module.register_forward_hook(lambda *_: peak.running(False), always_call=True),
        ]
        try:
            yield peak
        finally:
            for hook in hooks:
                hook.remove()
