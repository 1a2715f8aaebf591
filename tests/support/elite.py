"""A small ELITE and its subjects, of random numbers."""

from dataclasses import replace

import torch

from ssr_core.layout import UNetLayout
from ssr_core.methods.elite import formats
from ssr_core.methods.elite.encode import Encoder
from ssr_core.methods.elite.mapper import Elite, EliteConfig
from ssr_core.methods.elite.subject import EliteSubject
from ssr_core.vision_model import VisionModel

SMALL = EliteConfig(
    layout=UNetLayout(channels=(8, 16), depths=(1, 1), resnets=1, heads=2),
    text_width=6,
    vision_width=10,
    hidden_width=12,
    vision_layers=(3, 1, 2),
    grid=4,
)
FIVE = replace(SMALL, layout=UNetLayout((8, 16), (1, 1), 1, 8), vision_layers=(24, 4, 8, 12, 16), grid=16)
"""As small, but with all that published files leave unsaid as published."""


def small(config=SMALL, seed=0):
    torch.manual_seed(seed)
    made = Elite(config).requires_grad_(False)
    made.fingerprint = weights(config, seed).fingerprint
    return made


def weights(config=SMALL, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    made = Elite(config)
    states = {
        "global": {name: tensor.to(dtype) for name, tensor in made.global_mapper.state_dict().items()},
        "local": {name: tensor.to(dtype) for name, tensor in made.local_mapper.state_dict().items()},
    }
    return formats.of_state(config, states)


def subject(seed=0, count=3, grid=4, dtype=torch.float32, **changes):
    generator = torch.Generator().manual_seed(seed)
    patches = torch.zeros(grid * grid)
    patches[: grid * grid // 2] = 1.0
    made = EliteSubject(
        words=torch.randn(count, 6, generator=generator).to(dtype),
        tokens=(torch.randn(grid * grid, 6, generator=generator) * patches[:, None]).to(dtype),
        patches=patches,
        picture=torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8),
        source_size=(480, 640),
        box=(100.0, -20.0, 500.0, 380.0),
        framing="crop to mask",
        encoder="0123456789abcdef0123456789abcdef",
    )
    return replace(made, **changes)


def vision_model(width=10, tokens=17, layers=3, broken=False):
    """Features that tell pictures and layers apart."""

    def hidden_states(pixels):
        seen = pixels.mean(dim=(1, 2, 3)).view(-1, 1, 1)
        grid = torch.nn.functional.adaptive_avg_pool2d(pixels.mean(dim=1, keepdim=True), 4).flatten(1)  # [B, 16]
        rows = torch.cat([seen[..., 0], grid], dim=1)[..., None] * torch.linspace(0.5, 1.5, width)  # [B, 17, V]
        return [(rows + layer) * (1e9 if broken else 1.0) for layer in range(layers)]

    return VisionModel(hidden_states, 16, width, tokens, layers)


def encoder(local=True):
    elite = small()
    return Encoder(SMALL, elite.fingerprint, elite.global_mapper, elite.local_mapper if local else None)
