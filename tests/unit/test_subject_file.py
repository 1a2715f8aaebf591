"""Subjects kept on disk: bit for bit, and anything else refused by name."""

import json
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from support.subjects import make

from ssr_core.methods.ssr import subject_file
from ssr_core.methods.ssr.subject import Subject, branch_inputs
from ssr_core.vision import FITS
from ssr_core.words import Word


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for field in fields(Subject):
            left, right = getattr(one, field.name), getattr(other, field.name)
            if isinstance(right, torch.Tensor):
                assert left.dtype == right.dtype
                assert torch.equal(left, right)
            else:
                assert left == right
                assert type(left) is type(right)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.builds(
            make,
            seed=st.integers(0, 2**16),
            tokens=st.integers(1, 9),
            dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
            query=st.text(max_size=20),
            words=st.lists(st.text(min_size=1, max_size=5), max_size=4).map(
                lambda texts: tuple(Word(text, number, number + 1) for number, text in enumerate(texts, start=1))
            ),
            source_size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
            fit=st.sampled_from(FITS),
            strength=st.floats(-10, 10),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_saved_subject_comes_back_bit_for_bit(tmp_path_factory, subjects):
    path = tmp_path_factory.getbasetemp() / "round_trip.safetensors"
    subject_file.save(tuple(subjects), path)
    assert_same(subject_file.load(path), subjects)


def test_provenance_is_kept_apart_from_the_subjects(tmp_path):
    subject_file.save((make(),), tmp_path / "dog.safetensors", {"made_by": "somebody", "format": "ignored"})
    assert subject_file.provenance(tmp_path / "dog.safetensors") == {"made_by": "somebody"}


def test_a_loaded_subject_does_not_need_its_file_any_more(tmp_path):
    path = tmp_path / "dog.safetensors"
    original = (make(),)
    subject_file.save(original, path)
    loaded = subject_file.load(path)
    with path.open("r+b") as file:  # as a copy onto it does
        file.write(b"\0" * path.stat().st_size)
    assert_same(loaded, original)


def test_nothing_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="no subject to save"):
        subject_file.save((), tmp_path / "none.safetensors")
    assert not any(tmp_path.iterdir())


@pytest.fixture
def saved(tmp_path):
    """A subject file's tensors and metadata, and a function that writes and reads a changed one."""
    path = tmp_path / "dog.safetensors"
    subject_file.save((make(),), path)
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key).clone() for key in file.keys()}, file.metadata()  # noqa: SIM118

    def load(tensors=tensors, metadata=metadata, **described):
        if described:
            (entry,) = json.loads(metadata["subjects"])
            metadata = metadata | {"subjects": json.dumps([entry | described])}
        save_file(tensors, path, metadata=metadata)
        return subject_file.load(path)

    return tensors, metadata, load


def test_another_kind_of_file_is_no_subject(saved):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"dog\.safetensors is not a subject file .*none"):
        load(tensors, None)
    with pytest.raises(ValueError, match=r"dog\.safetensors is not a subject file .*ssr_encoder"):
        load(tensors, metadata | {"format": "ssr_encoder"})


def test_a_newer_format_asks_for_an_update(saved):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"dog\.safetensors .* version 2; .*Update"):
        load(tensors, metadata | {"format_version": "2"})


@pytest.mark.parametrize("missing", ["tokens", "null_tokens", "attention", "picture"])
def test_a_file_without_one_of_its_tensors_is_damaged(saved, missing):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"dog\.safetensors is damaged"):
        load({key: value for key, value in tensors.items() if key != f"0.{missing}"}, metadata)


@pytest.mark.parametrize("text", ["", "{", "3", "[]", '"dog"', '{"0": 1}', "[[]]", "[{}]", "[" * 100_000])
def test_a_file_whose_description_cannot_be_read_is_damaged(saved, text):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"dog\.safetensors is damaged"):
        load(tensors, metadata | {"subjects": text})


