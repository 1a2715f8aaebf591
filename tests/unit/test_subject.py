"""Subjects: kept on disk, looked into, combined, refused where they do not belong."""

import json
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from ssr_core import subject
from ssr_core.subject import Subject, Word, branch_inputs, words_of
from ssr_core.vision import FITS

WORDS = (Word("red", 1, 2), Word("dog", 2, 4))


def make(seed=0, tokens=6, dtype=torch.float32, words=WORDS, **changes):
    generator = torch.Generator().manual_seed(seed)
    made = Subject(
        tokens=torch.randn(tokens, 4, generator=generator).to(dtype),
        null_tokens=torch.randn(tokens, 4, generator=generator).to(dtype),
        attention=torch.rand(5, 17, generator=generator).softmax(-1),
        picture=torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8),
        query="red dog",
        words=words,
        encoder="0123456789abcdef0123456789abcdef",
        source_size=(480, 640),
        word_embeds=torch.randn(sum(word.stop - word.first for word in words), 4, generator=generator),
    )
    return replace(made, **changes)


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
            words=st.lists(st.builds(Word, st.text(min_size=1, max_size=5), st.integers(1, 3), st.integers(4, 5))).map(tuple),
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
    subject.save(tuple(subjects), path)
    assert_same(subject.load(path), subjects)


def test_a_loaded_subject_does_not_need_its_file_any_more(tmp_path):
    path = tmp_path / "dog.safetensors"
    original = (make(),)
    subject.save(original, path)
    loaded = subject.load(path)
    with path.open("r+b") as file:  # as a copy onto it does
        file.write(b"\0" * path.stat().st_size)
    assert_same(loaded, original)


def test_nothing_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="no subject to save"):
        subject.save((), tmp_path / "none.safetensors")
    assert not any(tmp_path.iterdir())


@pytest.fixture
def saved(tmp_path):
    """A subject file's tensors and metadata, and a function that writes and reads a changed one."""
    path = tmp_path / "dog.safetensors"
    subject.save((make(),), path)
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key).clone() for key in file.keys()}, file.metadata()  # noqa: SIM118

    def load(tensors=tensors, metadata=metadata, **described):
        if described:
            (entry,) = json.loads(metadata["subjects"])
            metadata = metadata | {"subjects": json.dumps([entry | described])}
        save_file(tensors, path, metadata=metadata)
        return subject.load(path)

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


@pytest.mark.parametrize("text", ["", "{", "3", "[]", '"dog"', '{"0": 1}', "[[]]", "[{}]"])
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
        {"strength": "strong"},
        {"strength": None},
        {"strength": float("nan")},
        {"source_size": [0, 640]},
        {"words": [["dog", 1, 99]]},
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
        ("picture", torch.zeros(8, 8, dtype=torch.uint8)),
    ],
    ids=["flat tokens", "whole-number tokens", "fewer null tokens", "flat attention", "grey picture"],
)
def test_a_file_with_tensors_that_do_not_belong_together_is_damaged(saved, name, value):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"dog\.safetensors"):
        load(tensors | {f"0.{name}": value}, metadata)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "whole.safetensors"
    subject.save((make(),), path)
    content = path.read_bytes()
    cut = path.with_name("cut.safetensors")
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=r"cut\.safetensors is damaged"):
        subject.load(cut)


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        subject.load(tmp_path / "nowhere.safetensors")


def test_words_are_byte_pairs_joined_up_to_their_end():
    pieces = ["<|startoftext|>", "a</w>", "dal", "mat", "ian</w>", ",</w>", "sitting</w>", *["<|endoftext|>"] * 4]
    assert words_of(pieces) == (Word("a", 1, 2), Word("dalmatian", 2, 5), Word("sitting", 6, 7))


@pytest.mark.parametrize(
    "pieces", [[], ["<|startoftext|>"], ["<|startoftext|>", "<|endoftext|>"], ["<|startoftext|>", "!</w>"]]
)
def test_an_empty_query_has_no_words(pieces):
    assert words_of(pieces) == ()


def test_a_word_cut_off_by_the_token_limit_is_no_word():
    assert words_of(["<|startoftext|>", "a</w>", "dal", "mat"]) == (Word("a", 1, 2),)


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


def test_joint_subjects_share_one_branch_in_their_order():
    first, second = make(1, tokens=3), make(2, tokens=5)
    (branch,) = branch_inputs((first, second), "joint", "value only")
    assert torch.equal(branch.tokens[1], torch.cat([first.tokens, second.tokens]))
    assert torch.equal(branch.tokens[0], torch.cat([first.null_tokens, second.null_tokens]))


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
    assert torch.equal(branches[0].word_embeds, named.word_embeds)
    assert branches[1].word_embeds.shape == (0, 4)


def test_a_file_of_an_earlier_version_opens_but_cannot_be_combined_by_word(saved):
    tensors, metadata, load = saved
    (old,) = load({name: tensor for name, tensor in tensors.items() if name != "0.word_embeds"}, metadata)
    assert old.word_embeds is None
    assert len(branch_inputs((old,), "joint", "official")) == 1
    with pytest.raises(ValueError, match=r'"red dog" comes from a file of an earlier version.*Encode it again'):
        branch_inputs((old,), "by word", "official")


def test_words_and_their_embeddings_must_fit(saved):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"damaged.*word_embeds \(2, 4\)"):
        load({**tensors, "0.word_embeds": torch.zeros(2, 4)}, metadata)


@pytest.mark.parametrize("combine", subject.COMBINES)
def test_official_strength_is_on_keys_and_values_of_the_conditional_side_only(combine):
    branches = branch_inputs((make(1, strength=0.5), make(2, strength=2.0)), combine, "official")
    for scale in (torch.cat([getattr(b, name) for b in branches], 1) for name in ("key_scale", "value_scale")):
        assert scale[0].unique().tolist() == [1.0]
        assert scale[1].flatten().tolist() == [0.5] * 6 + [2.0] * 6


@pytest.mark.parametrize("combine", subject.COMBINES)
def test_value_only_strength_is_on_the_values_of_both_sides(combine):
    branches = branch_inputs((make(1, strength=0.5), make(2, strength=2.0)), combine, "value only")
    assert torch.cat([branch.key_scale for branch in branches], 1).unique().tolist() == [1.0]
    values = torch.cat([branch.value_scale for branch in branches], 1)
    assert values[0].flatten().tolist() == values[1].flatten().tolist() == [0.5] * 6 + [2.0] * 6


@pytest.mark.parametrize("combine", subject.COMBINES)
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
    with pytest.raises(ValueError, match=r'"blue cat" was made by another encoder \(f{12}\).*0123456789ab'):
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
