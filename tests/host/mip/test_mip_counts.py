"""What a step with objects costs at SDXL's shape, counted on the meta device: 1024 x 1024, both sides of the guidance."""

import pytest
import torch
from support import comfy_host, tiny
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture(scope="module")
def sdxl():
    comfy_host.start()
    import comfy.model_base
    import comfy.supported_models

    config = {
        **tiny.UNET_CONFIG, "model_channels": 320, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10, "context_dim": 2048, "adm_in_channels": 2816, "num_classes": "sequential",
        "use_linear_in_transformer": True, "num_head_channels": 64, "num_heads": -1,
    }  # fmt: skip
    described = comfy.supported_models.SDXL(config)
    described.set_inference_dtype(torch.float16, None)
    return comfy.model_base.SDXL(described, device="meta")


class Executor:
    def __init__(self, base):
        self.class_obj = base
        half = {"device": "meta", "dtype": torch.float16}
        self.text, self.y, self.steps = torch.empty(2, 77, 2048, **half), torch.empty(2, 2816, **half), torch.ones(2, **half)

    def __call__(self, latent, sigmas, c_concat, c_crossattn, control, options):
        return self.class_obj.diffusion_model(latent, self.steps, context=self.text, y=self.y, transformer_options=options)


def gflop(base, applied, runs=1):
    """Of `runs` calls of the UNet in one sampling."""
    sampling, run = (comfy_host.part(f"ssr_core.hosts.comfyui.{name}") for name in ("sampling", "run"))
    base.current_patcher = base  # anything without hooks: keys of names are then kept
    base.current_hooks = None
    latent = torch.empty(2, 4, 128, 128, device="meta", dtype=torch.float16)
    options = {"cond_or_uncond": [1, 0], sampling.KEY: run.Run(applied)}
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        for _ in range(runs):
            sampling.bind(applied)(Executor(base), latent, torch.ones(2), None, None, None, options)
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize(("tokens", "words", "limit"), [(4, 1, 0.001), (16, 2, 0.003)])
def test_two_objects_cost_next_to_nothing(sdxl, tokens, words, limit):
    layout, made = comfy_host.part("ssr_core.layout").SDXL, comfy_host.part("ssr_core.schedule").Manner
    applied = comfy_host.part("ssr_core.hosts.comfyui.applied").Applied(
        layout,
        tuple(
            tuple(tuple(torch.empty(2, tokens, layer.width, device="meta") for _ in range(2)) for layer in layout.layers)
            for _ in range(2)
        ),
        made(0.75),
        word_embeds=tuple(torch.empty(2, words, 2048, device="meta") for _ in range(2)),
        gates=tuple(torch.empty(layer.width, device="meta") for layer in layout.layers),
    )
    plain = gflop(sdxl, ())
    first, both = gflop(sdxl, (applied,)), gflop(sdxl, (applied,), runs=2)
    assert plain == pytest.approx(13_522, rel=1e-3)
    assert (both - first - plain) / plain <= limit  # a step after the first: keys of names are known
    assert (first - plain) / plain <= limit + 0.0005
