"""Subjects of ELITE, and as files: bit for bit, and anything else refused by name."""

import json
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.elite import subject

from ssr_core.methods.elite import subject_file
from ssr_core.methods.elite.framing import FRAMINGS
from ssr_core.methods.elite.subject import EliteSubject, acting, check_encoder, pick, together


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for field in fields(EliteSubject):
            left, right = getattr(one, field.name), getattr(other, field.name)
            if isinstance(right, torch.Tensor):
                assert left.dtype == right.dtype
                assert torch.equal(left, right)
            else:
                assert left == right
                assert type(left) is type(right)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.builds(
            subject,
            seed=st.integers(0, 2**16),
            count=st.integers(1, 5),
            grid=st.integers(2, 5),
            dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
            source_size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
            framing=st.sampled_from(FRAMINGS),
            strength=st.floats(-10, 10),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_saved_subject_comes_back_bit_for_bit(tmp_path_factory, subjects):
    path = tmp_path_factory.getbasetemp() / "elite_round_trip.safetensors"
    subject_file.save(tuple(subjects), path)
    assert_same(subject_file.load(path), subjects)


def test_words_alone_are_kept_too(tmp_path):
    saved = (subject(tokens=None), subject(1))
    subject_file.save(saved, tmp_path / "dog.safetensors")
    assert_same(subject_file.load(tmp_path / "dog.safetensors"), saved)


def test_provenance_is_kept_apart_from_the_subjects(tmp_path):
    subject_file.save((subject(),), tmp_path / "dog.safetensors", {"made_by": "somebody", "format": "ignored"})
    assert subject_file.provenance(tmp_path / "dog.safetensors") == {"made_by": "somebody"}


def test_nothing_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="no subject to save"):
        subject_file.save((), tmp_path / "none.safetensors")
    assert not any(tmp_path.iterdir())


def test_a_new_file_takes_no_others_place(tmp_path):
    subject_file.save((subject(),), tmp_path / "dog.safetensors")
    with pytest.raises(FileExistsError):
        subject_file.save((subject(),), tmp_path / "dog.safetensors", new=True)


@pytest.mark.parametrize(
    "change",
    [
        {"words": torch.zeros(0, 6)},
        {"words": torch.zeros(6)},
        {"words": torch.zeros(3, 7)},
        {"words": torch.zeros(65, 6)},
        {"words": torch.full((3, 6), float("nan"))},
        {"words": torch.zeros(3, 6, dtype=torch.int32)},
        {"tokens": torch.zeros(15, 6)},
        {"tokens": torch.ones(16, 6)},
        {"tokens": torch.full((16, 6), float("inf"))},
        {"patches": torch.full((16,), 0.5)},
        {"patches": torch.zeros(16)},
        {"patches": torch.ones(15)},
        {"patches": torch.ones(4, 4)},
        {"picture": torch.zeros(8, 8, 3)},
        {"picture": torch.zeros(8, 9, 3, dtype=torch.uint8)},
        {"picture": torch.zeros(1025, 1025, 3, dtype=torch.uint8)},
        {"source_size": (0, 5)},
        {"box": (5.0, 0.0, 5.0, 9.0)},
        {"box": (0.0, 0.0, float("inf"), 9.0)},
        {"framing": "fit"},
        {"encoder": "x" * 201},
    ],
    ids=lambda change: " ".join(f"{name} {getattr(value, 'shape', value)!s:.40}" for name, value in change.items()),
)
def test_what_load_would_refuse_is_not_written_and_not_read(tmp_path, change):
    path = tmp_path / "dog.safetensors"
    with pytest.raises(ValueError, match="The subject cannot be saved"):
        subject_file.save((subject(**change),), path)
    assert not path.exists()
    subject_file.save((subject(),), path)
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
    tensors, described = load_file(path), json.loads(said["subjects"])
    for name, value in change.items():
        if isinstance(value, torch.Tensor):
            tensors[f"0.{name}"] = value
        else:
            described[0][name] = value
    save_file(tensors, path, metadata={**said, "subjects": json.dumps(described)})
    with pytest.raises(ValueError, match=r"dog\.safetensors.* is damaged or incomplete"):
        subject_file.load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "ssr_subject"}, "Load Subject reads it"),
        ({"format": "ssr_elite"}, "Load ELITE reads it"),
        ({"format_version": "2"}, "Update the pack or encode"),
        ({"subjects": "["}, "is no JSON"),
        ({"subjects": "[]"}, "at least 1"),
        ({"subjects": "[{}]"}, "missing 0.encoder"),
    ],
    ids=str,
)
def test_another_file_is_refused_by_what_it_says(tmp_path, change, says):
    path = tmp_path / "dog.safetensors"
    subject_file.save((subject(),), path)
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
    save_file(load_file(path), path, metadata={**said, **change})
    with pytest.raises(ValueError, match=says):
        subject_file.load(path)


def test_a_missing_tensor_is_named(tmp_path):
    path = tmp_path / "dog.safetensors"
    subject_file.save((subject(),), path)
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
    tensors = load_file(path)
    del tensors["0.patches"]
    save_file(tensors, path, metadata=said)
    with pytest.raises(ValueError, match="subject 1 has no tensor patches"):
        subject_file.load(path)


def test_sets_are_combined_picked_from_and_bounded():
    one, other = subject(), subject(1)
    assert together((one,), (other, one)) == (one, other, one)
    assert pick((one, other), 2) == (1, other)
    with pytest.raises(ValueError, match="There is no subject 3"):
        pick((one, other), 3)
    with pytest.raises(ValueError, match="65 subjects are too many"):
        together((one,) * 65)


def test_subjects_of_another_elite_are_refused():
    check_encoder((subject(),), subject().encoder)
    with pytest.raises(ValueError, match=r"Subject 2 was made by another ELITE \(abc\)"):
        check_encoder((subject(), subject(encoder="abc")), subject().encoder)


def test_only_subjects_with_tokens_and_strength_act_in_the_branch():
    subjects = (subject(tokens=None), subject(1), subject(2).scaled(0.0), subject(3).scaled(0.5))
    assert [(place, own.strength) for place, own in acting(subjects)] == [(1, 1.0), (3, 0.5)]


def test_a_strength_that_is_none_is_refused():
    with pytest.raises(ValueError, match="The strength of the subject is nan"):
        subject(strength=float("nan"))
    with pytest.raises(ValueError, match="The strength of the subject"):
        subject(strength=60.0).scaled(2.0)


def test_no_more_words_than_there_are():
    assert torch.equal(subject().first_words(), subject().words[:1])
    with pytest.raises(ValueError, match="The number of words is 4; expected a whole number from 1 to 3"):
        subject().first_words(4)


def test_the_map_shows_the_mask_in_the_part_that_was_seen():
    shown = subject().map()
    assert shown.heat.shape == (4, 4)
    assert shown.heat[:2].all()
    assert not shown.heat[2:].any()
    assert (shown.source_size, shown.box) == ((480, 640), (100.0, -20.0, 500.0, 380.0))


def test_a_subject_is_not_changed():
    made = subject()
    assert replace(made, strength=2.0).strength == 2.0
    with pytest.raises(AttributeError):
        made.strength = 3.0
