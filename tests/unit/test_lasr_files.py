"""Learned subjects as files: bit for bit, small, and anything else refused by name."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.lasr_subjects import WIDTH, make

from ssr_core.layout import UNetLayout
from ssr_core.methods.lasr import formats, subject_file
from ssr_core.methods.lasr.from_words import embedder_from_words
from ssr_core.methods.lasr.subject import LasrSubject, weights_of
from ssr_core.methods.lasr.subject_file import OptimizerState
from ssr_core.mini import files as mini


def assert_same(found, expected):
    for field in fields(LasrSubject):
        left, right = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "weights":
            assert left.keys() == right.keys()
            assert all(torch.equal(left[name], right[name]) for name in right)
        elif isinstance(right, torch.Tensor):
            assert torch.equal(left, right)
        else:
            assert left == right


@pytest.mark.parametrize("changes", [{}, {"vectors": None, "alpha": 0.3, "strength": -0.5}, {"placeholder": "猫\n\u202e"}])
def test_a_saved_subject_comes_back_bit_for_bit(tmp_path, changes):
    subject = make(**changes)
    subject_file.save(subject, tmp_path / "cat.safetensors", {"made_by": "somebody", "format": "ignored"})
    (found,) = formats.load(tmp_path / "cat.safetensors")
    assert_same(found, subject)
    assert found.fingerprint == subject.fingerprint
    assert subject_file.provenance(tmp_path / "cat.safetensors") == {"made_by": "somebody"}


def test_a_subject_of_mini_is_a_small_file(tmp_path):
    layout = UNetLayout(mini.CHANNELS, (1, 1, 0), mini.LAYERS_PER_BLOCK, mini.HEADS)
    vectors = torch.randn(2, mini.WIDTH)
    made = embedder_from_words(vectors, [1, 2], torch.Generator().manual_seed(0), layout)
    subject = LasrSubject(made.shapes, weights_of(made), "z", 345, vectors=vectors)
    subject_file.save(subject, tmp_path / "cat.safetensors")
    assert (tmp_path / "cat.safetensors").stat().st_size <= 150_000


def test_a_file_is_not_written_over_another(tmp_path):
    subject_file.save(make(), tmp_path / "cat.safetensors", new=True)
    with pytest.raises(FileExistsError):
        subject_file.save(make(1), tmp_path / "cat.safetensors", new=True)
    assert_same(subject_file.load(tmp_path / "cat.safetensors"), make())


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    broken = dict(make().weights)
    broken["static.bias"] = broken["static.bias"] * float("nan")
    with pytest.raises(ValueError, match=r"cannot be saved.*static\.bias with numbers that are not finite"):
        subject_file.save(make(weights=broken), tmp_path / "cat.safetensors")
    assert not any(tmp_path.iterdir())


@pytest.fixture
def saved(tmp_path):
    """A file's tensors and metadata, and a function that writes and reads a changed one."""
    path = tmp_path / "cat.safetensors"
    subject_file.save(make(), path)
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key).clone() for key in file.keys()}, file.metadata()  # noqa: SIM118

    def load(tensors=tensors, metadata=metadata, **described):
        if described:
            metadata = metadata | {"subject": json.dumps(json.loads(metadata["subject"]) | described)}
        save_file(tensors, path, metadata=metadata)
        return formats.load(path)

    return tensors, metadata, load


def test_another_kind_of_file_is_no_subject(saved):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"cat\.safetensors is not a learned subject .*none"):
        load(tensors, None)
    with pytest.raises(ValueError, match=r"cat\.safetensors is not a learned subject .*ssr_subject"):
        load(tensors, metadata | {"format": "ssr_subject"})


def test_a_newer_format_asks_for_an_update(saved):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"cat\.safetensors .* version 2; .*Update"):
        load(tensors, metadata | {"format_version": "2"})


@pytest.mark.parametrize("name", ["static.pre_vecs", "lasr.layer_maps.3.weight", "lasr.bias_scales"])
def test_a_file_without_one_of_its_tensors_is_damaged(saved, name):
    tensors, _, load = saved
    with pytest.raises(ValueError, match=rf"cat\.safetensors is damaged .*missing {name}"):
        load({key: value for key, value in tensors.items() if key != name})


