"""Case g: the training loss of Xiaojiu-z/SSR_Encoder's train.py and its gradients, on a tiny diffusers UNet."""

import pytest
import torch
from support import golden
from support.golden_models import TINY, tiny_unet

from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.encoder import EncoderConfig, SSREncoder

diffusers = pytest.importorskip("diffusers")
from ssr_core.hosts.diffusers.attach import branches_attached  # noqa: E402
from ssr_core.methods.ssr.losses import objective  # noqa: E402


@pytest.mark.parametrize("weight", [0.1, 0.001])
def test_g_loss_and_gradient_norms(weight):
    name = "g_loss"
    case = golden.cases()[name]
    raw = golden.weights(case["seed"], {**case["layer_shapes"], **golden.aligner_shapes()})
    encoder = SSREncoder(EncoderConfig(layout=TINY))
    encoder.load_state_dict(formats.rename(raw))
    unet = tiny_unet(name)

    latents, noise = (golden.tensor(name, f"input:{part}", (2, 4, 16, 16)) for part in ("latents", "noise"))
    query = golden.tensor(name, "input:concept_embeds", (2, 77, 768))
    prompt = golden.tensor(name, "input:prompt_embeds", (2, 77, 768))
    features = golden.tensor(name, "input:image_embeds", (2, 1542, 1024)).unflatten(1, (6, 257))
    steps = torch.tensor(case["timesteps"])
    scheduler = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    noisy = scheduler.add_noise(latents, noise, steps)

    tokens = encoder(query, features).tokens
    with branches_attached(unet, TINY, [list(encoder.project(tokens))], [0, 1]):
        predicted = unet(noisy, steps, prompt).sample
        loss = objective(predicted, noise, tokens, query, weight)
        loss.total.backward()

    expected = case["results"][str(weight)]
    assert float(loss.noise) == pytest.approx(expected["mse_loss"], rel=1e-4)
    assert float(loss.consistency) == pytest.approx(expected["reg_loss"], rel=1e-4)
    assert float(loss.total) == pytest.approx(expected["loss"], rel=1e-4)
    gradients = {key: parameter.grad.norm() for key, parameter in encoder.named_parameters()}
    ours = formats.rename({key: torch.tensor(norm) for key, norm in expected["grad_norm"].items()})
    assert gradients.keys() == ours.keys()
    for key, norm in ours.items():
        assert float(gradients[key]) == pytest.approx(float(norm), rel=1e-4), key
    stored = golden.outputs(name)
    assert golden.relative_error(noisy, stored["noisy_latents"]) <= 1e-4
    assert golden.relative_error(predicted, stored["model_pred"]) <= 1e-4
    assert golden.relative_error(tokens[:, ::33], stored["image_prompts_rows"]) <= 1e-4
    assert golden.relative_error(encoder.aligner.norm.weight.grad, stored[f"reg{weight}/grad_norm.weight"]) <= 1e-4


def test_a_weight_of_zero_trains_without_the_regulariser():
    """Xiaojiu-z/SSR_Encoder's train.py stops with an error here."""
    predicted = torch.randn(1, 4, 8, 8, requires_grad=True)
    tokens = torch.randn(1, 462, 768, requires_grad=True)
    loss = objective(predicted, torch.zeros_like(predicted), tokens, torch.randn(1, 77, 768), 0.0)
    loss.total.backward()
    assert tokens.grad is None
    assert torch.equal(loss.total, loss.noise)
