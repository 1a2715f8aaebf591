"""The numbers of Xiaojiu-z/SSR_Encoder's ssr_encoder/ (data/cases.json), in the pure core."""

import pytest
import torch
from support import golden

from ssr_core import attention, vision
from ssr_core.attention import Branch, add_branches, plan_spans
from ssr_core.layout import SD15
from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.aligner import Aligner, mask_bias
from ssr_core.methods.ssr.encoder import SubjectProjection
from ssr_core.methods.ssr.subject import Subject, branch_inputs

TOLERANCE = 1e-4


def aligner(name: str) -> Aligner:
    raw = golden.weights(golden.cases()[name]["seed"], golden.aligner_shapes())
    state = {key.removeprefix("aligner."): value for key, value in formats.rename(raw).items()}
    module = Aligner(768, 1024, 512, 8, 6)
    module.load_state_dict(state)
    return module.requires_grad_(False)


def scales(name: str, key: str, batch: int = 1) -> torch.Tensor:
    """Features in the layout of Xiaojiu-z/SSR_Encoder's ssr_encoder/ssr_encoder.py, [B, S*P, C], in ours, [B, S, P, C]."""
    return golden.tensor(name, key, (batch, 1542, 1024)).unflatten(1, (6, 257))


@pytest.mark.parametrize(("name", "batch"), [("a_text_b1", 1), ("a_text_b2", 2)])
def test_a_and_c_text_query(name, batch):
    expected = golden.outputs(name)
    text = golden.tensor(name, "input:text_embeds", (batch, 77, 768))
    aligned = aligner(name)(text, scales(name, "input:image_embeds", batch))
    assert golden.relative_error(aligned.tokens, expected["subject_embeds"]) <= TOLERANCE
    assert golden.relative_error(aligned.attention, expected["attn_mean"]) <= TOLERANCE


@pytest.mark.parametrize("weight", [1, 5])
@pytest.mark.parametrize("mask", [tuple(mask) for mask in golden.cases()["b_mask"]["masks"]], ids=lambda mask: mask[0])
def test_b_mask_query(mask, weight):
    name, expected = mask[0], golden.outputs("b_mask")
    module = aligner("b_mask")
    text = golden.tensor("b_mask", "input:text_embeds", (1, 77, 768))
    if name == "zeros":
        patches = torch.zeros(256)  # refused at the door (vision.mask_to_patches), but the formula has to hold
    else:
        # get_image_embeds_mask in Xiaojiu-z/SSR_Encoder, ssr_encoder/ssr_encoder.py, squashes the whole mask: our "stretch".
        patches = vision.mask_to_patches(golden.mask(*mask), 16, 224, "stretch")
        assert torch.allclose(patches, expected[f"{name}/mask16"].flatten(), atol=2e-6)
    rows = expected["row_idx"]
    aligned = module(text, scales("b_mask", "input:image_embeds"), patches[None], weight)
    assert golden.relative_error(aligned.attention[0], expected[f"{name}/w{weight}/attn_mean"]) <= TOLERANCE
    assert golden.relative_error(aligned.tokens[:, rows], expected[f"{name}/w{weight}/subject_embeds_rows"]) <= TOLERANCE
    if name in golden.cases()["b_mask"]["uncond_for"]:
        null = golden.tensor("b_mask", "input:uncond_text_embeds", (1, 77, 768))
        aligned = module(null, scales("b_mask", "input:uncond_image_embeds"), patches[None], weight)
        key = f"{name}/w{weight}/uncond_"
        assert golden.relative_error(aligned.attention[0], expected[key + "attn_mean"]) <= TOLERANCE
        assert golden.relative_error(aligned.tokens[:, rows], expected[key + "subject_embeds_rows"]) <= TOLERANCE


def test_b_without_antialias_is_what_old_torchvision_gave():
    """The formula also holds for the mask that torchvision < 0.17 made: only the resize differs."""
    expected = golden.outputs("b_mask")
    module, text = aligner("b_mask"), golden.tensor("b_mask", "input:text_embeds", (1, 77, 768))
    for name in golden.cases()["b_mask"]["noaa_for"]:
        patches = expected[f"{name}/mask16_noaa"].flatten()[None]
        for weight in (1, 5):
            aligned = module(text, scales("b_mask", "input:image_embeds"), patches, weight)
            assert golden.relative_error(aligned.attention[0], expected[f"{name}/w{weight}/noaa_attn_mean"]) <= TOLERANCE


def test_mask_weight_zero_leaves_only_the_cls_bias():
    bias = mask_bias(torch.rand(1, 256), 0.0)
    assert bias[..., 0] == 1.0
    assert not bias[..., 1:].any()


