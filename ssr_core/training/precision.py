"""What a device computes in bf16: every device can, but a CPU without instructions for it is about ten times slower than in float32."""

from __future__ import annotations

import torch


def has_bf16(device: torch.device | str) -> bool:
    """Whether the device has instructions for bf16 (a CPU: AVX-512 BF16, AMX, or Arm's)."""
    if torch.device(device).type != "cpu":
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: torch.device | str) -> torch.autocast:
    """Autocast to bf16 where that is faster, else none."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=has_bf16(device))
