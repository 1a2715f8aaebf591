"""The numbers of askerlee/AdaFace-dev at 6b1560fa (data/lasr/cases.json), in the core and on a tiny diffusers UNet."""

import pytest
import torch
from support import golden_lasr
from support.golden_lasr import assert_close, auto, cases, near, of_kind, raw

from ssr_core.methods.lasr import formats
from ssr_core.methods.lasr.contexts import (
    Learned,
    adaptive_vectors,
    layer_context,
    of_layer,
    prompts_of,
    static_contexts,
    substituted,
)
from ssr_core.methods.lasr.embedder import pooled_features
from ssr_core.methods.lasr.from_words import embedder_from_words, rank_of, word_vectors


def test_the_recipe_draws_what_the_cases_were_made_with():
    golden_lasr.check_recipe()


@pytest.mark.parametrize("name", of_kind("static_embedding"))
def test_static_vectors(name):
    case = cases()[name]
    made = golden_lasr.embedder(case["seed"], case["n_init"], case["rank"], bias=case["has_bias"])
    assert_close(made.static(), name, "vectors")


@pytest.mark.parametrize("name", of_kind("construct_from_words"))
def test_an_embedder_born_from_words(name):
    case = cases()[name]
    table, positions = (
        auto(case["seed"], f"clip.text_model.embeddings.{part}_embedding.weight", (rows, 768))
        for part, rows in (("token", 49408), ("position", 77))
    )
    vectors = word_vectors(case["word_token_ids"], table, positions)
    assert_close(vectors, name, "init_vectors")
    away = None
    if case["negative_words"]:
        away = word_vectors([3665, 2103], table, positions)  # "poor bad"
    generator = torch.Generator().manual_seed(0)
    weights, ratio = case["init_word_weights"], case["rank_token_ratio"]
    made = embedder_from_words(vectors, weights, generator, ratio=ratio, negatives=away)
    assert rank_of(len(vectors), ratio, 0 if away is None else len(away)) == case["expected"]["rank"]["value"]
    shapes = {key: list(tensor.shape) for key, tensor in made.state_dict().items()}
    assert shapes == case["expected"]["shapes"]["value"]
    assert_close(made.static.basis_comm_weights, name, "common_weights")
    if away is not None:
        # By the source: the case's own array was zeroed before it was stored.
        assert torch.equal(made.static.basis_vecs[: len(away)], -away)

    said, own = case["statistics"], made.static.basis_rand_weights[:, : len(vectors)]
    others = made.static.basis_rand_weights[:, len(vectors) :]
    assert own.std().item() == near(said["static_rand_weight_std_init_columns"], 0.5)
    assert others.std().item() == near(said["static_rand_weight_std_other_columns"], 0.5)
    for part in (made.static, made.lasr):
        random_rows = part.basis_vecs[(0 if away is None or part is made.lasr else len(away)) : -1]
        assert random_rows.norm(dim=1).tolist() == near([said["basis_row_norm"]] * len(random_rows))
        assert not part.basis_vecs[-1].any()
        assert torch.equal(part.pre_vecs, vectors)
        assert not part.bias.any()
        assert torch.equal(part.bias_scales, torch.ones(16, 1))
    assert not torch.equal(made.static.basis_vecs[-2], made.lasr.basis_vecs[-2])

    with torch.no_grad():  # what the words say before noise, in every layer
        made.static.basis_rand_weights.zero_()
        made.static.basis_vecs.zero_()
    assert_close(made.static()[0], name, "noise_free_static_vector")


@pytest.mark.parametrize("name", of_kind("adaptive_embedding"))
def test_adaptive_vectors(name):
    case = cases()[name]
    made = golden_lasr.embedder(case["seed"], case["n_init"], case["rank"]).lasr
    rectangles, batch = case["mask_rects_y0_y1_x0_x1"], case["batch"]
    part = None if rectangles is None else golden_lasr.mask(rectangles, *case["latent_hw"])
    time = raw(case["seed"], "time_emb", *case["time_emb"]["shape"])
    for layer in case["layers"]:
        index = layer["emb_idx"]
        pooled = pooled_features(golden_lasr.features(case, layer, batch), part)
        assert_close(pooled[:, :16], name, f"pooled_first16.{index}")
        assert_close(made.basis_weights(index, pooled, time), name, f"basis_weights.{index}")
        assert_close(made(index, pooled, time), name, f"vector.{index}")


def given_prompts(case):
    """Prompts of a case whose text encoder is left out: token ids, and rows of its own."""
    ids = torch.tensor(case["token_ids"])
    embeds = raw(case["seed"], "embedded_text", *case["embedded_text"]["shape"])
    return prompts_of(ids, embeds, [subject["token_id"] for subject in case["subjects"]])


@pytest.mark.parametrize("name", of_kind("substitution_static"))
def test_static_vectors_stand_in_the_place_of_placeholders(name):
    case = cases()[name]
    prompts, seen = given_prompts(case), []

    def encode(rows):
        seen.append(rows)
        return rows

    contexts = static_contexts(encode, prompts, golden_lasr.subjects(case, case["subj_scale"]))
    rows = contexts.flatten(0, 1)  # row = prompt * 16 + layer
    places = torch.tensor(case["positions_row_col"])
    assert_close(rows[places[:, 0], places[:, 1]], name, "vectors_at_positions")
    others = torch.ones(rows.shape[:2], dtype=torch.bool)
    others[places[:, 0], places[:, 1]] = False
    assert torch.equal(rows[others], prompts.embeds.repeat_interleave(16, 0)[others])
    assert sum(map(len, seen)) == 16 * len(prompts.marked) + len(prompts.embeds) - len(prompts.marked)


