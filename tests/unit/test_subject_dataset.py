"""MIP-Adapter's data set, and records of several subjects: which objects a sample has, what is cut out for them, and what is refused."""

import io
import itertools
import json
import logging
import os
import pickle
import random
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from ssr_core.training import loop, records, scenes, subject_dataset
from ssr_core.training.config import TrainingConfig
from ssr_core.training.examples import UNFIT, UNREADABLE, Examples, StreamedExamples, collate
from ssr_core.training.pickled_list import read_texts
from ssr_core.training.records import OutsideFolder, Record, SubjectSource, Unfit

DOG, CAT = (10, 20, 90, 80), (110, 10, 170, 90)
RED, BLUE, GREY = (200, 0, 0), (0, 0, 200), (90, 90, 90)


def entry(label, box, logit=0.9):
    return {"value": 1, "label": label, "logit": logit, "box": list(map(float, box))}


def paint(array, box, value):
    left, top, right, bottom = box
    array[top:bottom, left:right] = value


def add(folder, name, masks, text="a dog and a cat", size=(180, 100), holes=()):
    """A sample: every entry's box filled with its colour and its label but for a rim of background."""
    for part in subject_dataset.PARTS:
        (folder / part).mkdir(exist_ok=True)
    pixels, labels = np.full((size[1], size[0], 3), GREY, np.uint8), np.zeros((size[1], size[0]), np.uint8)
    for number, (box, colour) in enumerate(zip([one["box"] for one in masks], (RED, BLUE, RED, BLUE), strict=False), 1):
        inner = [int(edge) + shift for edge, shift in zip(box, (4, 4, -4, -4), strict=True)]
        paint(pixels, inner, colour)
        paint(labels, inner, number)
    for hole in holes:
        paint(labels, hole, 0)
    Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    Image.fromarray(labels).save(folder / "masks" / f"{name}.png")
    described = {"text": text, "original_size": [1800, 1000], "final_masks": [{"value": 0, "label": "background"}, *masks]}
    (folder / "jsons" / f"{name}.json").write_text(json.dumps(described))


@pytest.fixture
def folder(tmp_path):
    add(tmp_path, "sa_1", [entry("cat", CAT, 0.5), entry("dog", DOG, 0.8)])
    add(tmp_path, "sa_2", [entry("dog", (5, 5, 60, 95)), entry("cat", (62, 5, 98, 95), 0.4)])
    return tmp_path


class SceneInputs:
    """What a method chooses for a sample of this kind: nothing."""

    def __init__(self, **changes):
        self.config = TrainingConfig(**{"base": "folder", "data": "d", "out": "o", **changes})

    def choose(self, record, rng):
        return None


def scene(folder, name="sa_1", seed=0, size=64, **changes):
    data = subject_dataset.read(folder)
    (record,) = (record for record in data.records if record.name == name)
    return data.scene(record, random.Random(seed), size, **changes)


def colours(picture):
    return {tuple(map(int, colour)) for colour in np.asarray(picture).reshape(-1, 3)}


def test_a_sample_has_its_target_its_caption_and_each_object_alone_on_white(folder):
    found = scene(folder, "sa_2")
    assert [thing.name for thing in found.objects] == ["dog", "cat"]  # the better logit first
    assert (found.caption, found.original_size) == ("a dog and a cat", (1000, 1800))
    assert found.picture.size == (64, 64)
    for thing, colour in zip(found.objects, (RED, BLUE), strict=True):
        assert thing.reference.width == thing.reference.height
        shown = np.asarray(thing.reference).astype(int)
        of_object = (np.abs(shown - colour).sum(-1) < 60).mean()
        assert (shown == 255).all(-1).mean() + of_object > 0.9
        assert of_object > 0.2


