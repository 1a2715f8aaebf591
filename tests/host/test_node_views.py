"""What the nodes around a subject show and select: clicks, the picture in the node, footprints, strengths per frame."""

import json

import pytest
import torch
from support import comfy_host, golden, tiny


def test_clicks_select_what_a_mask_of_the_same_patches_selects(nodes, encoder, clip, clip_vision):
    (clicked,) = tiny.encode(nodes, encoder, clip, clip_vision, query="", points="20, 20; 40, 30")
    side = round(clicked.marked.numel() ** 0.5)
    assert 0 < clicked.marked.sum() < side * side
    select = comfy_host.part("ssr_core.select").select_around
    picture = comfy_host.part("ssr_core.vision").as_pictures(golden.picture(64, 48, 0))[0]
    vision_model = comfy_host.part("ssr_core.hosts.comfyui.clip").vision_model(clip_vision)
    with torch.inference_mode():
        assert torch.equal(select(vision_model, picture, [(20.0, 20.0), (40.0, 30.0)], "center crop"), clicked.marked)
        mask = nodes["SSR_SelectByPoints"].execute(clip_vision, golden.picture(64, 48, 0), "20, 20; 40, 30").args[0]
    assert mask.shape == (1, *golden.picture(64, 48, 0).shape[1:3])
    assert mask[0, 20, 20] > 0.5
    (words,) = tiny.encode(nodes, encoder, clip, clip_vision, query="a red dog")
    assert words.marked is None


def test_the_picture_in_the_node_is_told_maps_and_words(nodes, encoder, clip, clip_vision):
    import base64

    import folder_paths
    from PIL import Image

    image = torch.cat([golden.picture(64, 48, 0), golden.picture(64, 48, 1)])
    with torch.inference_mode():
        answer = nodes["SSR_EncodeSubject"].execute(encoder, clip, clip_vision, image, "a red dog", fit="pad", points="5, 5")
    light = comfy_host.part("ssr_core.maps").light
    entries = json.loads(json.dumps(answer.ui["ssr_subject"]))
    assert len(entries) == 2
    for entry, subject in zip(entries, answer.args[0], strict=True):
        lit = light(subject.heat()).flatten()
        shown = torch.tensor(list(base64.b64decode(entry["map"])))
        assert torch.equal(shown, (lit * 255).round().long())
        assert [word["text"] for word in entry["words"]] == ["a", "red", "dog"]
        assert torch.tensor(list(base64.b64decode(entry["marked"]))).gt(0).sum() == subject.marked.gt(0).sum()
        width, height = entry["width"], entry["height"]
        assert (height, width) == subject.source_size
        left, top, right, bottom = entry["box"]
        assert (right - left) * width == pytest.approx((bottom - top) * height)
        file = Image.open(f"{folder_paths.get_temp_directory()}/{entry['picture']['filename']}")
        assert file.size == (width, height)
        assert not file.info, "no workflow in the file"


def test_a_crop_is_what_is_seen_and_where_the_view_says_it_is(nodes, encoder, clip, clip_vision):
    image = golden.picture(64, 48, 0)  # 64 wide, 48 high
    with torch.inference_mode():
        answer = nodes["SSR_EncodeSubject"].execute(
            encoder, clip, clip_vision, image, "a dog", fit="stretch", crop="[8, 4, 40, 44]"
        )
        plain = nodes["SSR_EncodeSubject"].execute(encoder, clip, clip_vision, image[:, 4:44, 8:40], "a dog", fit="stretch")
        height, width = image.shape[1:3]
        selected = nodes["SSR_SelectByPoints"].execute(clip_vision, image, "20, 30", "stretch", "8, 4, 40, 44")
    (framed,), (cut,) = answer.args[0], plain.args[0]
    assert torch.equal(framed.tokens, cut.tokens)
    assert (framed.source_size, framed.box) == ((height, width), (8.0, 4.0, 40.0, 44.0))
    box = [8 / width, 4 / height, 40 / width, 44 / height]
    assert answer.ui["ssr_subject"][0]["box"] == pytest.approx(box)
    assert selected.ui["ssr_subject"][0]["box"] == pytest.approx(box)
    outside = selected.args[0][0].clone()
    outside[4:44, 8:40] = 0
    assert not outside.any()
    with pytest.raises(ValueError, match="expected left, top, right and bottom in pixels"):
        nodes["SSR_EncodeSubject"].execute(encoder, clip, clip_vision, image, "a dog", crop="1, 2, 3")


