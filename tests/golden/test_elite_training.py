"""Both stages of csyxwei/ELITE's training through ssr_core/training/elite.py: loss, gradients and what AdamW makes of them.

Gradients within 1e-3 and the change of a weight within 1e-2, both of its norm, as the cases' notes have it. The second stage's gate is
divided by the whole batch's largest attention there, where ours is by the sample's own (elite.md, E1): here it is divided as theirs.
"""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderTiny, DDPMScheduler
from support import golden_elite as golden
from transformers import CLIPVisionConfig, CLIPVisionModel

from ssr_core.hosts.diffusers import attach
from ssr_core.hosts.diffusers.base import Base
from ssr_core.merge import word_attention
from ssr_core.methods.elite import formats
from ssr_core.training import optimizers
from ssr_core.training.elite import ELITE
from ssr_core.training.elite_config import EliteTrainingConfig
from ssr_core.training.frozen import Frozen


class Tokenizer:
    """Knows the case's texts by their stored ids, and the templates' words by their number alone."""

    eos_token_id, all_special_ids = golden.END, (golden.START, golden.END)

    def __init__(self, texts):
        self.texts = texts

    def __call__(self, text, **_):
        if isinstance(text, list):
            return SimpleNamespace(input_ids=torch.stack([self.texts[one] for one in text]))
        return SimpleNamespace(input_ids=[golden.PLACEHOLDER if word == "S" else 5 for word in text.split()])

    def convert_ids_to_tokens(self, ids):
        return [self.convert_ids_to_tokens(one) for one in ids] if isinstance(ids, list) else "s</w>"


def method(name, tmp_path):
    made, told = golden.elite(name), golden.case(name)["params"]["steps"][0]
    start = tmp_path / "start.safetensors"
    states = {"global": made.global_mapper.state_dict(), "local": made.local_mapper.state_dict()}
    formats.write(formats.of_state(made.config, states), start)
    ids = golden.outputs(name)["step0.input_ids"]
    base = Base(
        unet=golden.unet(name),
        vae=AutoencoderTiny(),
        text_encoder=golden.text_encoder(name),
        tokenizer=Tokenizer(dict(zip(told["text"], ids, strict=True))),
        vision_encoder=CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=32, intermediate_size=64, num_hidden_layers=24, num_attention_heads=2, patch_size=14, image_size=224
            )
        ),
        noise_schedule=DDPMScheduler(),
    )
    changes = {"stage": name.removeprefix("train_"), "start_from": (str(start),), "lr": told["lr"]}
    trained = ELITE(EliteTrainingConfig(base="", data="", out="", **changes), Frozen(base, torch.device("cpu"), ""))
    stored = golden.outputs(name)
    trained.frozen.noise = lambda batch: (stored["step0.noisy_latents"], stored["step0.noise"], stored["step0.timesteps"])
    return trained, told


def features(name):
    return torch.stack([golden.outputs(name)[f"step0.feature_{scale}"] for scale in range(5)], dim=1)


def check_a_step(name, trained, batch, told, weight):
    optimizer = optimizers.made(trained.config, list(trained.module.parameters()), torch.device("cpu"))
    with trained.loss(trained.module, batch, nullcontext) as losses:
        losses["total"].backward()
    assert losses["total"].item() == pytest.approx(told["loss"], rel=1e-4)
    assert losses["noise"].item() == pytest.approx(told["loss_mle"], rel=1e-4)
    assert weight * losses["size"].item() == pytest.approx(told["loss_reg"], rel=1e-4)
    mapper, stored = trained.module.mapper, golden.outputs(name)
    grads = [key.removeprefix("step0.grad.") for key in stored if key.startswith("step0.grad.")]
    assert grads
    for key in grads:
        assert golden.error(name, f"step0.grad.{key}", mapper.get_parameter(key).grad) < 1e-3, key
    norm = torch.nn.utils.clip_grad_norm_(mapper.parameters(), trained.config.clip_norm)
    assert norm.item() == pytest.approx(told["grad_norm_before_clip"], rel=1e-3)
    before = {key: mapper.get_parameter(key).detach().clone() for key in grads}
    optimizer.step()
    for key in grads:
        after = f"step1.param.{key}"
        if after in stored:
            found, start = (golden.thinned(name, after, one) for one in (mapper.get_parameter(key), before[key]))
            assert float(((found - start) - (stored[after] - start)).norm() / (stored[after] - start).norm()) < 1e-2, key


def test_a_step_of_the_first_stage(tmp_path):
    name = "train_global"
    trained, told = method(name, tmp_path)
    batch = {"features": features(name), "text": told["text"], "prompt_embeds": torch.zeros(2, 77, 48)}
    check_a_step(name, trained, batch, told, 0.01)
    assert all(value.grad is not None and bool(value.grad.any()) for value in trained.module.parameters())


def test_a_step_of_the_second_stage(tmp_path, monkeypatch):
    def coupled(query, text_key, words, heads):
        attends = word_attention(query, text_key, words, heads)
        return attends / attends.max()

    monkeypatch.setattr(attach, "token_gate", coupled)
    name = "train_local"
    trained, told = method(name, tmp_path)
    stored = golden.outputs(name)
    batch = {
        "features": features(name),
        "patches": stored["step0.mask16"].reshape(2, -1),
        "prompt_embeds": stored["step0.encoder_hidden_states"],
        "places": [(place,) for place in told["index"]],
        "counts": stored["step0.mask_values"],
    }
    check_a_step(name, trained, batch, told, 1e-4)
    assert all(value.grad is None for value in trained.elite.global_mapper.parameters())
    assert all(value.grad is not None and bool(value.grad.any()) for value in trained.module.parameters())
