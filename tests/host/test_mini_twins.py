"""What comes with SSR Mini besides the SSR-Encoder: its MIP-Adapter, ELITE and a learned subject, through templates as they are shipped.

Judged from pixels: each new object wears the look of its own reference.
"""

import json
import shutil

import pytest
from PIL import Image
from support import comfy_host
from support.server import running
from support.templates import path_of
from support.workflow import to_prompt

from ssr_core.evaluation.judge import choose_look, judge
from ssr_core.mini import files
from ssr_core.mini.scene import Look, example_scenes

LEARNED = "lasr_star.safetensors"
MUSHROOM = Look(pattern="striped", first="red", second="orange")
LARGEST = {files.MIP_ADAPTER: 0.6e6, **dict.fromkeys(files.ELITE, 1.5e6), LEARNED: 1.5e5, "lasr_mushroom.safetensors": 1.5e5}
"""Bytes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("twins"), "--fp32-text-enc") as server:
        yield server


def cast(scene, objects):
    """Instances that Mini Scene draws."""
    (first,) = example_scenes(scene, objects)
    return [thing.instance for thing in first.things]


def drawn(server, name):
    """What a template draws, judged."""
    (seen,) = all_drawn(server, name)
    return seen


def all_drawn(server, name):
    graph = to_prompt(json.loads(path_of(name).read_text(encoding="utf-8")), server.get("/object_info"))
    images = [image for output in server.run(graph)["outputs"].values() for image in output.get("images", [])]
    return [judge(Image.open(server.base / "output" / image["filename"])) for image in images if image["type"] == "output"]


def wears(seen, kind, instances):
    """Which of the instances' looks the object of that class has, by the instance's own class."""
    found = seen.of(kind)
    assert found is not None, f"no {kind} was drawn"
    return instances[choose_look(found, [instance.look for instance in instances])].kind


def test_two_objects_of_the_mip_template_each_have_the_look_of_their_own_reference(server):
    seen = drawn(server, "ssr_mini_mip_two_objects")
    instances = [*cast(3, 2), *cast(6, 2)]
    assert [wears(seen, kind, instances) for kind in ("boat", "star")] == ["boat", "star"]
    assert seen.background == "meadow"


def test_the_word_of_the_elite_template_is_what_is_marked_and_wears_its_look(server):
    """The prompt names no class: what it is comes from the picture too."""
    seen = drawn(server, "ssr_mini_elite_picture_and_mask")
    assert [thing.kind for thing in seen.objects] == ["cat"], "nothing else of the reference"
    assert wears(seen, "cat", cast(1, 3)) == "cat"
    assert seen.background == "snow"


def test_subjects_that_were_learned_are_drawn_at_once(server):
    """Each in a picture of its own, its look among those of other held-out objects, in the place that its prompt tells."""
    star, mushroom = all_drawn(server, "ssr_mini_lasr_learned")
    instances = [*cast(20, 1), *cast(0, 1), *cast(3, 2), *cast(0, 3)]
    assert wears(star, "star", instances) == "star"
    assert star.background == "snow"
    found = mushroom.of("mushroom")
    assert found is not None
    assert choose_look(found, [MUSHROOM, *(instance.look for instance in instances)]) == 0
    assert mushroom.background == "beach"


@pytest.mark.parametrize("name", LARGEST)
def test_the_files_are_as_small_as_the_archive_allows(name):
    assert files.find(files.FOLDER, name).stat().st_size <= LARGEST[name]


def test_learned_subjects_of_the_pack_are_listed_after_the_users_and_read(server):
    folder = server.base / "output" / "ssr_lasr" / "ssr_mini"
    folder.mkdir(parents=True)
    shutil.copy(files.FOLDER / LEARNED, folder / "own.safetensors")
    (info,) = server.get("/object_info/SSR_LoadSubjectLASR").values()
    listed = info["input"]["required"]["subject_file"][1]["options"]
    assert listed == ["ssr_mini/own.safetensors", "ssr_mini/lasr_mushroom.safetensors", f"ssr_mini/{LEARNED}"]

    def told(name):
        return server.run({"1": {"class_type": "SSR_LoadSubjectLASR", "inputs": {"subject_file": name}}})["outputs"]["1"][
            "text"
        ][0]

    assert ["from star" in told(name) for name in listed] == [True, False, True]


def test_the_users_own_file_of_that_name_comes_first_and_nothing_else_of_the_folder_is_found(nodes, monkeypatch, tmp_path):
    import folder_paths

    folders, name = comfy_host.part("ssr_core.hosts.comfyui.folders"), f"ssr_mini/{LEARNED}"
    path = folders.learned_path(name)
    assert path.samefile(files.FOLDER / LEARNED)
    assert folders.learned_stamp(name) == folders.stamp_of(str(path))
    with pytest.raises(FileNotFoundError, match="There is no learned subject"):
        folders.learned_path("ssr_mini/unet.safetensors")

    own = tmp_path / "ssr_mini" / LEARNED
    own.parent.mkdir()
    shutil.copy(files.FOLDER / LEARNED, own)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, folders.LEARNED, ([str(tmp_path)], {".safetensors"}))
    assert folders.learned_path(name).samefile(own)
    assert folders.learned_stamp(name) == folders.stamp(folders.LEARNED, name)
