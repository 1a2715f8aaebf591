"""Prompts that say ELITE's subjects: in which chunks they act, and what is refused in words."""

import pytest
import torch
from support import comfy_host, golden, tiny, tiny_elite


def test_every_occurrence_of_the_word_counts_across_chunks(applied, say, subject):
    riders = comfy_host.part("ssr_core.hosts.comfyui.riders")
    positive = say(subject, "a S, " + "very " * 80 + "big (S:1.2)")
    ((places,),) = [rider.content.places.values() for rider in [riders.rider_of(positive[0][1], "elite")]]
    assert len(places) == 2
    assert places[0] == 2
    assert places[1] > 77
    assert positive[0][0].shape[1] == 154
    assert bool(tiny.sample(applied(subject), positive=positive).isfinite().all())


@pytest.mark.parametrize("lengths", [(1, 2), (2, 1)], ids=["longer negative", "longer positive"])
def test_texts_of_other_lengths_may_share_a_batch(applied, say, subject, lengths, monkeypatch):
    import comfy.conds

    positive = say(subject, "a S" + " and snow" * (60 * (lengths[0] - 1)))
    negative = tiny.cond(12)
    negative[0][0] = negative[0][0].repeat(1, lengths[1], 1) + torch.linspace(0, 1, 77 * lengths[1])[None, :, None]
    together = tiny.sample(applied(subject), positive=positive, negative=negative)
    monkeypatch.setattr(comfy.conds.CONDCrossAttn, "can_concat", lambda self, other: False)
    apart = tiny.sample(applied(subject), positive=positive, negative=negative)
    assert golden.relative_error(together, apart) <= 1e-4


@pytest.mark.parametrize("kind", ["combine", "area", "timesteps"])
def test_a_prompt_without_the_subject_beside_it(applied, say, subject, kind, drawn):
    """Conditioning Combine, areas and timestep ranges are the host's own; chunks that say no subject get none."""
    positive, plain = say(subject), tiny.cond(21)
    if kind == "area":
        positive[0][1].update(area=(16, 8, 0, 0), set_area_to_bounds=False, strength=1.0)
    if kind == "timesteps":
        positive[0][1].update(start_percent=0.0, end_percent=0.5)
        plain[0][1].update(start_percent=0.5, end_percent=1.0)
    found = tiny.sample(applied(subject), positive=[*positive, *plain], steps=3)
    word_alone = tiny.sample(applied(subject, 0.0), positive=[*positive, *plain], steps=3)
    assert bool(found.isfinite().all())
    assert golden.relative_error(found, word_alone) > 1e-5


def test_one_elite_for_a_model(applied, subject, other):
    stranger = (tiny_elite.subject(other.fingerprint),)
    with pytest.raises(ValueError, match="read by another ELITE already"):
        applied(stranger, onto=applied(subject), own=other)
    with pytest.raises(ValueError, match="made by another ELITE"):
        applied(stranger)


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_prompt_of_another_elite_is_refused(applied, say, subject, other, side):
    stranger = say((tiny_elite.subject(other.fingerprint),))
    with pytest.raises(ValueError, match="says a subject of another ELITE"):
        tiny.sample(applied(subject), **{"positive": say(subject), side: stranger})


def test_a_positive_without_the_subject_is_refused(applied, say, subject, two):
    with pytest.raises(ValueError, match="No positive prompt comes from Prompt with Subject"):
        tiny.sample(applied(subject), negative=say(subject))
    with pytest.raises(ValueError, match="so subject 2 of Apply Subject"):
        tiny.sample(applied(two), positive=say(two[:1]))
    tiny.sample(applied(two, 0.0), positive=say(two[:1]))  # the words alone: nothing to place


@pytest.mark.parametrize("how", ["ConditioningConcat", "ConditioningAverage", "ConditioningZeroOut"])
def test_nodes_that_change_the_prompt_are_refused_by_name(applied, say, subject, how):
    import nodes as host_nodes

    node, said, plain = getattr(host_nodes, how)(), say(subject), tiny.cond(21)
    changed = {
        "ConditioningConcat": lambda: node.concat(said, plain),
        "ConditioningAverage": lambda: node.addWeighted(said, plain, 0.5),
        "ConditioningZeroOut": lambda: node.zero_out(said),
    }[how]()[0]
    with pytest.raises(ValueError, match="does not reach the places of its subjects"):
        tiny.sample(applied(subject), positive=changed)


@pytest.mark.parametrize(
    ("text", "placeholder", "told"),
    [
        ("a photo of a dog", "S", 'does not say "S"'),
        ("a photo of a S", "doghouse xyz", "There are 2 placeholders for 1 subjects"),
        ("a photo of a sxyzzy", "sxyzzy", "tokens: "),
        ("a photo of a S", "", "There are 0 placeholders"),
    ],
)
def test_prompts_that_leave_the_subject_out(say, subject, text, placeholder, told):
    with pytest.raises(ValueError, match=told):
        say(subject, text, placeholder)


def test_two_subjects_need_two_placeholders(say, two):
    with pytest.raises(ValueError, match="are the same token"):
        say(two, "a S and a s", "S s")


def test_a_prompt_without_apply_is_told(say, subject, model, caplog):
    tiny.sample(model, positive=say(subject))
    assert "no Apply Subject (ELITE)" in caplog.text