def test_the_square_keeps_every_box_where_one_does_and_else_lies_in_the_middle(folder):
    corners = {scene(folder, "sa_2", seed).corner for seed in range(60)}
    assert {top for top, _ in corners} == {0}
    lefts = {left for _, left in corners}
    assert min(lefts) == 0
    assert max(lefts) == 5  # the dog's box begins there
    add(folder, "sa_1", [entry("cat", (135, 10, 175, 90), 0.5), entry("dog", DOG, 0.8)])
    with pytest.raises(Unfit, match="sa_1 has 1 of the 2"):  # of the cat, five columns of forty are in the middle
        scene(folder, "sa_1")
    add(folder, "sa_3", [entry("cat", CAT, 0.5), entry("dog", DOG, 0.8)])
    assert scene(folder, "sa_3").corner == (0, 40)


def test_a_scene_follows_from_its_generator_alone(folder):
    first, again = (scene(folder, "sa_2", seed) for seed in (3, 3))
    assert first.picture.tobytes() == again.picture.tobytes()
    assert [one.reference.tobytes() for one in first.objects] == [one.reference.tobytes() for one in again.objects]


def test_references_are_mirrored_by_chance_and_targets_never(folder):
    plain, turned = (scene(folder, "sa_2", flip=flip) for flip in (0.0, 1.0))
    assert plain.picture.tobytes() == turned.picture.tobytes()
    for one, other in zip(plain.objects, turned.objects, strict=True):
        assert one.reference.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes() == other.reference.tobytes()


def test_holes_in_a_label_are_filled(folder):
    add(folder, "sa_4", [entry("dog", (5, 5, 60, 95)), entry("cat", (62, 5, 98, 95), 0.4)], holes=[(30, 40, 36, 46)])
    whole, holed = (scene(folder, name, flip=0) for name in ("sa_2", "sa_4"))
    assert whole.objects[0].reference.tobytes() == holed.objects[0].reference.tobytes()


@pytest.mark.parametrize(
    "other",
    [
        entry("dog", CAT),  # the same name
        entry("cat", CAT, 0.3),
        entry("grey cat", CAT),
        entry("zebra", CAT),
        entry("cat", (110, 10, 134, 90)),  # too narrow
        entry("cat", (110, 10, 140, 40)),  # too small
        entry("cat", (15, 25, 85, 75)),  # inside the dog
    ],
)
def test_an_object_that_does_not_pass_makes_its_sample_of_no_use_by_name(folder, other):
    add(folder, "sa_1", [entry("dog", DOG), other], text="a dog and a grey cat")
    with pytest.raises(Unfit, match="sa_1 has"):
        scene(folder, "sa_1")


