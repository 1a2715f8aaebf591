"""The drawn world: same scene, same pixels; looks that the class word does not tell; nothing held out is ever trained on."""

import json
import random

import numpy as np
import pytest

from ssr_core.evaluation.judge import choose_look, choose_pattern, judge
from ssr_core.mini import vocabulary
from ssr_core.mini.backgrounds import BACKGROUNDS
from ssr_core.mini.looks import LOOKS
from ssr_core.mini.scene import (
    CLASSES,
    SIDE,
    Instance,
    Placed,
    Scene,
    draw,
    instances,
    random_cast,
    random_instance,
    random_scene,
)
from ssr_core.pretrain.dataset import Family, write


def scene(seed, count):
    rng = random.Random(seed)
    return random_scene(rng, random_cast(rng, count))


def test_a_scene_is_drawn_the_same_every_time():
    first, again = draw(scene(1, 3)), draw(scene(1, 3))
    assert first.picture.tobytes() == again.picture.tobytes()
    assert np.array_equal(first.masks, again.masks)
    assert first.picture.size == (SIDE, SIDE)
    assert first.picture.tobytes() != draw(scene(2, 3)).picture.tobytes()


def test_there_are_enough_classes_looks_and_backgrounds():
    assert len(CLASSES) >= 12
    assert len(LOOKS) == 280
    assert len(BACKGROUNDS) == 8


def test_the_caption_tells_classes_and_background_but_no_looks():
    placed = tuple(
        Placed(Instance(kind, look), 40, 40, 20, 0) for kind, look in zip(("star", "fish"), (LOOKS[0], LOOKS[60]), strict=True)
    )
    described = Scene("meadow", placed, 0)
    assert described.caption == "a star and a fish on a green meadow"
    assert described.told.startswith(f"a {LOOKS[0].first} and {LOOKS[0].second} {LOOKS[0].pattern} star and a")


def test_masks_mark_the_object_and_nothing_else():
    """Where no mask is, the picture is the background's; under a mask it is not."""
    for seed in range(5):
        shown = scene(seed, 4)
        picture = np.asarray(shown.drawn.picture).astype(int)
        alone = np.asarray(draw(Scene(shown.background, (), shown.seed)).picture).astype(int)
        covered = shown.drawn.masks.max(axis=0)
        assert np.array_equal(picture[covered == 0], alone[covered == 0])
        assert (np.abs(picture - alone)[covered == 255].sum(axis=-1) > 20).mean() > 0.95
        assert all((mask > 127).sum() > 200 for mask in shown.drawn.masks)


def test_an_empty_scene_and_five_objects_are_refused_by_name():
    with pytest.raises(ValueError, match="1 to 4 objects, got 5"):
        random_scene(random.Random(0), [random_instance(random.Random(0))] * 5)


def test_held_out_instances_and_training_instances_share_nothing():
    train, held = set(instances(False)), set(instances(True))
    assert not train & held
    assert len(train) + len(held) == len(CLASSES) * len(LOOKS)
    assert 0.08 < len(held) / len(train | held) < 0.17
    assert {one.kind for one in held} == set(CLASSES)


def test_a_training_folder_holds_no_held_out_instance_and_every_file_it_names(tmp_path):
    count = write(tmp_path, families=6, seed=3, processes=1)
    records = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert len(records) == count
    for record in records:
        assert (tmp_path / record["file_name"]).is_file()
        for subject in record["subjects"]:
            assert (tmp_path / subject["reference"]).is_file()
            assert (tmp_path / subject["mask"]).is_file()
            assert subject["query"] in record["text"]
    families = [Family(3, number) for number in range(6)]
    shown = [instance for family in families for instance in family.cast]
    shown += [thing.instance for family in families for new, _ in family.scenes(6) for thing in new.things]
    assert not any(instance.held_out for instance in shown)


def test_every_subject_of_a_record_is_the_instance_in_its_reference():
    for number in range(8):
        for shown, origins in Family(0, number).scenes(8):
            for thing, (family, place) in zip(shown.things, origins, strict=True):
                assert Family(0, family).cast[place] == thing.instance


def test_the_worlds_words_are_known_and_others_are_refused_by_name():
    for seed in range(20):
        described = scene(seed, 1 + seed % 4)
        vocabulary.check_words(described.caption)
        vocabulary.check_words(described.told)
    with pytest.raises(ValueError, match=r"does not know 'dog'.*star"):
        vocabulary.check_words("a dog on a green meadow")


def test_token_ids_are_clips_own():
    tokens = vocabulary.tokenizer()("a red and blue striped star, a cat on the blue sea").input_ids
    assert tokens == [49406, 320, 736, 537, 1746, 22192, 1565, 267, 320, 2368, 525, 518, 1746, 2102, 49407]
    assert set(tokens) <= set(vocabulary.ids())


def test_the_judge_is_right_about_pictures_that_the_world_drew():
    """Touching objects merge into one region, which is why scenes of one are asked for more than scenes of two."""
    rng = random.Random(5)
    right = {1: [], 2: []}
    for number in range(40):
        count = 1 + number % 2
        shown = random_scene(rng, random_cast(rng, count))
        seen = judge(shown.drawn.picture)
        for thing in shown.things:
            found = seen.of(thing.instance.kind)
            look = thing.instance.look
            candidates = [look, *rng.sample([other for other in LOOKS if other != look], 3)]
            right[count].append(
                seen.background == shown.background
                and found is not None
                and choose_look(found, candidates) == 0
                and found.two_colours == {look.first, look.second}
                and choose_pattern(found, look) == look.pattern
            )
    assert np.mean(right[1]) > 0.94
    assert np.mean(right[2]) > 0.8


def test_the_judge_sees_no_object_on_an_empty_background():
    for background in BACKGROUNDS:
        seen = judge(draw(Scene(background, (), 1)).picture)
        assert seen.background == background
        assert seen.objects == ()
