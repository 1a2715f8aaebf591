"""What every method costs on one GPU, essentials first, in under six minutes: a JSON line after each row.

    benchmarks/gpu.sh                       # on the machine with the GPU, with the torch that is there
    python benchmarks/gpu.py --device cpu --tiny --seconds 60

UNets of SD1.5 (512 x 512) and SDXL (1024 x 1024) with weights generated on the device, in ComfyUI's own classes where there is one, else
in diffusers'; without either, their cross-attentions alone. A call is cond + uncond. Each method's calls alternate with plain ones; the
ratio is the median over rounds. Then: kernels a layer and waits for the device, from the profiler; the time to encode a picture; the same
under torch.compile.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))
from gpu_measure import Row, compared, counted, name_of, peak
from support import comfy_host

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
LAYERS = {"sd15": 16, "sdxl": 70}
COMPILED = {"sd15": "SSR, one", "sdxl": "MIP, two"}
ROUNDS = {1: 7, 8: 3}
GOALS = {"SSR, one": 1.04, "MIP, two": 1.06, "ELITE": 1.03}
"""On a GPU, eager, bf16, one picture: times a plain call."""
HOSTS = {"comfyui": "gpu_comfyui", "diffusers": "gpu_diffusers", "modules": "gpu_modules"}
"""Whose modules are measured, with ours in them."""
SHORTEST = 15
"""Seconds: with fewer left, nothing is begun; compiling needs several times that."""


class Plan(NamedTuple):
    """A group of rows. what: "time", "profile" or "compile"."""

    what: str
    kind: str
    dtype: str = "bf16"
    pictures: int = 1


PLANS = (
    Plan("time", "sd15"), Plan("profile", "sd15"), Plan("encode", ""), Plan("time", "sdxl"), Plan("profile", "sdxl"),
    Plan("compile", "sd15"), Plan("compile", "sdxl"), Plan("time", "sd15", "bf16", 8), Plan("time", "sdxl", "bf16", 8),
    Plan("time", "sd15", "fp16"), Plan("time", "sdxl", "fp16"), Plan("time", "sd15", "fp16", 8), Plan("time", "sdxl", "fp16", 8),
)  # fmt: skip


class Bench:
    """host: gpu_comfyui, gpu_diffusers or gpu_modules; one UNet is held at a time."""

    def __init__(self, host: Any, device: torch.device, tiny: bool, until: float) -> None:
        self.host, self.device, self.tiny, self.until = host, device, tiny, until
        self._held: tuple[tuple[str, str], Any] | None = None

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    def unet(self, kind: str, dtype: str) -> Any:
        if self._held is None or self._held[0] != (kind, dtype):
            self._held = None
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            width = {"sd15": 32, "sdxl": 64}[kind] if self.tiny else 320
            self._held = (kind, dtype), self.host.unet(kind, self.device, DTYPES[dtype], width)
        return self._held[1]

    def rows(self, plan: Plan) -> list[Row]:
        side = 16 if self.tiny else {"sd15": 64, "sdxl": 128}[plan.kind]
        return self.host.rows(plan.kind, self.unet(plan.kind, plan.dtype), self.device, DTYPES[plan.dtype], side, plan.pictures)

    def run(self, plan: Plan) -> Iterator[dict[str, Any]]:
        if plan.what == "encode":
            from gpu_encode import encoding  # needs transformers; without it only this group fails

            yield from encoding(self.device, self.tiny)
            return
        plain, *others = self.rows(plan)
        if plan.what == "time":
            yield from self.timed(plan, plain, others, ROUNDS.get(plan.pictures, 3))
        elif plan.what == "profile":
            base = counted(plain, self.device)
            yield {"row": "plain", **base}
            for row in others:
                found = counted(row, self.device)
                more = round((found["launches"] - base["launches"]) / LAYERS[plan.kind], 2)
                yield {"row": row.name, **found, "launches_per_layer": more, "waits": found["waits"] - base["waits"]}
        else:
            with self.host.compiled(self.unet(plan.kind, plan.dtype)):
                chosen = [row for row in others if row.name == COMPILED[plan.kind]]
                yield from self.timed(plan, plain, chosen, 3)

    def timed(self, plan: Plan, plain: Row, others: list[Row], rounds: int) -> Iterator[dict[str, Any]]:
        """One by one, so that what was measured is told before the next begins."""
        cuda = self.device.type == "cuda"
        base = peak(plain, self.device) if cuda else 0.0
        for row in others:
            if self.left < SHORTEST:
                yield {"row": row.name, "left_out": "no time left"}
                continue
            found = compared(plain, [row], self.device, 1 if self.tiny else rounds)
            told = {"row": row.name, "plain_ms": found[plain.name]["ms"], **found[row.name]}
            if cuda:
                told["peak_mb"] = round(peak(row, self.device) - base, 1)
            if row.name in GOALS and plan == Plan("time", plan.kind) and self.host.WHOLE_STEP and not self.tiny:
                told["goal"] = GOALS[row.name]
            yield told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="narrow UNets and small latents: shows that it runs, times nothing real"
    )
    parser.add_argument("--seconds", type=float, default=340, help="after which nothing is begun any more (%(default)s)")
    parser.add_argument("--host", choices=HOSTS, help="default: the first of these that can be imported")
    options = parser.parse_args()
    began, device = time.monotonic(), torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here. Run this on a machine with one, or try it with --device cpu --tiny.")
    host = _host(options.host, device)
    bench = Bench(host, device, options.tiny, began + options.seconds)

    def tell(plan: Plan | None, found: dict[str, Any]) -> None:
        of_plan = {} if plan is None else {name: value for name, value in plan._asdict().items() if value != ""}
        print(json.dumps({**of_plan, **found, "at_s": round(time.monotonic() - began, 1)}), flush=True)

    tell(None, {"device": name_of(device), "torch": torch.__version__, "cuda": torch.version.cuda, "host": host.NAME})
    with torch.inference_mode():
        for plan in PLANS:
            if bench.left < (4 if plan.what == "compile" else 1) * SHORTEST:
                tell(plan, {"left_out": "no time left"})
                continue
            _guarded(bench.run, plan, tell)


def _guarded(run: Callable[[Plan], Iterator[dict[str, Any]]], plan: Plan, tell: Callable[..., None]) -> None:
    """The device is lent for minutes: what fails in one group must not cost the others."""
    try:
        for found in run(plan):
            tell(plan, found)
    except Exception as error:
        tell(plan, {"error": f"{type(error).__name__}: {error}"[:400]})


def _host(name: str | None, device: torch.device) -> Any:
    """The module that makes the rows: of the host that was asked for, or of the first that is there. What is passed over is told."""
    for one in [name] if name else HOSTS:
        try:
            if one == "comfyui":
                _start_comfyui(device)
            return importlib.import_module(HOSTS[one])
        except ImportError as error:
            if name is not None:
                raise SystemExit(f"{one} cannot be measured here: {error}") from error
            print(json.dumps({"passed_over": one, "since": str(error)[:400]}), flush=True)
    raise SystemExit("The pack's own modules cannot be imported; see the reasons above.")


def _start_comfyui(device: torch.device) -> None:
    """Raises ImportError where there is none, or it lacks one of its own packages."""
    if comfy_host.find() is None:
        raise ImportError("there is no ComfyUI; COMFYUI_PATH names one")
    comfy_host.start(cpu=device.type == "cpu")
    for part in ("comfy.model_base", "comfy.sd1_clip"):
        importlib.import_module(part)


if __name__ == "__main__":
    main()
