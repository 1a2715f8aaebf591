"""Layouts against the host's own UNets at their real shapes, without memory behind the weights."""

import pytest
import torch
from support import comfy_host, tiny

SDXL = {
    **tiny.UNET_CONFIG, "model_channels": 320, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10, "context_dim": 2048, "adm_in_channels": 2816, "num_classes": "sequential",
    "use_linear_in_transformer": True, "num_head_channels": 64, "num_heads": -1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "config"), [("SD15", {**tiny.UNET_CONFIG, "model_channels": 320}), ("SDXL", SDXL)], ids=["SD 1.x", "SDXL"]
)
def test_blocks_widths_heads_and_what_enters_are_the_hosts(name, config):
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    part = comfy_host.part("ssr_core.layout")
    host = comfy_host.part("ssr_core.hosts.comfyui.layout")
    layout = getattr(part, name)
    unet = UNetModel(**config, device=torch.device("meta"), dtype=torch.float32)
    found = [part.Found(block, module.to_q.out_features, module.heads) for block, module in host.cross_attentions(unet)]
    assert layout.mismatch(found) is None
    assert [layer.block for layer in layout.execution_order] == [one.name for one in found]

    stages = {"input": unet.input_blocks, "middle": [unet.middle_block], "output": unet.output_blocks}
    left = [block[0].weight.shape[0] if hasattr(block[0], "weight") else block[0].out_channels for block in unet.input_blocks]
    for layer in layout.layers:
        stage, number, _ = layer.block
        skip = left[len(left) - 1 - number] if stage == "output" else 0
        assert stages[stage][number][0].channels == layer.enters + skip, layer.block
