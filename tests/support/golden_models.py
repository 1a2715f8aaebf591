"""The tiny diffusers UNet of the golden cases."""

from __future__ import annotations

import torch
from support import golden

from ssr_core.layout import UNetLayout

TINY = UNetLayout(channels=(32, 64), depths=(1, 0), resnets=1, heads=4)


def tiny_unet(name: str) -> torch.nn.Module:
    import diffusers

    case = golden.cases()[name]
    unet = diffusers.UNet2DConditionModel(**case["unet_config"])
    unet.load_state_dict(golden.weights(case["seed"], case["unet_shapes"]))
    return unet.requires_grad_(False).eval()