def test_a_box_with_nothing_or_too_much_in_it_is_no_object(folder):
    described = subject_dataset.Description("a dog", (1, 1), (subject_dataset.Labelled("dog", 0.9, (10.0, 10.0, 60.0, 90.0)),))
    labels = np.zeros((100, 100), dtype=np.int32)
    assert not subject_dataset.usable(described, labels)
    labels[12:88, 12:58] = 3
    assert len(subject_dataset.usable(described, labels)) == 1
    crowded = labels.copy()
    crowded[10, 10:14] = (4, 5, 6, 7)
    assert not subject_dataset.usable(described, crowded)
    beyond = labels.copy()
    beyond[:, 58:] = 3
    assert not subject_dataset.usable(described, beyond)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_pickled_list_is_read_without_unpickling(folder, monkeypatch, protocol):
    names = ["sa_2", "sa_1", "sa_2", *(f"sa_{number}" for number in range(3000))]
    (folder / "selected.pkl").write_bytes(pickle.dumps(names, protocol))
    monkeypatch.setattr(pickle, "load", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    assert [record.name for record in subject_dataset.read(folder).records] == names


class Bomb:
    def __reduce__(self):
        return os.system, ("touch proof",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(["sa_1", Bomb()]),
        pickle.dumps([["sa_1"]]),
        pickle.dumps({"sa_1": 1}),
        pickle.dumps(["sa_1", 2]),
        pickle.dumps("sa_1"),
        pickle.dumps(np.array(["sa_1"])),
        pickle.dumps(["sa_1"])[:-3],
        b"\x80\x04]r" + struct.pack("<I", 2**31) + b"j" + struct.pack("<I", 7) + b"a.",
        b"(lp0\nVsa_1\na",
        b"a.",
        b"e.",
        b"0.",
        b"",
        b"\x00" * 20,
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_runs_nothing(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"list\.pkl is no pickled list of texts"):
        read_texts(tmp_path / "list.pkl")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("name", ["../sa_1", "/etc/passwd", "a/b", "..", "a\nb", "", "x" * 200, ".hidden"])
def test_an_id_that_is_a_path_is_refused(folder, name):
    (folder / "selected.pkl").write_bytes(pickle.dumps(["sa_1", name]))
    with pytest.raises(ValueError, match=r"selected\.pkl: .* is no id"):
        subject_dataset.read(folder)


def test_ids_come_from_a_named_list_or_from_the_files(folder, tmp_path_factory):
    assert [record.name for record in subject_dataset.read(folder).records] == ["sa_1", "sa_2"]
    listed = tmp_path_factory.mktemp("configs") / "ids.txt"
    listed.write_text("sa_2\n\n")
    assert [record.name for record in subject_dataset.read(folder, listed).records] == ["sa_2"]
    for name in ("a.pkl", "b.pkl"):
        (folder / name).write_bytes(pickle.dumps(["sa_1"]))
    with pytest.raises(ValueError, match="has 2 lists of ids"):
        subject_dataset.read(folder)
    with pytest.raises(ValueError, match="lacks a folder; expected images, masks, jsons"):
        subject_dataset.read(listed.parent)


def test_a_link_out_of_the_folder_ends_a_run_and_is_not_skipped(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    (folder / "images" / "sa_2.png").rename(elsewhere)
    (folder / "images" / "sa_2.png").symlink_to(elsewhere)
    with pytest.raises(OutsideFolder):
        scene(folder, "sa_2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": 3}, "text is no text"),
        ({"original_size": [0, 5]}, "original_size is 0"),
        ({"original_size": [5]}, "unpack"),
        ({"final_masks": {}}, "final_masks no list"),
        ({"final_masks": [{"box": [0, 0, 1], "label": "a", "logit": 1}]}, "unpack"),
        ({"final_masks": [{"box": [0, 0, 1, float("inf")], "label": "a", "logit": 1}]}, "an edge of a box is inf"),
        ({"final_masks": [{"box": [0, 0, 1, 1], "label": "", "logit": 1}]}, "label"),
        ({"final_masks": [{"box": [0, 0, 1, 1], "label": "a"}]}, "KeyError"),
        ({"final_masks": [7]}, "TypeError"),
    ],
)
def test_a_faulty_description_is_named(folder, change, message):
    path = folder / "jsons" / "sa_1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=rf"sa_1\.json is not as in subject_dataset_10k.*{message}"):
        scene(folder, "sa_1")


def test_labels_of_another_size_are_refused(folder):
    Image.new("L", (10, 10)).save(folder / "masks" / "sa_1.png")
    with pytest.raises(ValueError, match=r"sa_1\.png is 10 x 10 pixels, its picture 180 x 100"):
        scene(folder, "sa_1")


def test_samples_of_no_use_are_replaced_without_a_limit_and_broken_ones_up_to_it(folder, caplog):
    for number in range(3, 9):
        add(folder, f"sa_{number}", [entry("dog", DOG)])
    (folder / "jsons" / "sa_1.json").write_text("{")
    data = subject_dataset.read(folder)
    inputs = SceneInputs(most_unreadable=1)

    def read(record, choice):
        found = data.scene(record, random.Random(choice.seed), 32)
        return {"names": [thing.name for thing in found.objects], "at": found.corner}

    drawn = [Examples(data, inputs, read)[position] for position in range(16)]
    assert all(one["names"] == ["dog", "cat"] for one in drawn)
    again = Examples(data, inputs, read)
    assert [again[position]["at"] for position in (9, 3)] == [drawn[position]["at"] for position in (9, 3)]
    batch = collate(drawn)
    assert len(set(batch[UNFIT])) == 6
    assert {reason.split(":")[0].rsplit("/")[-1] for reason in batch[UNREADABLE]} == {"sa_1.json is no JSON"}
    with caplog.at_level(logging.WARNING):
        (passed,) = loop._readable(inputs.config, iter([dict(batch)]))
    assert passed.keys() == {"names", "at"}
    assert sum("Left out" in line for line in caplog.messages) == 3  # the first, the second, the fourth


