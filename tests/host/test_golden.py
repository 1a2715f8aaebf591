"""Xiaojiu-z/SSR_Encoder's numbers (tests/golden/data/cases.json) through the real host: its UNet, CLIP vision model and attention."""

import json

import pytest
import torch
from support import comfy_host, golden, tiny

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def core():
    return comfy_host.part("ssr_core")


def official_unet(name):
    """The golden tiny UNet in the host's own class, from its diffusers weights."""
    import comfy.utils

    case = golden.cases()[name]
    config = {**tiny.UNET_CONFIG, **case["comfy_unet_config"]}
    patcher = tiny.model(config)
    names = comfy.utils.unet_to_diffusers(
        {key: config[key] for key in ("num_res_blocks", "channel_mult", "transformer_depth", "transformer_depth_output")}
        | {"transformer_depth_middle": 1}
    )
    raw = golden.weights(case["seed"], case["unet_shapes"])
    state = {names[key]: value for key, value in raw.items() if key in names}
    result = patcher.model.diffusion_model.load_state_dict(state, strict=True)
    assert not result.missing_keys
    return patcher


class Executor:
    """Stands for the rest of the host's APPLY_MODEL chain: the UNet at given timesteps instead of sigmas."""

    def __init__(self, base, text, steps):
        self.class_obj, self.text, self.steps = base, text, steps

    def __call__(self, latent, sigmas, c_concat, c_crossattn, control, options):
        return self.class_obj.diffusion_model(latent, self.steps, context=self.text, transformer_options=options)


@pytest.mark.parametrize(("tokens", "strength"), [(462, 0), (462, 0.65), (462, 1), (924, 1)])
def test_e_tiny_unet(tokens, strength):
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    encoder_part, layout_part = comfy_host.part("ssr_core.methods.ssr.encoder"), comfy_host.part("ssr_core.layout")
    case, expected = golden.cases()["e_unet"], golden.outputs("e_unet")
    layout = layout_part.UNetLayout(channels=(32, 64), depths=(1, 0), resnets=1, heads=4)
    encoder = encoder_part.SSREncoder(encoder_part.EncoderConfig(layout=layout))
    state = comfy_host.part("ssr_core.methods.ssr.formats").rename(golden.weights(case["seed"], case["layer_shapes"]))
    encoder.load_state_dict(state, strict=False)

    patcher = official_unet("e_unet")
    latents = golden.tensor("e_unet", "input:latents", (2, 4, 16, 16))
    text = golden.tensor("e_unet", "input:text_embeds", (2, 77, 768))
    subject = golden.tensor("e_unet", f"input:subject_embeds_{tokens}", (2, tokens, 768))
    steps = torch.tensor(case["timesteps"])
    executor = Executor(patcher.model, text, steps)
    with torch.inference_mode():
        plain = executor(latents, steps, None, None, None, {})
        manner = comfy_host.part("ssr_core.schedule").Manner
        applied = sampling.Applied(layout, (tuple(encoder.project(subject)),), manner(strength))
        out = sampling.bind((applied,))(executor, latents, steps, None, None, None, {"cond_or_uncond": [1, 0]})
    assert golden.relative_error(plain, expected["plain"]) <= TOLERANCE
    assert golden.relative_error(out, expected[f"s{tokens}/scale{strength}"]) <= TOLERANCE
    assert strength != 0 or torch.equal(out, plain)


def host_clip_vision(name, tmp_path):
    import comfy.clip_vision

    case = golden.cases()[name]
    config = {
        **case["clip_config"], "model_type": "clip_vision_model", "num_channels": 3, "projection_dim": 32,
        "attention_dropout": 0.0,
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    model = comfy.clip_vision.ClipVisionModel(str(path))
    model.load_sd(golden.weights(case["seed"], case["clip_shapes"]))
    return model


def test_h_six_scales_of_the_vision_model(encoders, tmp_path):
    vision = comfy_host.part("ssr_core.vision")
    case, expected = golden.cases()["h_clip"], golden.outputs("h_clip")
    clip_vision = host_clip_vision("h_clip", tmp_path)
    clip = comfy_host.part("ssr_core.hosts.comfyui.clip")
    pixels = golden.tensor("h_clip", "input:pixel_values", (1, 3, 224, 224))
    with torch.inference_mode():
        features = vision.patch_features(clip.vision_model(clip_vision).hidden_states, pixels, case["chosen"])
    assert golden.relative_error(features.flatten(1, 2).float(), expected["image_embeds"]) <= TOLERANCE


def test_j_end_to_end_from_a_picture(encoders, tmp_path):
    encode, vision = comfy_host.part("ssr_core.methods.ssr.encode"), comfy_host.part("ssr_core.vision")
    words, clip = comfy_host.part("ssr_core.words"), comfy_host.part("ssr_core.hosts.comfyui.clip")
    encoder_part = comfy_host.part("ssr_core.methods.ssr.encoder")
    case, expected = golden.cases()["j_uncond"], golden.outputs("j_uncond")
    encoder = encoder_part.SSREncoder(encoder_part.EncoderConfig())
    raw = golden.weights(case["seed"], golden.aligner_shapes())
    encoder.load_state_dict(comfy_host.part("ssr_core.methods.ssr.formats").rename(raw), strict=False)
    clip_vision = host_clip_vision("j_uncond", tmp_path)
    query = words.Query("", golden.tensor("j_uncond", "input:concept_embeds", (1, 77, 768)))
    null = words.Query("", golden.tensor("j_uncond", "input:uncond_text_embeds", (1, 77, 768)))
    pictures = vision.as_pictures(golden.picture(*case["image"]))
    with torch.inference_mode():
        described = encode.Encoder(encoder.config, "", encoder)
        (subject,) = encode.encode_subjects(described, clip.vision_model(clip_vision), pictures, encode.Selection(query, null))
    rows = expected["row_idx"]
    assert golden.relative_error(subject.tokens[rows][None], expected["subject_embeds_rows"]) <= TOLERANCE
    assert golden.relative_error(subject.null_tokens[rows][None], expected["uncond_subject_embeds_rows"]) <= TOLERANCE


def test_f_block_ids_of_all_sixteen_layers_on_the_real_sd15_layout():
    import comfy.model_base
    import comfy.supported_models

    described = comfy.supported_models.SD15({**tiny.UNET_CONFIG, "model_channels": 320})
    described.set_inference_dtype(torch.float32, None)
    unet = comfy.model_base.BaseModel(described, device="meta").diffusion_model
    found = comfy_host.part("ssr_core.hosts.comfyui.layout").cross_attentions(unet)
    table = {tuple(row["comfy_replace_key_full"]): row for row in golden.mapping()["layers"]}
    assert {block for block, _ in found} == table.keys()
    for block, attention in found:
        assert attention.to_q.out_features == table[block]["hidden_size"]
        assert attention.heads == table[block]["heads"]

    met = []

    def note(query, context, value, extra_options):
        met.append((*extra_options["block"], extra_options["block_index"]))
        return query, context, value

    options = {"patches": {"attn2_patch": [note]}}
    latent, text = torch.empty(1, 4, 64, 64, device="meta"), torch.empty(1, 77, 768, device="meta")
    with torch.inference_mode():
        unet(latent, torch.ones(1, device="meta"), context=text, transformer_options=options)
    assert [table[block]["comfy_transformer_index"] for block in met] == list(range(16))
    layout = comfy_host.part("ssr_core.layout").SD15
    assert [layer.block for layer in layout.execution_order] == met
