"""By what an encoder is known: literals of files that exist. Whoever changes one of them orphans every subject saved with it."""

import json

import torch

from ssr_core.layout import SDXL, UNetLayout
from ssr_core.methods.ssr.encoder import EncoderConfig, SSREncoder, fingerprint
from ssr_core.methods.ssr.formats import config_of

SD15 = (
    "EncoderConfig(layout=UNetLayout(channels=(320, 640, 1280, 1280), depths=(1, 1, 1, 0), resnets=2, heads=8, mid_depth=1), "
    "text_width=768, vision_width=1024, inner_width=512, heads=8, vision_layers=(4, 8, 12, 16, 20, 24))"
)
SD15_FILLED = "988d6bde427e02f46d36cf377326f420"
SMALL = EncoderConfig(UNetLayout((96, 96, 96), (1, 1, 0), 1, 2), 128, 128, 128, 4, (1, 2, 3, 4, 5, 6))
SMALL_FILLED = "1f4128f418d0c91684126a512673757e"


def filled(config):
    """A state of the configuration's shapes, the same everywhere: sevenths, by the name's place."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in SSREncoder(config).state_dict().items()}
    return {name: torch.full(shape, (place % 7 - 3) / 8) for place, (name, shape) in enumerate(sorted(shapes.items()))}


def test_the_released_encoder_keeps_its_identity():
    assert EncoderConfig().identity == SD15
    assert fingerprint(filled(EncoderConfig()), EncoderConfig()) == SD15_FILLED


def test_a_small_encoder_keeps_its_identity():
    assert fingerprint(filled(SMALL), SMALL) == SMALL_FILLED
    again = config_of(json.dumps(SMALL.to_dict()))
    assert fingerprint(filled(SMALL), again) == SMALL_FILLED


def test_heads_per_level_are_part_of_the_identity():
    narrow = UNetLayout(**(SDXL.to_dict() | {"heads": 10}))
    assert "heads=(5, 10, 20), mid_depth=10" in EncoderConfig(SDXL).identity
    assert EncoderConfig(narrow).identity != EncoderConfig(SDXL).identity