def test_a_tensor_that_no_subject_has_is_refused(saved):
    tensors, _, load = saved
    with pytest.raises(ValueError, match=r"not expected lasr\.hook"):
        load(tensors | {"lasr.hook": torch.zeros(1)})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("static.bias", torch.zeros(4, WIDTH + 1), r"static\.bias has shape \(4, 25\), expected \(4, 24\)"),
        ("init_vectors", torch.zeros(3, WIDTH), r"init_vectors has shape \(3, 24\), expected \(2, 24\)"),
        ("static.bias", torch.zeros(4, WIDTH, dtype=torch.int64), r"static\.bias of type torch\.int64"),
        ("lasr.bias", torch.full((4, WIDTH), torch.inf), r"lasr\.bias with numbers that are not finite"),
        ("lasr.bias", torch.full((4, WIDTH), 1e9), r"lasr\.bias with numbers from"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(saved, name, value, message):
    tensors, _, load = saved
    with pytest.raises(ValueError, match=rf"cat\.safetensors is damaged .*{message}"):
        load(tensors | {name: value})


@pytest.mark.parametrize("text", ["", "{", "3", "[]", '"cat"', "[[]]", "{}", "[" * 100_000])
def test_a_description_that_cannot_be_read_is_damage(saved, text):
    tensors, metadata, load = saved
    with pytest.raises(ValueError, match=r"cat\.safetensors is damaged"):
        load(tensors, metadata | {"subject": text})


LAYOUT = {"channels": [16, 32], "depths": [1, 0], "resnets": 1, "heads": 4, "mid_depth": 1}


@pytest.mark.parametrize(
    "described",
    [
        {"alpha": 2},
        {"alpha": float("nan")},
        {"strength": 1e9},
        {"rank": 6},
        {"rank": 10**9},
        {"init_words": 0},
        {"text_width": 10**12},
        {"token": -1},
        {"token": 345.5},
        {"placeholder": ""},
        {"placeholder": "z" * 1000},
        {"base": {"name": "x" * 10_000, "text_encoder": ""}},
        {"learning": {"words": [["cat", -1]], "class_word": "", "step": 0, "delta": "repaired"}},
        {"learning": {"words": [], "class_word": "", "step": 0, "delta": "mine"}},
        {"layout": LAYOUT | {"channels": [16, 64]}},
        {"layout": LAYOUT | {"channels": [16] * 1000, "depths": [1] * 1000}},
        {"layout": LAYOUT | {"resnets": 64}},
        {"layout": LAYOUT | {"resnets": 10**9}},
        {"layout": LAYOUT | {"depths": [0, 0], "mid_depth": 0}},
        {"layout": LAYOUT | {"depths": [1]}},
    ],
    ids=str,
)
def test_a_description_beyond_a_subject_is_refused(saved, described):
    _, _, load = saved
    with pytest.raises(ValueError, match=r"cat\.safetensors is damaged"):
        load(**described)


def test_half_precision_is_read_as_full(saved):
    tensors, _, load = saved
    (found,) = load({name: value.half() for name, value in tensors.items()})
    assert all(value.dtype == torch.float32 for value in found.weights.values())


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*cat\.safetensors"):
        formats.load(tmp_path / "cat.safetensors")


def state_of(subject):
    noise = {name: torch.rand_like(value) for name, value in subject.weights.items()}
    return OptimizerState({name: value - 0.5 for name, value in noise.items()}, noise, subject.learning.step)


def test_the_optimizer_goes_on_from_its_own_file(tmp_path):
    subject, path = make(), Path(tmp_path / "cat.optimizer.safetensors")
    state = state_of(subject)
    subject_file.save_state(state, subject, path)
    found = subject_file.load_state(path, subject)
    assert found.step == 400
    for kind in ("means", "squares"):
        left, right = getattr(found, kind), getattr(state, kind)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in right)


def test_the_state_of_another_subject_or_step_is_refused(tmp_path):
    subject, path = make(), tmp_path / "cat.optimizer.safetensors"
    subject_file.save_state(state_of(subject), subject, path)
    later = replace(subject, learning=replace(subject.learning, step=401))
    for other in (make(1), later):
        with pytest.raises(ValueError, match=r"belongs to another subject .*or to another step"):
            subject_file.load_state(path, other)
    with pytest.raises(ValueError, match="is not a learned subject"):
        formats.load(path)
    subject_file.save(subject, path)
    with pytest.raises(ValueError, match="is not the state of an optimizer"):
        subject_file.load_state(path, subject)


def test_a_damaged_state_is_refused(tmp_path):
    subject, path = make(), tmp_path / "cat.optimizer.safetensors"
    state = state_of(subject)
    state.squares["static.bias"][0, 0] = -1
    subject_file.save_state(state, subject, path)
    with pytest.raises(ValueError, match=r"square\.static\.bias holds numbers from -1"):
        subject_file.load_state(path, subject)
    del state.means["static.bias"]
    subject_file.save_state(state, subject, path)
    with pytest.raises(ValueError, match="does not fit its subject"):
        subject_file.load_state(path, subject)
