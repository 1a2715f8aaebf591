"""What a step of learning draws, and the views and prompts that it draws from."""

import random

import pytest
import torch
from support.toy_learning import views

from ssr_core.methods.lasr.draws import draw
from ssr_core.methods.lasr.texts import DRAWN, TEXTS, caption_frames, kind_of
from ssr_core.methods.lasr.views import squared, views_of
from ssr_core.mini.vocabulary import unknown_words


def drawn(step, seed=3, batch=2, repeats=2, pictures=5, **options):
    return draw(seed, step, batch, repeats, views(pictures), TEXTS["animal"], (), 6, 1000, **options)


def test_a_step_follows_from_seed_and_number_alone():
    one, again, next_one, other = drawn(7), drawn(7), drawn(8), drawn(7, seed=4)
    assert (one.pictures, one.frames, one.phrases) == (again.pictures, again.frames, again.phrases)
    assert torch.equal(one.noise, again.noise)
    assert not torch.equal(one.noise, next_one.noise)
    assert not torch.equal(one.noise, other.noise)


def test_every_picture_is_seen_before_any_is_seen_again():
    seen = [picture for step in range(5) for picture in drawn(step).pictures]
    assert sorted(seen[:5]) == sorted(seen[5:]) == list(range(5))


def test_adaptive_contexts_are_compared_every_fifth_step_with_one_phrase():
    steps = [drawn(step, repeats=3) for step in range(6)]
    assert [one.compares for one in steps] == [True, False, False, False, False, True]
    assert [len(one.phrases) for one in steps] == [1, 3, 3, 3, 3, 1]
    assert not drawn(0, compares=False).compares


def test_prompts_with_phrases_begin_with_those_without():
    one = drawn(1)
    singles, composed = one.singles("z"), one.composed("z")
    assert len(composed) == 4
    for number, text in enumerate(composed):
        assert text.startswith(singles[number % 2])
        assert len(text) > len(singles[number % 2])
        assert " ," not in text
    assert [text.replace("cat", "z") for text in one.singles("cat")] == singles


def test_half_of_the_pictures_are_shown_smaller():
    chosen = [view for step in range(100) for view in drawn(step).views]
    assert 70 < sum(view >= 2 for view in chosen) < 130
    assert set(chosen) == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", TEXTS)
def test_every_frame_has_one_place_and_phrases_are_many(kind):
    texts = TEXTS[kind]
    assert all(frame.count("{}") == 1 for frame in texts.frames)
    assert sum(map(len, texts.phrases)) >= (12 if kind == DRAWN else 50)


def test_mini_knows_every_word_of_its_prompts():
    chance = random.Random(0)
    for _ in range(200):
        assert not unknown_words(f"{TEXTS[DRAWN].frame(chance).format('z')} {TEXTS[DRAWN].phrase(chance)}")


def test_the_kind_of_phrases_follows_the_class():
    assert kind_of("Woman") == "person"
    assert kind_of("cat") == "animal"
    assert kind_of("teapot") == "object"
    assert kind_of("cat", "object") == "object"
    assert kind_of("cat", "object", knows_photos=False) == DRAWN
    with pytest.raises(ValueError, match='"plant" is no kind of subject'):
        kind_of("cat", "plant")


def test_captions_name_the_placeholder_as_a_word():
    assert caption_frames(["a z on a sofa", "one z"], "z") == ("a {} on a sofa", "one {}")
    with pytest.raises(ValueError, match=r'caption of picture 2, "a zebra", does not have the placeholder "z"'):
        caption_frames(["a z", "a zebra"], "z")


def encode(pixels):
    return torch.nn.functional.avg_pool2d(pixels, 8).repeat(1, 2, 1, 1)[:, :4]


def test_pictures_are_mirrored_and_made_smaller_with_masks_that_follow():
    picture = torch.zeros(3, 64, 64)
    picture[:, :, :32] = 1
    made = views_of([picture], [None], encode, coarsest=2)
    assert made.latents.shape == (1, 8, 4, 8, 8)
    assert (made.plain, made.scaled) == (2, 6)
    assert torch.equal(made.latents[0, 1], made.latents[0, 0].flip(-1))
    assert made.masks[0, 0].all()
    assert [int(mask.sum()) for mask in made.masks[0, 2::2]] == [36, 36, 64]
    assert not made.masks[0, 2, 0].any()


def test_a_mask_that_marks_nothing_at_the_coarsest_layer_is_refused():
    mask = torch.zeros(64, 64)
    mask[3:5, 3:5] = 1
    with pytest.raises(ValueError, match="The mask of picture 2 marks too little to learn from"):
        views_of([torch.zeros(3, 64, 64)] * 2, [None, mask], encode, coarsest=2)


def test_a_picture_becomes_square_by_its_middle_or_as_a_whole():
    picture = torch.zeros(3, 64, 128)
    picture[:, :, 32:96] = 1
    assert squared(picture, 64).min() == 1
    stretched = squared(picture, 64, "stretch")
    assert stretched.shape == (3, 64, 64)
    assert stretched[:, :, :8].max() < 0.1


def test_no_pictures_and_too_many_are_refused():
    for count in (0, 201):
        with pytest.raises(ValueError, match=f"got {count}"):
            views_of([torch.zeros(3, 8, 8)] * count, [None] * count, encode, 1)
