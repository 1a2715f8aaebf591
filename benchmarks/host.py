"""What the benchmarks share: ComfyUI's own UNets at their real shapes with random weights, on any device, and subjects for it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import comfy_host, sdxl, tiny

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), help="default: fp16 on a GPU, fp32 on a CPU")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser


def chosen(options: argparse.Namespace) -> tuple[torch.device, torch.dtype]:
    device = torch.device(options.device)
    return device, DTYPES[options.dtype or ("fp32" if device.type == "cpu" else "fp16")]


def sd15_unet(device: torch.device, dtype: torch.dtype, width: int = 320) -> Any:
    """The host's BaseModel at SD1.5's real size, or narrower."""
    comfy_host.start(cpu=device.type == "cpu")
    import comfy.model_base
    import comfy.supported_models

    described = comfy.supported_models.SD15({**tiny.UNET_CONFIG, "model_channels": width})
    described.unet_config["dtype"] = dtype
    described.set_inference_dtype(dtype, None)
    return filled(comfy.model_base.BaseModel(described, device=device), device)


def sdxl_unet(device: torch.device, dtype: torch.dtype, width: int = 320) -> Any:
    """The host's BaseModel at SDXL's real size, 5 GB in half precision, or narrower."""
    comfy_host.start(cpu=device.type == "cpu")
    import comfy.model_base
    import comfy.supported_models

    described = comfy.supported_models.SDXL({**tiny.UNET_CONFIG, **sdxl.UNET, "model_channels": width})
    described.unet_config["dtype"] = dtype
    described.set_inference_dtype(dtype, None)
    return filled(comfy.model_base.SDXL(described, device=device), device)


def layout_of(base: Any) -> Any:
    """The cross-attentions of a BaseModel's UNet."""
    return comfy_host.part("ssr_core.hosts.comfyui.layout").layout_of(SimpleNamespace(model=base), "a benchmark")[0]


def filled(module: Any, device: torch.device) -> Any:
    """Random weights that keep activations sane. module: or a BaseModel, of which its UNet is filled."""
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in getattr(module, "diffusion_model", module).named_parameters():
            parameter.normal_(generator=generator)
            if parameter.ndim >= 2:
                parameter.div_(parameter[0].numel() ** 0.5)
            else:
                parameter.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
    return module.eval()
