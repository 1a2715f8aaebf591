"""ELITE's nodes as a user has them: what they show, their files and their templates."""

import pytest
import torch
from support import comfy_host, golden, tiny, tiny_elite


def test_the_footprint_is_where_the_word_is_attended_to(applied, say, subject, nodes):
    patched, recorder = nodes["SSR_RecordFootprint"].execute(applied(subject)).args
    tiny.sample(patched, positive=say(subject))
    found = recorder.footprint.maps()
    assert found.shape[:2] == (1, 1)
    assert bool(found.isfinite().all())
    assert found.max() > 0
    assert list(recorder.footprint.queries) == ["subject 1"]


@pytest.mark.parametrize("strength", [0.8, 0.0])
def test_inspect_says_what_reads_the_texts(applied, subject, elite, strength):
    told = comfy_host.part("ssr_core.hosts.comfyui.inspection").describe(applied(subject, strength))
    assert f"texts read by ELITE {elite.fingerprint[:12]}" in told
    assert ("256 tokens" in told) is bool(strength)


def test_encoding_shows_what_is_marked_and_files_hold_it(nodes, elite, clip_vision, monkeypatch, tmp_path):
    folders = comfy_host.part("ssr_core.hosts.comfyui.folders")
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths,
        folders.ELITE_SUBJECTS,
        ([str(tmp_path / folders.ELITE_SUBJECTS)], {".safetensors"}),
    )
    mask = torch.zeros(1, 48, 64)
    mask[:, 10:40, 8:30] = 1.0
    picture = golden.picture(64, 48, 0)
    with torch.inference_mode():
        made = nodes["SSR_EncodeSubjectELITE"].execute(elite, clip_vision, picture, mask)
        again = nodes["SSR_EncodeSubjectELITE"].execute(elite, clip_vision, picture, points="20, 20", previous=made.args[0])
    assert len(again.args[0]) == 2
    (entry,) = made.ui["ssr_subject"]
    assert entry["grid"] == 16
    assert entry["marked"]
    saved = nodes["SSR_SaveSubjectELITE"].execute(again.args[0], "mine")
    assert saved.ui["text"] == ["Saved ssr_elite_subjects/mine_00001_.safetensors"]
    folder_paths.filename_list_cache.clear()
    loaded = nodes["SSR_LoadSubjectELITE"].execute("mine_00001_.safetensors")
    assert [one.identity for one in loaded.args[0]] == [one.identity for one in again.args[0]]
    assert "crop to mask" in loaded.ui["text"][0]


@pytest.mark.parametrize(
    ("given", "around"),
    [
        ({"mask": True}, True),
        ({"points": "20, 20"}, True),
        ({}, False),
        ({"mask": True, "framing": "stretch"}, False),
        ({"mask": True, "crop": "8, 4, 40, 44"}, False),
    ],
)
def test_the_view_is_told_whether_the_frame_lies_around_what_is_marked(nodes, elite, clip_vision, given, around):
    """Then points are read over the whole picture; the browser must not refuse them beside the frame."""
    mask = torch.zeros(1, 48, 64)
    mask[:, 10:40, 8:30] = 1.0
    inputs = {**given, **({"mask": mask} if "mask" in given else {})}
    with torch.inference_mode():
        made = nodes["SSR_EncodeSubjectELITE"].execute(elite, clip_vision, golden.picture(64, 48, 0), **inputs)
    assert made.ui["ssr_subject"][0]["around"] is around


def test_the_published_pair_finds_itself(nodes, monkeypatch, tmp_path):
    import folder_paths

    from ssr_core.methods.elite import formats

    made = tiny_elite.small()
    own = formats.of_state(made.config, {"global": made.global_mapper.state_dict(), "local": made.local_mapper.state_dict()})
    formats.write_stage(own, "global", tmp_path / "global_mapper.pt")
    formats.write_stage(own, "local", tmp_path / "local_mapper.pt")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ssr_elite", ([str(tmp_path)], {".pt"}))
    folder_paths.filename_list_cache.clear()
    with torch.inference_mode():
        (loaded,) = nodes["SSR_LoadELITE"].execute("global_mapper.pt").args
    assert loaded.module.local_mapper is not None
    with pytest.raises(FileNotFoundError, match="--only elite"):
        nodes["SSR_LoadELITE"].execute("missing.pt")