@pytest.mark.parametrize("name", of_kind("substitution_adaptive"))
def test_adaptive_vectors_stand_in_the_place_of_placeholders(name):
    case = cases()[name]
    prompts, subjects = given_prompts(case), golden_lasr.subjects(case, case["subj_scale"])
    time = raw(case["seed"], "time_emb", len(prompts.embeds), 1280)
    places = torch.tensor(case["positions_row_col"])
    for layer in case["layers"]:
        features = golden_lasr.features(case, layer, len(prompts.embeds))
        index = layer["emb_idx"]
        rows = layer_context(lambda rows: rows, prompts, prompts.embeds, subjects, index, features, time, alpha=1.0)
        assert_close(rows[places[:, 0], places[:, 1]], name, f"vectors_at_positions.{index}")


def test_a_placeholder_that_stands_twice_gets_its_own_layers_vector_both_times():
    """The authors' code fills static vectors in the wrong order there; these are the vectors it means."""
    name = "subst_repeat_35"
    case = cases()[name]
    prompts, subjects = given_prompts(case), golden_lasr.subjects(case)
    first, second = case["columns"]
    contexts = static_contexts(lambda rows: rows, prompts, subjects)[0]  # [16, 77, 768]
    assert_close(contexts[:, first], name, "correct_static_vectors")
    assert torch.equal(contexts[:, first], contexts[:, second])
    layer = case["adaptive_layer"]
    features, time = golden_lasr.features(case, layer, 1), raw(case["seed"], "time_emb", 1, 1280)
    vectors = adaptive_vectors(subjects, layer["emb_idx"], pooled_features(features), time)
    assert_close(substituted(prompts.embeds, prompts.marks, vectors)[0, case["columns"]], name, "correct_adaptive_vectors")


def test_contexts_through_the_text_encoder():
    name = "context_36"
    case = cases()[name]
    encoder, subjects = golden_lasr.TextEncoder(case), golden_lasr.subjects(case)
    ids = torch.tensor(case["token_ids"])
    prompts = prompts_of(ids, encoder.embeds(ids), [subject.token for subject in subjects])
    static = static_contexts(encoder, prompts, subjects)  # [2, 16, 77, 768]
    assert_close(static.flatten(0, 1)[..., ::32], name, "static_context")
    assert encoder.rows == 17  # the empty prompt once, not for every layer
    time = raw(case["seed"], "time_emb", 2, 1280)
    for layer in case["layers"]:
        index = layer["emb_idx"]
        features = golden_lasr.features(case, layer, 2)
        for key, alpha in (("adaptive", 1.0), ("mixed", case["lasr_emb_weight"])):
            made = layer_context(encoder, prompts, of_layer(static, index), subjects, index, features, time, alpha)
            assert_close(made[..., ::32], name, f"{key}_context.{index}")


@pytest.mark.parametrize("name", of_kind("unet_forward"))
def test_a_whole_unet_with_a_context_for_every_layer(name):
    case = cases()[name]
    seed, stated, batch = case["seed"], case["subject"], case["batch"]
    encoder, unet = golden_lasr.TextEncoder(case), golden_lasr.unet(seed)
    made = golden_lasr.embedder(seed, stated["n_init"], stated["rank"], golden_lasr.TINY)
    subjects = [Learned(made, stated["token_id"])]
    ids = golden_lasr.token_ids([case["negative"]] * batch + [case["prompt"]] * batch)
    prompts = prompts_of(ids, encoder.embeds(ids), [stated["token_id"]])
    assert prompts.marked.tolist() == [2, 3]
    static = static_contexts(encoder, prompts, subjects)
    latents = raw(seed, "x", *case["x"]["shape"]).repeat(2, 1, 1, 1)
    steps = torch.tensor(case["timesteps"]).repeat(2)

    def predicted(alpha):
        def contexts(layer, features, time):
            if alpha:
                pooled = pooled_features(features[batch:])
                assert_close(time[batch:], name, "time_emb_cond")
                assert_close(pooled, name, f"pooled_input.{layer}")
                assert_close(made.lasr(layer, pooled, time[batch:]), name, f"adaptive_vector.{layer}")
            return layer_context(encoder, prompts, of_layer(static, layer), subjects, layer, features, time, alpha)

        with torch.no_grad():
            return golden_lasr.run_with_contexts(unet, latents, steps, contexts)

    assert_close(predicted(case["lasr_emb_weight"]), name, "eps")
    before = encoder.rows
    assert_close(predicted(0.0), name, "eps_static_only")
    assert encoder.rows == before


def test_a_file_of_the_authors_gives_their_vectors():
    name = "legacy_81"
    case = cases()[name]
    (subject,) = formats.load(golden_lasr.DATA / "legacy.pt")
    assert (subject.placeholder, subject.token, subject.alpha) == (
        case["placeholder"],
        case["token_id"],
        case["lasr_emb_weight"],
    )
    assert (subject.shapes.words, subject.shapes.rank, subject.vectors) == (case["n_init"], case["rank"], None)
    assert len(subject.weights) == 170
    for key, weight in subject.weights.items():
        assert torch.equal(weight, auto(case["seed"], key, weight.shape)), key
    made = subject.embedder()
    assert_close(made.static(), name, "static_vectors")
    time = raw(case["seed"], "time_emb", 1, 1280)
    for layer in case["layers"]:
        pooled = pooled_features(golden_lasr.features(case, layer, 1))
        assert_close(made.lasr(layer["emb_idx"], pooled, time), name, f"adaptive_vector.{layer['emb_idx']}")
