"""What a program hands to the diffusers host: choices that do not exist, numbers and texts that are none, other things than subjects."""

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from support.hostile import inputs, png, tar_of

from ssr_core import tensor_files, text_files
from ssr_core.evaluation import datasets
from ssr_core.hosts.diffusers import generate, ssr
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.ssr import formats, subject_file
from ssr_core.mini import files
from ssr_core.schedule import Manner
from ssr_core.training.examples import StreamedExamples


@pytest.fixture(scope="module")
def base():
    return load_base("mini")


@pytest.fixture(scope="module")
def encoder():
    return formats.load([files.find(files.FOLDER, files.ENCODER)], dtype=torch.float32)


def encode(base, encoder, query="star", **options):
    return ssr.encode(base, encoder, Image.new("RGB", (128, 96), (200, 30, 30)), query, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "crop"}, 'fit is "crop"; expected one of: center crop, pad, stretch'),
        ({"fit": None}, "fit is"),
        ({"query": None}, "expected a text"),
        ({"query": ["star"]}, "expected a text"),
        ({"null_query": 5}, "expected a text"),
        ({"query": "\ud800"}, "half a character"),
        ({"points": 5}, "points is 5; expected pairs"),
        ({"points": "12"}, "points is '12'; expected pairs"),
        ({"points": ((1.0, math.nan),)}, "expected pairs"),
        ({"points": ((1.0, 2.0, 3.0),)}, "expected pairs"),
        ({"strength": math.nan}, "strength"),
    ],
)
def test_a_selection_that_is_none_is_refused(base, encoder, options, message):
    with pytest.raises(ValueError, match=message):
        encode(base, encoder, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combine": "by_word"}, 'combine is "by_word"; expected one of: joint, separate, by word'),
        ({"combine": None}, "combine is"),
        ({"scaling": "values"}, 'scaling is "values"; expected one of: official, value only'),
        ({"subjects": "dog"}, "expected"),
        ({"subjects": [None]}, "expected the set"),
        ({"subjects": [(None,)]}, "A subject is a NoneType"),
        ({"steps": 0}, "steps is 0; expected a whole number from 1"),
        ({"guidance": math.nan}, "guidance is nan"),
        ({"guidance": -1.0}, "guidance is -1.0"),
        ({"prompts": ["\ud800"]}, "A prompt holds half a character"),
        ({"prompts": [None]}, "A prompt is a NoneType"),
        ({"manner": Manner(1.0, layers=(1.0, 0.5))}, "has 2 numbers for a UNet of"),
    ],
)
def test_what_a_picture_cannot_be_drawn_with_is_refused(base, encoder, options, message):
    given = {"subjects": encode(base, encoder), "prompts": ["a star"], "steps": 1, **options}
    noise = generate.noise(base, [0], 128, 128)
    with pytest.raises(ValueError, match=message):
        ssr.sample(generate.pipeline(base), encoder, given.pop("subjects"), given.pop("prompts"), noise, **given)


def test_a_samples_name_moves_no_cursor(tmp_path):
    tar_of(tmp_path / "x.tar", [("\x1b[2J.png", png()), ("\x1b[2J.txt", b"")])
    with pytest.raises(ValueError, match="no text") as caught:
        next(iter(StreamedExamples(inputs(data=str(tmp_path / "x.tar")), 0, 1, 0)))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "loop"], ids=["long", "null", "loop"])
def test_a_name_that_no_file_has_is_one_that_is_not_there(tmp_path, name):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for read in (tensor_files.read, text_files.read_text, subject_file.load, lambda path: formats.read([path])):
        with pytest.raises(FileNotFoundError, match="There is no file") as caught:
            read(tmp_path / name)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500
    fields = {"class_prompt": "cat", "instance_data_dir": name, "prompt_filename": "p.txt"}
    (tmp_path / "dataset.json").write_text(json.dumps([fields]))
    with pytest.raises((FileNotFoundError, ValueError), match=r"has no|not as its authors"):
        datasets.customconcept101(tmp_path)


def test_a_subject_of_other_things_than_tensors_is_not_saved(base, encoder, tmp_path):
    (subject,) = encode(base, encoder)
    with pytest.raises(ValueError, match=r"0\.tokens is a NoneType, no tensor"):
        subject_file.save((replace(subject, tokens=None),), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
