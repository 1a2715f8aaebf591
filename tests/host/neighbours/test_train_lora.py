"""Core's Train LoRA on a MODEL with subjects: gradients pass through what nodes made in inference mode."""

import pytest
import torch
from support import methods, tiny


def training(model, **changes):
    """The node's arguments, defaults of its schema and changes, in the form that each host hands over."""
    from comfy_extras.nodes_train import TrainLoraNode

    changes = {
        "model": model, "latents": {"samples": torch.zeros(2, 4, 16, 16)}, "positive": tiny.cond(11), "steps": 2, "rank": 2,
        "algorithm": "LoRA", "existing_lora": "[None]", "seed": 1, "training_dtype": "fp32", "lora_dtype": "fp32",
        "gradient_checkpointing": False,
    } | changes  # fmt: skip
    with torch.inference_mode():
        if hasattr(TrainLoraNode, "define_schema"):
            given = {one.id: getattr(one, "default", None) for one in TrainLoraNode.define_schema().inputs} | changes
            return TrainLoraNode.execute(**{name: [value] for name, value in given.items()}).args
        described = TrainLoraNode.INPUT_TYPES()["required"]
        given = {name: rest[0].get("default") if rest else None for name, (_, *rest) in described.items()} | changes
        return TrainLoraNode().train(**given)


def of_cross_attention(made):
    """Of what the node gives, the LoRA's tensors there."""
    loras = [one for one in made if isinstance(one, dict) and any("attn2" in name for name in one)]
    return {name: value for name, value in loras[0].items() if "attn2" in name}


@pytest.mark.parametrize("combine", ["joint", "by word"])
def test_a_lora_is_trained_through_the_subjects(encoder, subject, combine):
    other, model = (tiny.subject(encoder.fingerprint, seed=9, query="hat"),), tiny.model()
    model.cached_patcher_init = (lambda disable_dynamic: tiny.model(), ())  # how newer hosts get a copy of their own
    with torch.inference_mode():
        patched = tiny.apply(model, encoder, subject + other, 0.65, combine=combine, region=torch.ones(1, 16, 16).tril())
    lora = of_cross_attention(training(patched))
    assert any(value.abs().max() > 0 for name, value in lora.items() if "up" in name)


@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_a_lora_is_trained_through_what_other_methods_give(beside):
    """It becomes another one than without the subject, from the same noise."""
    method, *_ = beside
    loras = []
    for apply in (method.apply, lambda model: model):
        model = method.make()
        model.cached_patcher_init = (lambda disable_dynamic: method.make(), ())
        with torch.inference_mode():
            patched = apply(model)
        torch.manual_seed(0)
        loras.append(of_cross_attention(training(patched, positive=method.positive)))
    through, without = loras
    assert any(value.abs().max() > 0 for name, value in through.items() if "up" in name)
    assert any(not torch.equal(value, without[name]) for name, value in through.items())
