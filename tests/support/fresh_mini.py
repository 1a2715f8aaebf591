"""A fresh MIP-Adapter's file and fresh mappers' for SSR Mini."""

import torch

from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.elite import formats as elite_formats
from ssr_core.methods.elite.mapper import Elite, EliteConfig
from ssr_core.methods.mip import formats as mip_formats
from ssr_core.methods.mip.adapter import fingerprint
from ssr_core.mini import files
from ssr_core.training import fresh_adapter


def write(folder):
    """mip.safetensors, global.safetensors and local.safetensors; returns their folder."""
    base = load_base("mini")
    torch.manual_seed(0)
    adapter = fresh_adapter.fresh(base, 4, None)
    state = {name: tensor.detach() for name, tensor in adapter.state_dict().items()}
    weights = mip_formats.Weights(adapter.config, state, fingerprint(state, adapter.config))
    mip_formats.write(weights, folder / "mip.safetensors")
    shapes = EliteConfig(base.layout, base.text_width, files.WIDTH, 16, (6, 1, 2, 3, 4), 16)
    mappers = Elite(shapes)
    for parameter in mappers.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    states = {
        stage: {name: tensor.detach() for name, tensor in getattr(mappers, f"{stage}_mapper").state_dict().items()}
        for stage in ("global", "local")
    }
    both = elite_formats.of_state(shapes, states)
    for stage in states:
        elite_formats.write_stage(both, stage, folder / f"{stage}.safetensors")
    return folder