@pytest.mark.parametrize(
    "described",
    [
        {"fit": "squeeze"},
        {"words": [["dog", 1]]},
        {"words": 3},
        {"source_size": [480]},
        {"source_size": ["a", "b"]},
        {"source_size": [float("inf"), 480]},
        {"strength": "strong"},
        {"strength": None},
        {"strength": float("nan")},
        {"source_size": [0, 640]},
        {"words": [["dog", 1, 99]]},
        {"words": [["dog", 2, 2]]},
        {"words": [["dog", -1, 2]]},
        {"words": [["dog", 1, 3], ["red", 2, 4]]},
    ],
    ids=str,
)
def test_a_file_with_an_impossible_entry_is_damaged(saved, described):
    *_, load = saved
    with pytest.raises(ValueError, match=r"dog\.safetensors is damaged"):
        load(**described)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens", torch.zeros(6)),
        ("tokens", torch.zeros(6, 4, dtype=torch.int32)),
        ("null_tokens", torch.zeros(5, 4)),
        ("attention", torch.zeros(17)),
        ("attention", torch.zeros(5, 6)),
        ("attention", torch.zeros(5, 1)),
        ("attention", torch.full((5, 17), float("nan"))),
        ("tokens", torch.full((6, 4), float("inf"))),
        ("picture", torch.zeros(8, 8, dtype=torch.uint8)),
        ("picture", torch.zeros(0, 0, 3, dtype=torch.uint8)),
    ],
    ids=[
        "flat tokens",
        "whole-number tokens",
        "fewer null tokens",
        "flat attention",
        "patches of no square",
        "no patches",
        "attention that is no number",
        "infinite tokens",
        "grey picture",
        "empty picture",
    ],
)
def test_a_file_with_tensors_that_do_not_belong_together_is_damaged(saved, name, value):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"dog\.safetensors"):
        load(tensors | {f"0.{name}": value}, metadata)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "whole.safetensors"
    subject_file.save((make(),), path)
    content = path.read_bytes()
    cut = path.with_name("cut.safetensors")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(
        ValueError, match=r"cut\.safetensors cannot be read: it is damaged or incomplete .*encode the subject again"
    ):
        subject_file.load(cut)


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        subject_file.load(tmp_path / "nowhere.safetensors")


def test_a_file_of_an_earlier_version_opens_but_cannot_be_combined_by_word(saved):
    tensors, metadata, load = saved
    (old,) = load({name: tensor for name, tensor in tensors.items() if name != "0.word_embeds"}, metadata)
    assert old.word_embeds is None
    assert len(branch_inputs((old,), "joint", "official")) == 1
    with pytest.raises(ValueError, match=r'"red dog" comes from a file of an earlier version.*Encode it again'):
        branch_inputs((old, old), "by word", "official")


def test_words_and_their_embeddings_must_fit(saved):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"damaged.*word_embeds \(2, 4\)"):
        load({**tensors, "0.word_embeds": torch.zeros(2, 4)}, metadata)


NONE = [float("nan"), float("inf"), float("-inf"), -1e30, torch.finfo(torch.float32).max]
FLOATS = ["tokens", "null_tokens", "attention", "word_embeds", "marked"]


