"""Subjects: looked into, combined, refused where they do not belong."""

from dataclasses import replace

import pytest
import torch
from support.subjects import make

from ssr_core.attention import NULL, SUBJECT
from ssr_core.merge import COMBINES
from ssr_core.methods.ssr import subject
from ssr_core.methods.ssr.subject import branch_inputs, joint_tokens


def test_heat_is_the_mean_over_the_chosen_words_with_its_maximum_at_one():
    attention = torch.zeros(5, 17)
    attention[1, 1 + 3] = 0.5  # "red" looks at patch 3
    attention[2, 1 + 7] = attention[3, 1 + 7] = 0.4  # "dog" is two tokens, both at patch 7
    attention[:, 0] = 0.9  # CLS is no patch
    attention[0, 1] = attention[4, 1] = 1.0  # start and end token are no words
    one = make(attention=attention)
    assert one.heat().shape == (4, 4)
    assert one.heat().flatten()[7] == 1
    assert one.heat().flatten()[3] == pytest.approx(0.5 / 0.8)
    assert one.heat().count_nonzero() == 2
    assert one.heat("dog").flatten().nonzero().flatten().tolist() == [7]
    assert torch.equal(one.heat(" DOG "), one.heat("dog"))


def test_heat_of_a_query_without_words_is_over_all_its_tokens():
    one = make(words=())
    patches = one.attention[:, 1:].mean(0)
    torch.testing.assert_close(one.heat().flatten(), patches / patches.max())


def test_heat_of_an_all_zero_map_is_zero():
    assert make(attention=torch.zeros(5, 17)).heat().abs().max() == 0


def test_an_unknown_word_lists_the_words_there_are():
    with pytest.raises(ValueError, match='no word "cat"; its words are: red, dog'):
        make().heat("cat")
    with pytest.raises(ValueError, match="its words are: none"):
        make(words=()).heat("cat")


def test_ways_to_combine_and_to_scale_are_called_as_saved_workflows_call_them():
    assert COMBINES == ("joint", "separate", "by word")
    assert subject.SCALINGS == ("official", "value only")


def test_joint_subjects_share_one_branch_in_their_order():
    first, second = make(1, tokens=3), make(2, tokens=5)
    (branch,) = branch_inputs((first, second), "joint", "value only")
    assert torch.equal(branch.tokens[SUBJECT], torch.cat([first.tokens, second.tokens]))
    assert torch.equal(branch.tokens[NULL], torch.cat([first.null_tokens, second.null_tokens]))


def test_separate_subjects_have_a_branch_each():
    pair = make(1, tokens=3), make(2, tokens=5, strength=0.3)
    branches = branch_inputs(pair, "separate", "value only")
    assert len(branches) == 2
    for one, branch in zip(pair, branches, strict=True):
        (alone,) = branch_inputs((one,), "joint", "value only")
        for part, expected in zip(branch.rows, alone.rows, strict=True):
            assert torch.equal(part, expected)


def test_by_word_is_separate_with_every_subjects_words():
    named, masked = make(1), make(2, words=())
    branches = branch_inputs((named, masked), "by word", "official")
    for branch, apart in zip(branches, branch_inputs((named, masked), "separate", "official"), strict=True):
        assert all(torch.equal(part, other) for part, other in zip(branch.rows, apart.rows, strict=True))
        assert apart.word_embeds is None
    assert torch.equal(branches[0].word_embeds[0], named.word_embeds)
    assert branches[1].word_embeds.shape == (1, 0, 4)


def test_by_word_a_single_subject_has_every_position_whole():
    silent = replace(make(2), strength=0.0)
    (alone,) = branch_inputs((make(1), silent), "by word", "official")
    assert alone.word_embeds is None


def test_by_word_refuses_a_subject_that_was_saved_without_its_words_embeddings():
    old = make(word_embeds=None, query="red fox")
    with pytest.raises(ValueError, match=r'"red fox" comes from a file of an earlier version.*joint or separate'):
        branch_inputs((make(), old), "by word", "official")
    assert len(branch_inputs((make(), old), "separate", "official")) == 2