@pytest.mark.parametrize(("width", "tokens"), golden.cases()["d_attn"]["layers"])
@pytest.mark.parametrize(
    ("subject_tokens", "strength"),
    [(count, strength) for count, strengths in golden.cases()["d_attn"]["subject_tokens"] for strength in strengths],
)
def test_d_decoupled_attention(width, tokens, subject_tokens, strength):
    seed = golden.cases()["d_attn"]["seed"] + width
    square, text_in = [width, width], [width, 768]
    shapes = {
        "to_q.weight": square, "to_k.weight": text_in, "to_v.weight": text_in, "to_out.0.weight": square,
        "to_out.0.bias": [width], "processor.to_k_SSR.weight": text_in, "processor.to_v_SSR.weight": text_in,
    }  # fmt: skip
    w = golden.weights(seed, shapes)
    hidden, text, subject = (
        torch.from_numpy(golden.golden_weights.tensor(seed, key, shape))
        for key, shape in [
            ("input:hidden_states", (2, tokens, width)),
            ("input:text_embeds", (2, 77, 768)),
            (f"input:subject_embeds_{subject_tokens}", (2, subject_tokens, 768)),
        ]
    )
    projection = SubjectProjection(768, width)
    projection.load_state_dict({"to_k.weight": w["processor.to_k_SSR.weight"], "to_v.weight": w["processor.to_v_SSR.weight"]})
    query = hidden @ w["to_q.weight"].T
    out = attention.scaled_dot_product(query, text @ w["to_k.weight"].T, text @ w["to_v.weight"].T, 8)
    branches = [Branch(*projection(subject), strength=strength)] if strength else []
    out = add_branches(out, query, branches, plan_spans([0, 1]), 2, 8)
    out = out @ w["to_out.0.weight"].T + w["to_out.0.bias"]
    expected = golden.outputs("d_attn")[f"h{width}/s{subject_tokens}/scale{strength}"]
    assert golden.relative_error(out, expected) <= TOLERANCE


def test_f_layer_table_of_sd15():
    layers = golden.mapping()["layers"]
    assert len(layers) == len(SD15.layers) == 16
    for row, layer in zip(layers, SD15.layers, strict=True):
        assert layer.index == int(row["animate_index"]) == (int(row["checkpoint_index"]) - 1) // 2
        assert layer.diffusers_name == row["diffusers_attn2"]
        assert layer.block == tuple(row["comfy_replace_key_full"])
        assert (layer.width, layer.heads) == (row["hidden_size"], row["heads"])
        assert SD15.execution_order.index(layer) == row["comfy_transformer_index"]


@pytest.mark.parametrize("image", golden.cases()["h_clip"]["images"], ids=str)
def test_h_pixels_are_clip_image_processors_bit_for_bit(image):
    width, height, variant = image
    expected = golden.outputs("h_clip")
    framed = vision.frame(vision.as_pictures(golden.picture(width, height, variant))[0], 224, "center crop")
    pixels = vision.normalise([framed])
    levels = (pixels[0] * torch.tensor(vision.STD).view(3, 1, 1) + torch.tensor(vision.MEAN).view(3, 1, 1)) * 255
    assert torch.equal(levels.round().to(torch.uint8), expected[f"pixel_u8/{width}x{height}_k{variant}"])
    sub8 = expected[f"pixel_values_sub8/{width}x{height}_k{variant}"]
    assert golden.relative_error(pixels[0, :, ::8, ::8], sub8) <= 1e-6


@pytest.mark.parametrize("name", ["i_multi2", "i_multi3"])
def test_i_several_subjects(name):
    """Each subject's strength acts on its own tokens; generate_multi in Xiaojiu-z/SSR_Encoder, ssr_encoder/ssr_encoder.py, gives all of
    them the first one's."""
    case, expected = golden.cases()[name], golden.outputs(name)
    module = aligner(name)
    null = module(
        golden.tensor(name, "input:uncond_text_embeds", (1, 77, 768)), scales(name, "input:uncond_image_embeds")
    ).tokens[0]
    subjects = []
    for index in range(case["num"]):
        text = golden.tensor(name, f"input:concept_embeds_{index}", (1, 77, 768))
        aligned = module(text, scales(name, f"input:image_embeds_{index}"))
        subjects.append(
            Subject(aligned.tokens[0], null, aligned.attention[0], torch.zeros(224, 224, 3), "", (), "", (224, 224))
        )
    rows = expected["row_idx"]

    def embeddings(strengths):
        (branch,) = branch_inputs(
            tuple(s.scaled(strength) for s, strength in zip(subjects, strengths, strict=True)), "joint", "official"
        )
        assert torch.equal(branch.key_scale, branch.value_scale)
        return (branch.tokens * branch.key_scale)[:, rows]

    unscaled = embeddings([1.0] * case["num"])
    assert golden.relative_error(unscaled[1:], expected["unscaled_subject_rows"]) <= TOLERANCE
    intended = embeddings(case["scales"])
    assert golden.relative_error(intended[1:], expected["intended_per_subject_scaled_rows"]) <= TOLERANCE
    official = embeddings(case["scales"][:1] * case["num"])
    assert golden.relative_error(official[1:], expected["official_prompt_embeds_subject_rows"]) <= TOLERANCE
    assert golden.relative_error(official[:1], expected["official_negative_subject_rows"]) <= TOLERANCE
