"""Measures one call of a UNet on any device: time against plain ones before and after, memory, launches and synchronisations."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy", "aten::_local_scalar_dense")
"""Events in which the CPU waits for the device; the last is a tensor read as a number, which waits on every device."""
BURST = 0.15
"""Seconds that the calls of one timing last together: a sampling hands over its steps without waiting for each."""
MOST_CALLS = 30


class Row(NamedTuple):
    """name: as the results call it; open: while it is entered, the call that it gives is this way to make a step."""

    name: str
    open: Callable[[], AbstractContextManager[Callable[[], Any]]]


def name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(row: Row, device: torch.device, calls: int) -> float:
    """Of one call among several, warm ones before them."""
    with row.open() as call:
        call()
        wait(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait(device)
        return (time.perf_counter() - start) / calls


def compared(plain: Row, others: list[Row], device: torch.device, rounds: int) -> dict[str, dict[str, Any]]:
    """Every row in turn, round after round, with the plain one between them: milliseconds a call, and the ratio to its plain neighbours."""
    calls = {}
    for row in (plain, *others):
        seconds(row, device, 1)
        calls[row.name] = min(max(1, int(BURST / seconds(row, device, 1))), MOST_CALLS)
    times: dict[str, list[float]] = {row.name: [] for row in (plain, *others)}
    ratios: dict[str, list[float]] = {row.name: [] for row in others}
    times[plain.name].append(seconds(plain, device, calls[plain.name]))
    for _ in range(rounds):
        for row in others:
            times[row.name].append(seconds(row, device, calls[row.name]))
            times[plain.name].append(seconds(plain, device, calls[plain.name]))
            ratios[row.name].append(times[row.name][-1] / statistics.mean(times[plain.name][-2:]))
    found: dict[str, dict[str, Any]] = {name: {"ms": round(1e3 * statistics.median(own), 3)} for name, own in times.items()}
    for name, own in ratios.items():
        found[name] |= {"ratio": round(statistics.median(own), 4), "ratios": [round(one, 4) for one in sorted(own)]}
    return found


def peak(row: Row, device: torch.device) -> float:
    """Megabytes that a call allocates at most, over what is held before it."""
    with row.open() as call:
        call()
        wait(device)
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        call()
        wait(device)
        return (torch.cuda.max_memory_allocated(device) - start) / 1e6


def counted(row: Row, device: torch.device) -> dict[str, int | str]:
    """Of a warm call: kernels on a GPU, on a CPU operations of torch that call no others; and waits for the device."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with row.open() as call:
        call()
        wait(device)
        with profile(activities=activities) as profiled:
            call()
        waits_told = _refused(call) if device.type == "cuda" else ""
    events = profiled.events()
    if device.type == "cuda":
        launched = sum(one.device_type == DeviceType.CUDA and not one.name.startswith(("Memcpy", "Memset")) for one in events)
    else:
        launched = sum(one.name.startswith("aten::") and not one.cpu_children for one in events)
    found: dict[str, int | str] = {"launches": launched, "waits": sum(one.name in WAITS for one in events)}
    return {**found, "refused": waits_told} if waits_told else found


def _refused(call: Callable[[], Any]) -> str:
    """What torch says where it is told to refuse waiting for the GPU; "" where nothing waits."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return ""