def test_of_a_large_set_the_first_are_shown(subject):
    view = comfy_host.part("ssr_core.hosts.comfyui.view")
    assert len(view.view(subject * 20)[view.KEY]) == view.MOST


def test_a_loaded_subject_shows_what_is_in_its_file(nodes, encoder, clip, clip_vision, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "ssr_subjects", ([str(tmp_path / "ssr_subjects")], {".safetensors"})
    )
    subject = tiny.encode(nodes, encoder, clip, clip_vision)
    nodes["SSR_SaveSubject"].execute(subject, "dog")
    (file,) = (tmp_path / "ssr_subjects").glob("*.safetensors")
    answer = nodes["SSR_LoadSubject"].execute(file.name)
    (entry,) = answer.ui["ssr_subject"]
    assert entry["box"] == [0, 0, 1, 1]
    assert (entry["width"], entry["height"]) == (subject[0].picture.shape[1],) * 2
    (text,) = answer.ui["text"]
    made, at, by = text.splitlines()
    height, width = subject[0].source_size
    assert made == (
        f'1. "a red dog", by words, of a picture of {width} x {height} pixels, center crop, strength 1, '
        f"encoder {subject[0].encoder[:12]}"
    )
    assert (by, at[:11]) == ("made by: ComfyUI-SSR-Encoder", "made at: 20")


def test_of_two_files_of_one_name_the_node_says_which_it_read(nodes, encoder, clip, clip_vision, tmp_path, monkeypatch):
    import folder_paths

    folders = [tmp_path / "output" / "ssr_subjects", tmp_path / "input" / "ssr_subjects"]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ssr_subjects", ([str(one) for one in folders], {".safetensors"}))
    save = comfy_host.part("ssr_core.methods.ssr.subject_file").save
    for folder, query in zip(folders, ("mine", "a friend's"), strict=True):
        folder.mkdir(parents=True)
        save(tiny.encode(nodes, encoder, clip, clip_vision, query=query), folder / "subject_00001_.safetensors")
    (text,) = nodes["SSR_LoadSubject"].execute("subject_00001_.safetensors").ui["text"]
    assert text.startswith('1. "mine"')
    assert text.endswith(f"read from {folders[0]}; of the same name, not read: {folders[1] / 'subject_00001_.safetensors'}")


def test_another_picture_has_another_file_name_whatever_the_counter_says(
    nodes, encoder, clip, clip_vision, tmp_path, monkeypatch
):
    """The host counts from 1 again after a restart, when a browser may still show what had that name."""
    import folder_paths

    names = []
    for run, number in enumerate((0, 1)):
        monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / f"{run}"))
        with torch.inference_mode():
            answer = nodes["SSR_EncodeSubject"].execute(encoder, clip, clip_vision, golden.picture(64, 48, number), "a dog")
        names.append(answer.ui["ssr_subject"][0]["picture"]["filename"])
    assert names[0] != names[1]


def test_footprint_nodes_say_what_is_missing(nodes, model):
    image = torch.zeros(1, 8, 8, 3)
    recorder = nodes["SSR_RecordFootprint"].execute(model).args[1]
    with pytest.raises(ValueError, match="Nothing was recorded"):
        nodes["SSR_SubjectFootprint"].execute(recorder, image)
    recorder.footprint = comfy_host.part("ssr_core.footprint").Footprint(["dog"])
    recorder.footprint.add(torch.ones(1, 1, 2, 2), (2, 2))
    with pytest.raises(ValueError, match='no subject 2; the recorded sampling had: 1 "dog"'):
        nodes["SSR_SubjectFootprint"].execute(recorder, image, index=2)
    overlay, mask = nodes["SSR_SubjectFootprint"].execute(recorder, image).args
    assert overlay.shape == (1, 8, 8, 3)
    assert mask.shape == (1, 8, 8)


def test_an_older_picture_out_of_the_hosts_cache_keeps_its_footprint(nodes, model):
    """Newer hosts keep several: back at the first seed, another opacity runs this node again but no sampler."""
    footprint = comfy_host.part("ssr_core.footprint").Footprint
    recorder = nodes["SSR_RecordFootprint"].execute(model).args[1]
    pictures = [torch.zeros(1, 8, 8, 3) for _ in range(2)]

    def shown(number, **options):
        return nodes["SSR_SubjectFootprint"].execute(recorder, pictures[number], **options).args[1]

    maps = []
    for number in range(2):
        recorder.footprint = footprint(["dog"])
        acted = torch.zeros(1, 1, 2, 2)
        acted[..., number] = 1.0
        recorder.footprint.add(acted, (2, 2))
        maps.append(shown(number))
    assert not torch.equal(*maps)
    assert [torch.equal(shown(number, opacity=0.2), maps[number]) for number in range(2)] == [True, True]


