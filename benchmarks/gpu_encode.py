"""How long the SSR-Encoder takes to encode a picture on a device: the first one, another new one, and one that it knows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gpu_measure import wait
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from ssr_core.methods.ssr.encode import Encoder, Selection, encode_subjects
from ssr_core.methods.ssr.encoder import EncoderConfig, SSREncoder
from ssr_core.vision_model import VisionModel
from ssr_core.words import Query, Word

VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
"""CLIP ViT-L/14's."""
NARROW = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}


def encoding(device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """Milliseconds. The first picture also encodes the empty one, whose features are kept as those of every picture are."""
    stored = torch.float32 if device.type == "cpu" else torch.float16
    config = {**VISION, **(NARROW if tiny else {})}
    with torch.device(device):
        tower = CLIPVisionModel(CLIPVisionConfig(**config)).to(stored).train(False)
        encoder = SSREncoder(EncoderConfig(vision_width=config["hidden_size"])).train(False)

    def hidden_states(pixels: Tensor) -> Any:
        return tower(pixel_values=pixels.to(device, stored), output_hidden_states=True).hidden_states[1:]

    def align(query: Tensor, features: Tensor, mask: Tensor | None, weight: float) -> Any:
        return encoder(query.to(device), features.to(device), mask, weight)

    model = VisionModel(hidden_states, 224, config["hidden_size"], tokens=257, layers=config["num_hidden_layers"])
    own = Encoder(encoder.config, "benchmark", align)
    for name, seed in (("the first picture", 0), ("another picture", 1), ("a known picture, other words", 1)):
        picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (512, 512, 3), np.uint8))
        words = Query("dog", torch.randn(1, 77, 768), (Word("dog", 1, 2),))
        wait(device)
        start = time.perf_counter()
        encode_subjects(own, model, [picture], Selection(words, Query("", torch.zeros(1, 77, 768))))
        wait(device)
        yield {"row": name, "ms": round(1e3 * (time.perf_counter() - start), 2)}
