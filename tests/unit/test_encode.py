"""The recipe from pictures to subjects: what runs, what is remembered, and which mask meets which picture."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from support.encoding import CAT, CONFIG, DOG, GRID, LAYERS, NULL, SIZE, TOKENS, WIDTH, CountingAligner, FakeVision, query

from ssr_core import vision
from ssr_core.methods.ssr import encode
from ssr_core.methods.ssr.encode import Encoder, Selection, encode_subjects
from ssr_core.vision_model import PICTURES_KEPT, VisionModel


@pytest.fixture
def eyes():
    return FakeVision()


@pytest.fixture
def model(eyes):
    return VisionModel(eyes, SIZE, WIDTH, GRID * GRID + 1, LAYERS)


@pytest.fixture
def align():
    return CountingAligner()


@pytest.fixture
def encoder(align):
    return Encoder(CONFIG, "some encoder", align)


def pictures(count, width=48, height=40, first=0):
    images = [torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(first + seed)) for seed in range(count)]
    return vision.as_pictures(torch.cat(images))


def test_the_zero_picture_shares_the_first_pass_and_nothing_runs_twice(encoder, model, eyes):
    encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL))
    assert eyes.batches == [2]
    encode_subjects(encoder, model, pictures(1), Selection(CAT, NULL, torch.ones(1, 40, 48)))
    assert eyes.batches == [2], "a picture already seen ran again"
    encode_subjects(encoder, model, pictures(2), Selection(DOG, NULL))
    assert eyes.batches == [2, 1], "only the new picture should run"


def test_a_batch_runs_once_and_equal_pictures_in_it_count_once(encoder, model, eyes):
    subjects = encode_subjects(encoder, model, pictures(2) + pictures(1), Selection(DOG, NULL))
    assert eyes.batches == [3]
    assert len(subjects) == 3
    assert torch.equal(subjects[0].tokens, subjects[2].tokens)
    assert not torch.equal(subjects[0].tokens, subjects[1].tokens)


def test_another_fit_is_another_picture_to_the_vision_model(encoder, model, eyes):
    encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL))
    encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL, fit="stretch"))
    assert eyes.batches == [2, 1]


def test_a_batch_of_references_gives_the_subjects_of_each_alone(encoder, model):
    together = encode_subjects(encoder, model, pictures(3), Selection(DOG, NULL))
    for picture, subject in zip(pictures(3), together, strict=True):
        fresh = VisionModel(FakeVision(), SIZE, WIDTH, GRID * GRID + 1, LAYERS)
        (alone,) = encode_subjects(encoder, fresh, [picture], Selection(DOG, NULL))
        for name in ("tokens", "null_tokens", "attention", "picture"):
            torch.testing.assert_close(getattr(subject, name), getattr(alone, name))


def test_pictures_of_different_sizes_fit_in_one_batch(encoder, model):
    mixed = pictures(1, 48, 40) + pictures(1, 20, 90)
    sizes = [subject.source_size for subject in encode_subjects(encoder, model, mixed, Selection(DOG, NULL))]
    assert sizes == [(40, 48), (90, 20)]


def test_a_subject_carries_what_it_was_made_of(encoder, model):
    (picture,) = pictures(1)
    (subject,) = encode_subjects(encoder, model, [picture], Selection(DOG, NULL, fit="pad"), strength=0.7)
    assert (subject.query, subject.words, subject.encoder) == ("dog", DOG.words, "some encoder")
    assert (subject.source_size, subject.fit, subject.strength) == ((40, 48), "pad", 0.7)
    assert subject.tokens.shape == subject.null_tokens.shape == (2 * TOKENS, 6)
    assert subject.attention.shape == (TOKENS, GRID * GRID + 1)
    assert subject.picture.dtype == torch.uint8
    assert subject.picture.numpy().tobytes() == vision.frame(picture, SIZE, "pad").tobytes()


def test_the_unconditional_side_sees_a_zero_picture_and_the_null_query(encoder, model, align, eyes):
    (subject,) = encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL))
    zero = vision.patch_features(FakeVision(), torch.zeros(1, 3, SIZE, SIZE), CONFIG.vision_layers)
    torch.testing.assert_close(subject.null_tokens, align.module(NULL.embeds, zero).tokens[0])


def test_null_tokens_are_computed_once_for_all_pictures_and_queries(encoder, model, align):
    first = encode_subjects(encoder, model, pictures(3), Selection(DOG, NULL))
    assert len(align.masks) == 3 + 1
    second = encode_subjects(encoder, model, pictures(1), Selection(CAT, NULL, mask_weight=3.0))
    assert len(align.masks) == 4 + 1, "without a mask its weight means nothing"
    assert all(torch.equal(subject.null_tokens, first[0].null_tokens) for subject in first + second)


def test_null_tokens_follow_the_null_query_the_mask_its_weight_and_the_encoder(encoder, model, align):
    left, right = torch.zeros(1, 40, 48), torch.zeros(1, 40, 48)
    left[..., :24], right[..., 24:] = 1, 1
    other = Encoder(CONFIG, "another encoder", align)
    calls = [
        (encoder, NULL, None, 1.0), (encoder, CAT, None, 1.0), (encoder, NULL, left, 1.0), (encoder, NULL, right, 1.0),
        (encoder, NULL, left, 2.0), (other, NULL, None, 1.0),
    ]  # fmt: skip
    for count, (chosen, null, mask, weight) in enumerate(calls, start=1):
        for _ in range(2):
            encode_subjects(chosen, model, pictures(1), Selection(DOG, null, mask, weight))
        assert len(model.derived) == count


def test_both_sides_get_the_same_mask_and_weight(encoder, model, align):
    encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL, torch.ones(1, 40, 48), 2.5))
    assert align.weights == [2.5, 2.5]
    assert torch.equal(*align.masks)


def test_memory_is_bounded_however_many_pictures_come(encoder, model, eyes):
    many = PICTURES_KEPT + 3
    assert len(encode_subjects(encoder, model, pictures(many), Selection(DOG, NULL))) == many
    for seed in range(encode.NULL_TOKENS_KEPT + 3):
        encode_subjects(encoder, model, pictures(1, first=100 + seed), Selection(DOG, query(100 + seed)))
    assert len(model.features) == PICTURES_KEPT
    assert len(model.derived) == encode.NULL_TOKENS_KEPT
    assert eyes.batches == [many + 1] + [1] * (encode.NULL_TOKENS_KEPT + 3), "the zero picture was forgotten"


def test_what_was_used_last_is_what_is_remembered(encoder, model, eyes, align):
    encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL))
    for seed in range(PICTURES_KEPT):
        encode_subjects(encoder, model, pictures(1, first=10 + seed), Selection(DOG, NULL))
        encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL))
    assert eyes.batches == [2] + [1] * PICTURES_KEPT

    for seed in range(encode.NULL_TOKENS_KEPT):
        encode_subjects(encoder, model, pictures(1), Selection(DOG, query(100 + seed)))
        before = len(align.masks)
        encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL))
        assert len(align.masks) == before + 1, "the null tokens just used were forgotten"


def test_an_encoder_that_reads_other_layers_gets_its_own_features(encoder, model, align):
    (before,) = encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL))
    deeper = Encoder(replace(CONFIG, vision_layers=(2, 3)), "deeper encoder", align)
    (after,) = encode_subjects(deeper, model, pictures(1), Selection(DOG, NULL))
    fresh = VisionModel(FakeVision(), SIZE, WIDTH, GRID * GRID + 1, LAYERS)
    (expected,) = encode_subjects(deeper, fresh, pictures(1), Selection(DOG, NULL))
    torch.testing.assert_close(after.tokens, expected.tokens)
    assert not torch.allclose(after.tokens, before.tokens)


@pytest.mark.parametrize("fit", vision.FITS)
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_mask_of_another_size_is_stretched_over_the_whole_picture(encoder, model, align, fit, factor):
    exact = torch.zeros(1, 40, 120)
    exact[:, 10:30, 44:80] = 1
    other = torch.nn.functional.interpolate(exact[None], scale_factor=factor, mode="nearest")[0]
    for mask in (exact, other):
        encode_subjects(encoder, model, pictures(1, 120, 40), Selection(DOG, NULL, mask, fit=fit))
    torch.testing.assert_close(align.masks[0], align.masks[2], atol=0.05, rtol=0)


def test_a_square_mask_over_a_wide_picture_keeps_its_halves(encoder, model, align):
    mask = torch.zeros(1, 64, 64)
    mask[..., 32:] = 1
    encode_subjects(encoder, model, pictures(1, 120, 40), Selection(DOG, NULL, mask))
    patches = align.masks[0].view(GRID, GRID)
    assert patches[:, :2].max() < 0.5 < patches[:, 2:].min()


def test_every_picture_meets_its_own_mask(encoder, model, align):
    masks = torch.zeros(2, 40, 48)
    masks[0, :, :24], masks[1, :, 24:] = 1, 1
    encode_subjects(encoder, model, pictures(2), Selection(DOG, NULL, masks))
    first, second = (align.masks[index].view(GRID, GRID) for index in (0, 2))
    assert first[:, 0].min() > 0.5 > second[:, 0].max()
    assert second[:, -1].min() > 0.5 > first[:, -1].max()


def test_one_mask_serves_all_pictures(encoder, model, align):
    encode_subjects(encoder, model, pictures(3), Selection(DOG, NULL, torch.ones(1, 40, 48)))
    assert len(align.masks) == 3 + 1
    assert all(torch.equal(mask, align.masks[0]) for mask in align.masks)


@pytest.mark.parametrize(("masks", "count"), [(2, 3), (3, 2)])
def test_another_number_of_masks_than_pictures_is_refused(encoder, model, eyes, masks, count):
    with pytest.raises(ValueError, match=f"{masks} masks for {count} reference pictures"):
        encode_subjects(encoder, model, pictures(count), Selection(DOG, NULL, torch.ones(masks, 40, 48)))
    assert eyes.batches == [], "the vision model ran before the refusal"


def test_an_empty_mask_is_refused_before_anything_runs(encoder, model, eyes):
    with pytest.raises(ValueError, match="marks nothing"):
        encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL, torch.zeros(1, 64, 64)))
    assert eyes.batches == []


def test_a_vision_model_of_another_width_is_refused_before_it_runs(encoder, eyes):
    with pytest.raises(ValueError, match="width 1280"):
        encode_subjects(encoder, VisionModel(eyes, SIZE, 1280, 17, LAYERS), pictures(1), Selection(DOG, NULL))
    assert eyes.batches == []


def test_half_precision_features_and_masks_become_float32_subjects(encoder, eyes):
    half = VisionModel(lambda pixels: [layer.half() for layer in eyes(pixels)], SIZE, WIDTH, GRID * GRID + 1, LAYERS)
    (subject,) = encode_subjects(encoder, half, pictures(1), Selection(DOG, NULL, torch.ones(1, 20, 20, dtype=torch.float16)))
    assert subject.tokens.dtype == subject.null_tokens.dtype == subject.attention.dtype == torch.float32


def test_subjects_do_not_change_when_the_next_ones_are_made(encoder, model):
    (subject,) = encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL))
    kept = [getattr(subject, name).clone() for name in ("tokens", "null_tokens", "picture")]
    encode_subjects(encoder, model, pictures(3), Selection(CAT, NULL, torch.ones(1, 8, 8), 5.0))
    for name, before in zip(("tokens", "null_tokens", "picture"), kept, strict=True):
        assert torch.equal(getattr(subject, name), before)


def test_a_picture_of_one_pixel_gives_a_subject(encoder, model):
    (subject,) = encode_subjects(encoder, model, [Image.new("RGB", (1, 1))], Selection(DOG, NULL, torch.ones(1, 1, 1)))
    assert subject.tokens.isfinite().all()


def test_several_masks_of_one_picture_are_a_subject_each(encoder, model, align, eyes):
    masks = torch.zeros(3, 40, 48)
    masks[0, :, :24], masks[1, :, 24:], masks[2] = 1, 1, 1
    subjects = encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL, masks))
    assert sum(eyes.batches) == 2, "the picture and the zero picture, once each"
    for index, subject in enumerate(subjects):
        (alone,) = encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL, masks[index]))
        assert torch.equal(subject.tokens, alone.tokens)
        assert torch.equal(subject.marked, alone.marked)


def test_more_pictures_or_masks_than_a_set_holds_are_refused_before_anything_runs(encoder, model, eyes):
    with pytest.raises(ValueError, match="65 pictures or masks are too many"):
        encode_subjects(encoder, model, pictures(1) * 65, Selection(DOG, NULL))
    with pytest.raises(ValueError, match="65 pictures or masks are too many"):
        encode_subjects(encoder, model, pictures(1), Selection(DOG, NULL, torch.ones(65, 4, 4)))
    assert eyes.batches == []


def test_a_query_of_a_megabyte_is_refused_shortly():
    with pytest.raises(ValueError, match="query has 1,000,000 characters; at most 10,000") as caught:
        Selection(replace(DOG, text="x" * 1_000_000), NULL)
    assert len(str(caught.value)) < 200


def test_text_and_vision_that_give_numbers_that_are_none_are_named(encoder, model):
    broken = replace(DOG, embeds=torch.full_like(DOG.embeds, float("nan")))
    with pytest.raises(ValueError, match=r'Encoding ".*" gives tokens with numbers that are not finite'):
        encode_subjects(encoder, model, pictures(1), Selection(broken, NULL))
