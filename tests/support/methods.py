"""Every method on a tiny MODEL with random weights: what tests of neighbours put beside others, without knowing which method it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from support import comfy_host, learned, tiny, tiny_elite, tiny_sdxl
from torch import Tensor

NAMES = ("ssr", "mip", "elite", "lasr")
OTHERS = NAMES[1:]
"""The SSR-Encoder has a file of tests for each neighbour."""


@dataclass(frozen=True)
class Method:
    """apply: a MODEL with the method's subjects; positive: the prompt that they need, or any; negative: an ordinary one; other: another
    ordinary one. make: an unpatched MODEL of their kind, of a type of weights and of activations."""

    name: str
    make: Callable[..., Any]
    apply: Callable[..., Any]
    positive: Any
    negative: Any
    other: Any

    @property
    def is_xl(self) -> bool:
        return self.name == "mip"

    def draw(self, patched: Any, **options: Any) -> Tensor:
        """A step of sampling unless told otherwise, with this method's prompts."""
        torch.manual_seed(0)  # HyperTile and token merging throw dice of their own
        return tiny.sample(patched, **{"steps": 1, "positive": self.positive, "negative": self.negative, **options})


def make(name: str, folder: Path, clip: Any, width: int = 32) -> Method:
    """clip: CLIP-L of the tests' kind; width: of the finest level, 320 for SD1.5's own; SDXL is always tiny."""
    if name == "mip":
        return _mip(folder)
    layout = comfy_host.part("ssr_core.layout").UNetLayout(
        **{**tiny.LAYOUT, "channels": [width * times for times in (1, 2, 4, 4)]}
    )

    def sd15(dtype: torch.dtype = torch.float32, cast: Any = None) -> Any:
        return tiny.model({**tiny.UNET_CONFIG, "model_channels": width}, dtype=dtype, cast=cast)

    return {"ssr": _ssr, "elite": _elite, "lasr": _lasr}[name](folder, clip, layout, sd15)


def _ssr(folder: Path, clip: Any, layout: Any, sd15: Callable[..., Any]) -> Method:
    host = comfy_host.part("ssr_core.hosts.comfyui.ssr")
    encoder = host.load_encoder([str(tiny.encoder_file(folder / "ssr.safetensors", layout.to_dict()))])
    subject = (tiny.subject(encoder.fingerprint),)

    def apply(model: Any, strength: float = 0.65, **manner: Any) -> Any:
        return tiny.apply(model, encoder, subject, strength, **manner)

    return Method("ssr", sd15, apply, tiny.cond(11), tiny.cond(12), tiny.cond(13))


def _mip(folder: Path) -> Method:
    host, core = comfy_host.part("ssr_core.hosts.comfyui.mip"), comfy_host.part("ssr_core.methods.mip.objects")
    adapter = host.load_adapter(str(tiny_sdxl.adapter_file(folder / "mip.safetensors")))
    generator = torch.Generator().manual_seed(3)

    def thing(name: str) -> Any:
        tokens, null, embeds, nothing = (
            torch.randn(count, tiny_sdxl.TEXT_WIDTH, generator=generator) for count in (4, 4, 2, 2)
        )
        picture = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
        return core.MIPObject(tokens, null, name, embeds, nothing, picture, 1, adapter.fingerprint)

    objects = thing("cat"), thing("chair")

    def apply(model: Any, strength: float = 0.75, **manner: Any) -> Any:
        return host.apply_objects(model, adapter, objects, _manner(strength, **manner))

    def sdxl(dtype: torch.dtype = torch.float32, cast: Any = None) -> Any:
        return tiny_sdxl.model(dtype=dtype, cast=cast)

    return Method("mip", sdxl, apply, tiny_sdxl.cond(11), tiny_sdxl.cond(12), tiny_sdxl.cond(13))


def _elite(folder: Path, clip: Any, layout: Any, sd15: Callable[..., Any]) -> Method:
    host = comfy_host.part("ssr_core.hosts.comfyui.elite")
    elite = host.load_elite([str(tiny_elite.file(folder / "elite.safetensors", tiny_elite.small(layout=layout)))])
    subject = (tiny_elite.subject(elite.fingerprint),)

    def apply(model: Any, strength: float = 0.8, **manner: Any) -> Any:
        return host.apply_subjects(model, elite, subject, _manner(strength, **manner))

    with torch.inference_mode():
        positive = host.encode_prompt(clip, subject, "a photo of a S", ["S"])
    return Method("elite", sd15, apply, positive, learned.plain(clip, "blurred"), learned.plain(clip, "a photo"))


def _lasr(folder: Path, clip: Any, layout: Any, sd15: Callable[..., Any]) -> Method:
    subjects = (learned.subject(1, layout=layout),)

    def apply(model: Any, strength: float = 0.5, **manner: Any) -> Any:
        return learned.apply(model, clip, subjects, strength, **manner)

    positive = learned.prompt(clip, subjects)
    return Method("lasr", sd15, apply, positive, learned.plain(clip, "blurred"), learned.plain(clip, "a photo"))


def _manner(strength: float, **manner: Any) -> Any:
    return comfy_host.part("ssr_core.schedule").Manner(strength, **manner)