def test_samples_of_no_use_in_shards_are_replaced_alike_after_every_resume(tmp_path):
    content = io.BytesIO()
    Image.new("RGB", (20, 20), RED).save(content, "PNG")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for number in range(9):
            names = ("dog", "cat") if number % 3 == 1 else ("dog",)
            described = {"text": f"sample {number}", "subjects": [{"query": name, "reference": "png"} for name in names]}
            for extension, part in (("png", content.getvalue()), ("json", json.dumps(described).encode())):
                member = tarfile.TarInfo(f"{number}.{extension}")
                member.size = len(part)
                tar.addfile(member, io.BytesIO(part))

    class Inputs(SceneInputs):
        def read(self, opener, record, choice):
            return {"caption": scenes.read_scene(opener, record, random.Random(0), 16, 2).caption, "seed": choice.seed}

    def drawn(start, count):
        inputs = Inputs(data=str(tmp_path / "x.tar"), size=16, batch_size=1, most_unreadable=0)
        return [
            (one["caption"], one["seed"], one[UNFIT]) for one in itertools.islice(StreamedExamples(inputs, 0, 1, start), count)
        ]

    whole = drawn(0, 17)
    assert {caption for caption, _, _ in whole} == {"sample 1", "sample 4", "sample 7"}
    assert sum(len(unfit) for _, _, unfit in whole) == 11  # before every usable one two, but for the first
    assert [one[:2] for one in drawn(5, 4)] == [one[:2] for one in whole[5:9]]


def test_a_data_set_of_no_use_ends_by_name(tmp_path):
    for number in range(3):
        add(tmp_path, f"sa_{number}", [entry("dog", DOG)])
    data = subject_dataset.read(tmp_path)
    examples = Examples(data, SceneInputs(), lambda record, choice: data.scene(record, random.Random(0), 32))
    with pytest.raises(ValueError, match=r"3 samples in a row are of no use, the last: sa_\d has 1 of the 2"):
        examples[0]


def test_records_of_several_subjects_are_scenes_too(tmp_path):
    target, other = np.full((40, 60, 3), GREY, np.uint8), np.full((30, 30, 3), GREY, np.uint8)
    paint(other, (5, 5, 25, 15), RED)
    paint(target, (30, 10, 50, 30), BLUE)
    mask_other, mask_target = np.zeros((30, 30), np.uint8), np.zeros((40, 60), np.uint8)
    paint(mask_other, (5, 5, 25, 15), 255)
    paint(mask_target, (30, 10, 50, 30), 255)
    for name, array in (("t", target), ("o", other), ("mo", mask_other), ("mt", mask_target)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    subjects = [{"query": "jacket", "reference": "o.png", "mask": "mo.png"}, {"query": ["cat"], "mask": "mt.png"}]
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "t.png", "text": "a cat", "subjects": subjects}))
    source = records.read(str(tmp_path))
    found = scenes.read_scene(source, source.records[0], random.Random(0), 20, 2)
    by_name = {thing.name: thing.reference for thing in found.objects}
    assert colours(by_name["jacket"]) == {RED, (255, 255, 255)}
    assert colours(by_name["cat"]) == {BLUE}
    assert (found.original_size, found.corner, found.picture.size) == ((40, 60), (0, 10), (20, 20))
    with pytest.raises(Unfit, match=r"t\.png has 2 of the 3 subjects"):
        scenes.read_scene(source, source.records[0], random.Random(0), 20, 3)


def test_a_subject_that_nothing_tells_from_its_target_is_refused():
    record = Record("t.png", ("a cat",), (SubjectSource(("cat",)), SubjectSource(("dog",))))
    with pytest.raises(ValueError, match=r"t\.png: the subject '\w+' has neither a reference nor a mask"):
        scenes.read_scene(None, record, random.Random(0), 20, 2)
