"""Where bf16 pays: every device computes in it, but a CPU without instructions for it is about ten times slower than in float32."""

from __future__ import annotations

import torch


def has_bf16(device: torch.device | str) -> bool:
    """Whether torch is fast in bf16 there; on a CPU that takes oneDNN and instructions that it knows (AVX-512, AMX, Arm's)."""
    if torch.device(device).type != "cpu":
        return True
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device | str) -> torch.autocast:
    """Autocast to bf16 where that is faster, else none."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=has_bf16(device))
