"""From pictures and masks to subjects."""

import logging

import pytest
import torch
from PIL import Image
from support.elite import encoder, small, vision_model

from ssr_core.methods.elite.encode import Selection, encode_subjects


def picture(colour=(200, 50, 50), size=(40, 30)):
    made = Image.new("RGB", size, (20, 90, 160))
    made.paste(colour, (10, 5, 25, 25))
    return made


def mask(left=10, right=25):
    marked = torch.zeros(1, 30, 40)
    marked[:, 5:25, left:right] = 1.0
    return marked


def test_a_subject_holds_what_its_picture_and_mask_gave():
    (subject,) = encode_subjects(encoder(), vision_model(), [picture()], Selection(mask()), strength=0.7)
    assert subject.words.shape == (3, 6)
    assert subject.tokens.shape == (16, 6)
    assert not subject.tokens[subject.patches == 0].any()
    assert subject.picture.shape == (16, 16, 3)
    assert subject.source_size == (30, 40)
    assert (subject.encoder, subject.strength, subject.framing) == (small().fingerprint, 0.7, "crop to mask")


def test_background_changes_the_words_and_not_the_tokens():
    one, other = picture(), picture()
    other.paste((0, 255, 0), (0, 0, 40, 3))
    (a,), (b,) = (encode_subjects(encoder(), vision_model(), [seen], Selection(mask(), "stretch")) for seen in (one, other))
    assert torch.equal(a.tokens, b.tokens)
    assert not torch.equal(a.words, b.words)


def test_each_mask_of_one_picture_is_a_subject():
    subjects = encode_subjects(encoder(), vision_model(), [picture()], Selection(torch.cat([mask(), mask(2, 9)])))
    assert len(subjects) == 2
    assert subjects[0].box != subjects[1].box


def test_one_mask_serves_all_pictures():
    subjects = encode_subjects(encoder(), vision_model(), [picture(), picture((9, 9, 9))], Selection(mask()))
    assert len(subjects) == 2
    assert not torch.equal(subjects[0].tokens, subjects[1].tokens)


def test_other_numbers_of_masks_are_refused():
    with pytest.raises(ValueError, match="3 masks for 2 reference pictures"):
        encode_subjects(encoder(), vision_model(), [picture()] * 2, Selection(mask().repeat(3, 1, 1)))
    with pytest.raises(ValueError, match="65 pictures or masks are too many"):
        encode_subjects(encoder(), vision_model(), [picture()], Selection(mask().repeat(65, 1, 1)))


def test_without_a_mask_the_whole_picture_is_taken_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        (subject,) = encode_subjects(encoder(), vision_model(), [picture()], Selection())
    assert "no mask" in caplog.text
    assert subject.patches.all()


def test_points_select_what_is_under_them_and_join_the_mask(caplog):
    seen = Image.new("RGB", (80, 80), (20, 90, 160))
    seen.paste((250, 250, 250), (20, 20, 60, 40))
    points = ((30.0, 30.0),)
    (subject,) = encode_subjects(encoder(), vision_model(), [seen], Selection(points=points, margin=0.0))
    assert subject.box == pytest.approx((20, 10, 60, 50), abs=4)
    assert "no mask" not in caplog.text
    corner = torch.zeros(1, 80, 80)
    corner[..., 60:, 60:] = 1.0
    (both,) = encode_subjects(encoder(), vision_model(), [seen], Selection(corner, points=points, margin=0.0))
    assert both.box == pytest.approx((20, 20, 80, 80), abs=4)


def test_a_global_mapper_alone_makes_words_alone():
    (subject,) = encode_subjects(encoder(local=False), vision_model(), [picture()], Selection(mask()))
    assert subject.tokens is None
    assert subject.words.shape == (3, 6)


@pytest.mark.parametrize("shape", [{"width": 12}, {"tokens": 26}, {"layers": 2}])
def test_another_vision_model_is_refused_before_it_runs(shape):
    with pytest.raises(ValueError, match=r"This CLIP Vision model has .*clip-vit-large-patch14"):
        encode_subjects(encoder(), vision_model(**shape), [picture()], Selection(mask()))


def test_numbers_that_are_none_are_not_passed_on():
    broken = encoder()
    with torch.no_grad():
        broken.words.get_parameter("mapping_0.6.bias")[0] = float("inf")
    with pytest.raises(ValueError, match="Encoding gives words with numbers that are not finite"):
        encode_subjects(broken, vision_model(), [picture()], Selection(mask()))


def test_an_unknown_framing_is_refused():
    with pytest.raises(ValueError, match='framing is "fit"; expected one of crop to mask, stretch'):
        Selection(mask(), "fit")