@pytest.mark.parametrize("combine", COMBINES)
def test_official_strength_is_on_keys_and_values_of_the_conditional_side_only(combine):
    branches = branch_inputs((make(1, strength=0.5), make(2, strength=2.0)), combine, "official")
    for scale in (torch.cat([getattr(b, name) for b in branches], 1) for name in ("key_scale", "value_scale")):
        assert scale[0].unique().tolist() == [1.0]
        assert scale[1].flatten().tolist() == [0.5] * 6 + [2.0] * 6


@pytest.mark.parametrize("combine", COMBINES)
def test_value_only_strength_is_on_the_values_of_both_sides(combine):
    branches = branch_inputs((make(1, strength=0.5), make(2, strength=2.0)), combine, "value only")
    keys, values = (torch.cat([getattr(b, name) for b in branches], 1)[..., 0] for name in ("key_scale", "value_scale"))
    assert keys.tolist() == [[1.0] * 12] * 2
    assert values.tolist() == [[0.5] * 6 + [2.0] * 6] * 2


def test_tokens_laid_behind_the_prompt_are_scaled_by_each_subjects_strength_on_the_conditional_side_only():
    weak, off, strong = make(1, strength=0.5), make(2, strength=0.0), make(3, strength=2.0)
    laid = joint_tokens((weak, off, strong))
    assert torch.equal(laid[NULL], torch.cat([weak.null_tokens, strong.null_tokens]))
    assert torch.equal(laid[SUBJECT], torch.cat([0.5 * weak.tokens, 2.0 * strong.tokens]))


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("scaling", subject.SCALINGS)
def test_a_subject_of_strength_zero_is_as_if_it_were_not_there(combine, scaling):
    off, on = make(1, strength=0.0), make(2)
    assert subject.active((off, on, off)) == (on,)
    assert branch_inputs((off, off), combine, scaling) == ()
    with_it, without = branch_inputs((off, on), combine, scaling), branch_inputs((on,), combine, scaling)
    assert len(with_it) == len(without) == 1
    for part, expected in zip(with_it[0].rows, without[0].rows, strict=True):
        assert torch.equal(part, expected)


def test_scaling_twice_multiplies_and_leaves_the_original():
    one = make(strength=0.5)
    assert one.scaled(0.5).scaled(2.0).strength == 0.5
    assert one.scaled(0.25).strength == 0.125
    assert one.strength == 0.5


def test_a_subject_of_another_encoder_is_refused_by_name():
    mine, other = make(), make(encoder="f" * 32, query="blue cat")
    subject.check_encoder((mine,), mine.encoder)
    with pytest.raises(ValueError, match=r'"blue cat" was made by another encoder \(f{12}\).*\(0123456789ab\)'):
        subject.check_encoder((mine, other), mine.encoder)
    with pytest.raises(ValueError, match="unknown"):
        subject.check_encoder((make(encoder=""),), mine.encoder)


def test_subjects_are_picked_by_numbers_from_one():
    pair = make(1), make(2)
    assert subject.pick(pair, 1) == (0, pair[0])
    assert subject.pick(pair, 2) == (1, pair[1])
    for index in (0, 3, -1):
        with pytest.raises(ValueError, match=f"no subject {index}; this set holds 2"):
            subject.pick(pair, index)


def test_a_set_has_a_limit_that_chained_nodes_reach_without_work():
    one = (make(),)
    whole = subject.together(*[one] * subject.MOST_SUBJECTS)
    assert len(whole) == subject.MOST_SUBJECTS
    with pytest.raises(ValueError, match="256 subjects are too many for one set; it holds 64 at most"):
        subject.together(whole, whole, whole, whole)
    with pytest.raises(ValueError, match="65 subjects are too many"):
        branch_inputs((*whole, *one), "joint", "official")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30, 3.4e38, "1", None, torch.tensor([1.0])], ids=repr)
def test_a_strength_that_is_no_number_makes_no_subject(value):
    with pytest.raises(ValueError, match='strength of the subject "red dog" is'):
        make(strength=value)


def test_strengths_cannot_be_multiplied_beyond_the_limit():
    one = make(strength=torch.tensor(50.0))
    assert one.scaled(2.0).strength == 100.0
    with pytest.raises(ValueError, match="from -100 to 100"):
        one.scaled(3.0)


def test_a_querys_control_characters_reach_no_message():
    with pytest.raises(ValueError, match="no word") as caught:
        make(query="a\x1b[2J\n").heat("c\x07at")
    assert str(caught.value).isprintable()
