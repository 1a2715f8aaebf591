"""Xiaojiu-z/SSR_Encoder's numbers (data/cases.json) through hosts/diffusers, on transformers' vision model and a tiny UNet."""

import pytest
import torch
from support import golden
from support.golden_models import TINY, tiny_unet

from ssr_core import vision
from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.encode import Selection, encode_subjects
from ssr_core.methods.ssr.encoder import EncoderConfig, SSREncoder
from ssr_core.schedule import Manner
from ssr_core.words import Query

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
from ssr_core.hosts import diffusers as host  # noqa: E402
from ssr_core.hosts.diffusers.attach import branches_attached  # noqa: E402

TOLERANCE = 1e-4


def tiny_layers(name: str) -> SSREncoder:
    case = golden.cases()[name]
    encoder = SSREncoder(EncoderConfig(layout=TINY))
    state = formats.rename(golden.weights(case["seed"], case["layer_shapes"]))
    encoder.load_state_dict(state, strict=False)
    return encoder.requires_grad_(False)


def clip_vision(name: str) -> torch.nn.Module:
    case = golden.cases()[name]
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**case["clip_config"]))
    state = golden.weights(case["seed"], case["clip_shapes"])
    expected = model.state_dict().keys()
    # transformers 5 dropped the prefix that every published checkpoint has.
    renamed = {key if key in expected else key.removeprefix("vision_model."): value for key, value in state.items()}
    missing = model.load_state_dict(renamed, strict=False)
    assert not missing.missing_keys
    return model.requires_grad_(False).eval()


@pytest.mark.parametrize(("tokens", "strength"), [(462, 0), (462, 0.65), (462, 1), (924, 1)])
def test_e_tiny_unet(tokens, strength):
    case, expected = golden.cases()["e_unet"], golden.outputs("e_unet")
    unet, encoder = tiny_unet("e_unet"), tiny_layers("e_unet")
    latents = golden.tensor("e_unet", "input:latents", (2, 4, 16, 16))
    text = golden.tensor("e_unet", "input:text_embeds", (2, 77, 768))
    subject = golden.tensor("e_unet", f"input:subject_embeds_{tokens}", (2, tokens, 768))
    steps = torch.tensor(case["timesteps"])
    before = dict(unet.attn_processors)
    plain = unet(latents, steps, text).sample
    assert golden.relative_error(plain, expected["plain"]) <= TOLERANCE
    with branches_attached(unet, TINY, [list(encoder.project(subject))], [0, 1], Manner(strength)):
        out = unet(latents, steps, text).sample
    assert golden.relative_error(out, expected[f"s{tokens}/scale{strength}"]) <= TOLERANCE
    assert dict(unet.attn_processors) == before
    assert torch.equal(unet(latents, steps, text).sample, plain)


def test_h_six_scales_of_the_vision_model():
    case, expected = golden.cases()["h_clip"], golden.outputs("h_clip")
    model = host.vision_model(clip := clip_vision("h_clip"))
    pixels = golden.tensor("h_clip", "input:pixel_values", (1, 3, 224, 224))
    features = vision.patch_features(model.hidden_states, pixels, case["chosen"])
    assert golden.relative_error(features.flatten(1, 2), expected["image_embeds"]) <= TOLERANCE
    zero = vision.patch_features(model.hidden_states, torch.zeros_like(pixels), case["chosen"]).flatten(1, 2)
    rows = expected["zero_image_embeds_rows"]
    step = -(-zero.shape[1] // rows.shape[1])
    assert golden.relative_error(zero[:, ::step], rows) <= TOLERANCE
    assert clip is not None


def test_j_end_to_end_from_a_picture():
    case, expected = golden.cases()["j_uncond"], golden.outputs("j_uncond")
    encoder = SSREncoder(EncoderConfig(layout=TINY))
    raw = golden.weights(case["seed"], golden.aligner_shapes())
    encoder.load_state_dict(formats.rename(raw), strict=False)
    clip = clip_vision("j_uncond")
    query = Query("", golden.tensor("j_uncond", "input:concept_embeds", (1, 77, 768)))
    null = Query("", golden.tensor("j_uncond", "input:uncond_text_embeds", (1, 77, 768)))
    pictures = vision.as_pictures(golden.picture(*case["image"]))
    (subject,) = encode_subjects(host.for_encoding(encoder), host.vision_model(clip), pictures, Selection(query, null))
    rows = expected["row_idx"]
    assert golden.relative_error(subject.tokens[rows][None], expected["subject_embeds_rows"]) <= TOLERANCE
    assert golden.relative_error(subject.null_tokens[rows][None], expected["uncond_subject_embeds_rows"]) <= TOLERANCE