@pytest.mark.parametrize("value", NONE)
@pytest.mark.parametrize("name", FLOATS)
def test_no_tensor_with_numbers_that_are_none_is_read_or_written(saved, tmp_path, name, value):
    tensors, metadata, load = saved
    one = make(marked=torch.ones(16))
    broken = getattr(one, name).clone()
    broken.view(-1)[-1] = value
    with pytest.raises(ValueError, match=rf"dog\.safetensors is damaged.*{name} with numbers"):
        load(tensors | {"0.marked": one.marked, f"0.{name}": broken}, metadata)
    with pytest.raises(ValueError, match=rf"cannot be saved.*{name} with numbers"):
        subject_file.save((replace(one, **{name: broken}),), tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize("name", FLOATS)
def test_a_tensor_of_whole_numbers_is_no_subjects(saved, name):
    tensors, metadata, load = saved
    values = tensors | {"0.marked": torch.ones(16)}
    with pytest.raises(ValueError, match=r"dog\.safetensors"):
        load(values | {f"0.{name}": values[f"0.{name}"].to(torch.int64)}, metadata)


@pytest.mark.parametrize(
    "changes",
    [
        {"words": (Word("a", 2, 3), Word("b", 1, 2))},
        {"words": (Word("a", 1, 9),)},
        {"query": "x" * 10_001},
        {"encoder": "x" * 300},
        {"source_size": (0, 5)},
        {"source_size": (5, 1 << 17)},
        {"fit": "squeeze"},
        {"null_tokens": torch.zeros(7, 4)},
        {"picture": torch.zeros(8, 8, 3)},
        {"attention": torch.zeros(5, 18)},
        {"word_embeds": torch.zeros(9, 4)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_cannot_be_read_is_not_written(tmp_path, changes):
    with pytest.raises(ValueError, match="cannot be saved, as it could not be read again") as caught:
        subject_file.save((make(**changes),), tmp_path / "new.safetensors")
    assert not any(tmp_path.iterdir())
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("attention", (8000, 17)),
        ("attention", (5, 65 * 65 + 1)),
        ("tokens", (77 * 32 + 1, 4)),
        ("tokens", (6, (1 << 16) + 1)),
        ("picture", (1025, 1025, 3)),
    ],
)
def test_tensors_beyond_a_subjects_are_refused_before_they_are_read(saved, monkeypatch, name, shape):
    tensors, metadata, load = saved
    huge = torch.zeros(shape, dtype=tensors[f"0.{name}"].dtype)
    monkeypatch.setattr(torch.Tensor, "clone", lambda self: pytest.fail("a tensor was read"))
    with pytest.raises(ValueError, match=rf"{name} of subject 1 has shape .*at most"):
        load(tensors | {f"0.{name}": huge}, metadata)


def test_thousands_of_words_and_subjects_are_refused_by_their_number(saved):
    tensors, metadata, load = saved
    (entry,) = json.loads(metadata["subjects"])
    words = [["a", number, number + 1] for number in range(8000)]
    for text in (
        json.dumps([entry] * 2000),
        json.dumps([entry | {"words": words}]),
        json.dumps([entry | {"query": "x" * 99_999}]),
    ):
        with pytest.raises(ValueError, match=r"dog\.safetensors is damaged.*at most") as caught:
            load(tensors, metadata | {"subjects": text})
        assert len(str(caught.value)) < 1000


def test_what_is_missing_is_said_in_words(saved):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"subject 1 has no tensor tokens"):
        load({key: value for key, value in tensors.items() if key != "0.tokens"}, metadata)
    with pytest.raises(ValueError, match=r"description of its subjects is no JSON"):
        load(tensors, {key: value for key, value in metadata.items() if key != "subjects"})


def test_provenance_is_shown_without_control_characters_and_has_an_end(tmp_path):
    many = {f"name {number}": "x" for number in range(100)}
    subject_file.save((make(),), tmp_path / "dog.safetensors", {"made\x1b": "by\x07\nme" + "x" * 10_000} | many)
    found = subject_file.provenance(tmp_path / "dog.safetensors")
    assert len(found) <= 16
    assert all(name.isprintable() and text.isprintable() and len(text) < 300 for name, text in found.items())


def test_of_two_saves_to_a_new_name_one_is_refused(tmp_path):
    path = tmp_path / "dog.safetensors"
    subject_file.save((make(query="first"),), path, new=True)
    with pytest.raises(FileExistsError):
        subject_file.save((make(query="second"),), path, new=True)
    assert [one.query for one in subject_file.load(path)] == ["first"]
    assert [one.name for one in tmp_path.iterdir()] == ["dog.safetensors"]