@pytest.mark.parametrize("linked", ["dog", [], [1.0, float("nan")], float("inf"), None, [[1.0]]])
def test_a_linked_strength_must_be_numbers(nodes, model, encoder, linked):
    with pytest.raises(ValueError, match="expected a number, or a list of numbers"):
        nodes["SSR_ApplySubject"].execute(model, encoder, (), linked)


def test_two_lists_of_frame_strengths_are_one_too_many(nodes, model, encoder, subject):
    values = {"start": 0.0, "end": 1.0, "curve": "constant", "layers": "all", "combine": "joint", "subject_scaling": "official"}
    advanced = nodes["SSR_ApplySubjectAdvanced"]
    made = advanced.execute(model, encoder, subject, 0.5, frame_strengths="1, 0.5", **values).args[0]
    apply = comfy_host.part("ssr_core.hosts.comfyui.apply")
    assert apply.applied_to(made)[0].manner.pictures == (1, 0.5)
    with pytest.raises(ValueError, match="already has a number for each frame"):
        advanced.execute(model, encoder, subject, [0.5, 1.0], frame_strengths="1, 0.5", **values)


def test_select_by_points_shows_the_picture_before_anything_is_clicked(nodes, clip_vision):
    """And tells what waits for the mask why there is none."""
    image = golden.picture(64, 48, 0)
    with torch.inference_mode():
        empty = nodes["SSR_SelectByPoints"].execute(clip_vision, image, " ")
        clicked = nodes["SSR_SelectByPoints"].execute(clip_vision, image, "20, 20")
    assert empty.block_execution.startswith("points is empty; click on the picture")
    assert empty.result == (None,), "without a result the host forgets to block"
    assert clicked.block_execution is None
    (before,), (after,) = (answer.ui["ssr_subject"] for answer in (empty, clicked))
    assert (before["width"], before["height"]) == (image.shape[2], image.shape[1])
    assert before["framed"]
    assert not after["framed"]
    original, shaded = (torch.from_numpy(picture(one["picture"])).float() for one in (before, after))
    light = clicked.args[0][0] > 0.5
    assert torch.equal(original[light], shaded[light])
    assert shaded[~light].mean() < 0.5 * original[~light].mean()


def picture(file):
    import folder_paths
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(f"{folder_paths.get_temp_directory()}/{file['filename']}").convert("RGB"))


def test_scenes_and_examples_show_their_picture_and_the_scene_its_caption(nodes):
    scene = nodes["SSR_MiniScene"].execute(7)
    assert scene.ui["text"] == [scene.args[3]]
    example = nodes["SSR_ExamplePicture"].execute("cup")
    for answer in (scene, example):
        (shown,) = answer.ui["images"]
        expected = (answer.args[0][0] * 255).round().byte().numpy()
        assert abs(picture(shown).astype(int) - expected).max() <= 1


def test_every_example_marks_a_thing_in_its_photograph(nodes):
    for name in nodes["SSR_ExamplePicture"].GET_SCHEMA().inputs[0].options:
        image, mask, word = nodes["SSR_ExamplePicture"].execute(name).args
        assert word == name
        assert mask.shape == image.shape[:3]
        assert 0.01 < mask.mean() < 0.8
        assert mask.max() == 1.0


@pytest.mark.parametrize("prefix", ["../out", "a/../../b", "..", "C:\\Windows\\x", "..\\x", " .. /x"])
def test_what_is_saved_never_leaves_its_folder(nodes, subject, tmp_path, monkeypatch, prefix):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    with pytest.raises(ValueError, match="leads out of output/ssr_subjects"):
        nodes["SSR_SaveSubject"].execute(subject, prefix)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("", "subject"), ("  ", "subject"), ("/", "subject"), ("dogs/", "dogs/subject"), ("dogs/rex", "dogs/rex"),
        ("/dogs/rex", "dogs/rex"), ("dogs\\rex", "dogs/rex"), ("./rex", "rex"), ("rex..", "rex.."),
    ],
)  # fmt: skip
def test_an_empty_prefix_means_subject(nodes, subject, tmp_path, monkeypatch, prefix, name):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    nodes["SSR_SaveSubject"].execute(subject, prefix)
    (saved,) = tmp_path.rglob("*.safetensors")
    assert saved.relative_to(tmp_path).as_posix() == f"ssr_subjects/{name}_00001_.safetensors"
