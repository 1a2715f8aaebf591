"""One object with gates of 1 is what diffusers' own IP-Adapter of the same weights draws, on both sides of the guidance."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from support import golden_mip as golden

from ssr_core.hosts.diffusers import mip
from ssr_core.methods.mip import formats
from ssr_core.methods.mip.adapter import AdapterConfig, MIPAdapter, ResamplerShape
from ssr_core.methods.mip.objects import MIPObject

VISION, TEXT = 48, 96


def adapter(resampler):
    torch.manual_seed(3)
    config = AdapterConfig(golden.TINY, TEXT, VISION, 4, resampler)
    return MIPAdapter(config).requires_grad_(False).eval()


def official(made, path):
    """The weights as the authors' file has them, in two folders of tensors."""
    state = made.state_dict()
    formats.write_official(formats.Weights(made.config, state, ""), path)
    raw, _ = formats.tensor_files.read(path)
    folders = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in raw.items():
        folder, _, rest = name.partition(".")
        if "text_to_weight" not in rest:
            folders[folder][rest] = tensor
    return folders


@pytest.mark.parametrize("resampler", [None, ResamplerShape(64, 64, 64, 4, 256)], ids=["linear", "resampler"])
def test_one_object_without_gates_is_an_ip_adapter(resampler, tmp_path, monkeypatch):
    name = "unet_tiny_n1"
    config = golden.case(name)["params"]["diffusers_config"]
    made = adapter(resampler)
    generator = torch.Generator().manual_seed(0)
    latents, text = torch.randn(2, 4, 16, 12, generator=generator), torch.randn(2, 77, TEXT, generator=generator)
    shape = (2, VISION) if resampler is None else (2, 9, VISION)
    features = torch.randn(*shape, generator=generator)
    added = {"text_embeds": torch.randn(2, 64, generator=generator), "time_ids": torch.ones(2, 6)}

    theirs = golden.fill(name, UNet2DConditionModel(**config), "unet.")
    theirs._load_ip_adapter_weights([official(made, tmp_path / "adapter.safetensors")], low_cpu_mem_usage=False)
    for processor in theirs.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.7]
    expected = theirs(latents, 500, text, added_cond_kwargs={**added, "image_embeds": [features[:, None]]}).sample

    tokens = made(features)
    word = torch.randn(1, TEXT, generator=generator)
    one = MIPObject(tokens[1], tokens[0], "cat", word, word, torch.zeros(1, 8, 8, 3, dtype=torch.uint8), 1, "")
    ours = golden.fill(name, UNet2DConditionModel(**config), "unet.")
    plain = ours(latents, 500, text, added_cond_kwargs=added).sample
    monkeypatch.setattr("ssr_core.hosts.diffusers.sets.sides_of", lambda *call: (0, 1))
    with mip.objects_attached(ours, made, (one,), 0.7):
        found = ours(latents, 500, text, added_cond_kwargs=added).sample
    for row in range(2):
        torch.testing.assert_close(found[row], expected[row], atol=2e-5, rtol=1e-4)
        assert (found[row] - plain[row]).abs().max() > 0.01
