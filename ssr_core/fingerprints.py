"""Which weights these are: an identity that what was made with them carries, so that it never meets others.

Of full-precision weights the identity is computed, whatever file they were in. A half-precision copy keeps that of the original, which
rounded weights cannot prove; what can be checked is that they are the weights the claim was written for.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor

from .shown import shown
from .tensor_files import State

log = logging.getLogger("ssr_encoder")

FINGERPRINT = re.compile(r"[0-9a-f]{32}")


def fingerprint(identity: str, state: Mapping[str, Tensor]) -> str:
    """32 hexadecimal digits of what the shapes are in words, and of names and float32 values of the weights."""
    digest = hashlib.blake2b(identity.encode(), digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy())  # type: ignore[arg-type]  # a contiguous array is a buffer
    return digest.hexdigest()


def together(*fingerprints: str) -> str:
    """One identity of several parts that are used together."""
    return hashlib.blake2b(" ".join(fingerprints).encode(), digest_size=16).hexdigest()


def claimed(original: str | None, written_for: str | None, own: str, named: str, remedy: str) -> str:
    """The identity of a half-precision copy. original: what the file says it is a copy of; written_for: the fingerprint of the copy
    itself when that was written; own: of what is there now. Raises ValueError where they do not belong together."""
    if original is None and written_for is None:
        return own
    if original is None or not FINGERPRINT.fullmatch(original):
        raise ValueError(f'{named}: its fingerprint is "{shown(original, 40)}", expected 32 hexadecimal digits. {remedy}')
    if written_for != own:
        raise ValueError(
            f"{named}: its weights are not those that its fingerprint was written for (found {own[:12]}, written for "
            f"{shown(written_for, 12)}). They were changed afterwards, so what was made with {original[:12]} may mean nothing to them. "
            f"{remedy}"
        )
    return original


def is_half(state: Mapping[str, Tensor]) -> bool:
    return all(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in state.values())


def of_one_type(state: State, named: str) -> State:
    """All tensors in the widest of their types, which holds every number of the others."""
    types = {tensor.dtype for tensor in state.values()}
    if len(types) < 2:
        return state
    widest = reduce(torch.promote_types, types)
    log.warning("%s holds %s; used as %s.", named, " and ".join(sorted(map(str, types))), widest)
    return {name: tensor.to(widest) for name, tensor in state.items()}
