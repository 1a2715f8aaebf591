"""Pictures and texts of a data set: unreadable, outside its folder, with odd marks; and the cache of what was computed from them."""

import json
import os

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from support.hostile import inputs, png, settings, tar_of

from ssr_core.pretrain.steps import read_lines
from ssr_core.training import cache, loop, records, shards
from ssr_core.training.examples import UNREADABLE, Examples, PictureReader, collate
from ssr_core.training.methods import read_config


def folder_of(tmp_path, count=6, broken=()):
    for number in range(count):
        Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
        if number in broken:
            (tmp_path / f"{number}.png").write_bytes(b"broken")
    lines = [json.dumps({"file_name": f"{number}.png", "text": f"thing {number}"}) for number in range(count)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    return str(tmp_path)


def test_an_unreadable_picture_is_named_once_and_replaced(tmp_path):
    source = records.read(folder_of(tmp_path, broken=(2,)))
    own = inputs(most_unreadable=1)
    examples = Examples(source, own, PictureReader(source, own))
    for epoch in range(2):
        drawn = [examples[6 * epoch + place] for place in range(6)]
        assert "thing 2" not in {one["prompt"] for one in drawn}
        assert sum(len(one[UNREADABLE]) for one in drawn) == 1
    (reason,) = next(one[UNREADABLE] for one in drawn if one[UNREADABLE])
    assert "2.png cannot be read as a picture" in reason
    again = Examples(source, own, PictureReader(source, own))
    assert [again[place]["prompt"] for place in (7, 3)] == [examples[place]["prompt"] for place in (7, 3)]
    assert collate(drawn)[UNREADABLE] == [reason]


def test_too_many_unreadable_pictures_end_a_run_by_name(world, tmp_path, caplog):
    import shutil

    shutil.copytree(world, tmp_path / "world")
    lines = (world / "metadata.jsonl").read_text().split("\n")[:4]
    (tmp_path / "world" / "metadata.jsonl").write_text("\n".join(lines))
    for line in lines[:2]:
        (tmp_path / "world" / json.loads(line)["file_name"]).write_bytes(b"")
    for kept in (None, str(tmp_path / "cache")):
        changes = {"steps": 9, "save_every": 9, "cache": kept}
        AcceleratorState._reset_state(reset_partial_state=True)
        loop.train(settings(tmp_path / "world", tmp_path / f"goes {kept is None}", most_unreadable=2, **changes), cpu=True)
        AcceleratorState._reset_state(reset_partial_state=True)
        if kept is not None:
            changes["cache"] = str(tmp_path / "other")
        with pytest.raises(ValueError, match=r"cannot be read, the last: .*png.*raise `most_unreadable` \(1\)"):
            loop.train(settings(tmp_path / "world", tmp_path / "ends", most_unreadable=1, **changes), cpu=True)
    assert sum("Skipped" in message for message in caplog.messages) >= 2


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.png", "a/../../secret.png", "C:\\secret.png", "\\\\host\\x.png"])
@pytest.mark.parametrize("field", ["file_name", "reference", "mask"])
def test_a_name_that_leads_out_of_the_data_is_refused_with_its_line(tmp_path, name, field):
    line = {"file_name": "a.png", "text": "a", "subjects": [{"query": "a"}]}
    if field == "file_name":
        line[field] = name
    else:
        line["subjects"][0][field] = name
    (tmp_path / "metadata.jsonl").write_text("\n" + json.dumps(line))
    with pytest.raises(ValueError, match=r"metadata\.jsonl, line 2: .* leads out of the folder"):
        records.read(str(tmp_path))


def test_a_name_may_go_up_and_down_inside(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a/../b.png", "text": "a"}')
    assert records.read(str(tmp_path)).records[0].name == "a/../b.png"


def test_a_link_that_leads_out_of_the_data_is_refused_and_not_skipped(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "secret.png")
    (data / "a.png").symlink_to(tmp_path / "secret.png")
    (data / "b.png").symlink_to(data / "c.png")
    Image.new("RGB", (20, 20)).save(data / "c.png")
    for name in "ab":
        (data / f"{name}.txt").write_text("x")
    (data / "c.txt").write_text("x")
    source = records.read(str(data))
    assert source.open("b.png").size == (20, 20)
    with pytest.raises(records.OutsideFolder, match=r"a\.png leads out"):
        source.open("a.png")
    own = inputs(batch_size=1)
    with pytest.raises(records.OutsideFolder):
        [Examples(source, own, PictureReader(source, own))[place] for place in range(3)]


def test_a_byte_order_mark_and_exotic_line_ends_are_read_as_they_are_meant(tmp_path):
    line = json.dumps({"file_name": "a.png", "text": "a\u2028b\x85c"}, ensure_ascii=False)
    (tmp_path / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n" + line.encode())
    found = records.read(str(tmp_path)).records
    assert [record.texts for record in found] == [("a\u2028b\x85c",)] * 2
    assert len(read_lines(tmp_path / "metadata.jsonl")) == 2
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "a.png")
    (tmp_path / "pictures" / "a.txt").write_bytes("\ufeffa dog\u2028here\r\nb".encode())
    assert records.read(str(tmp_path / "pictures")).records[0].texts == ("a dog\u2028here", "b")
    tar_of(
        tmp_path / "x.tar",
        [("a.png", png()), ("a.txt", "\ufeffa dog".encode()), ("b.png", png()), ("b.json", b'\xef\xbb\xbf{"text": "a dog"}')],
    )
    for sample in shards.stream(str(tmp_path / "x.tar"), 0, 0, 0, 1):
        assert shards.Streamed(sample).record.texts == ("a dog",)
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbfbase: mini\ndata: d\nout: o\n")
    assert read_config(tmp_path / "run.yaml").base == "mini"


def test_the_cache_touches_nothing_that_is_not_its_own(world, tmp_path):
    part, taken = tmp_path / "cache.part", tmp_path / "taken"
    for folder in (part, taken):
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    empty = tmp_path / "cache"
    empty.mkdir()
    loop.train(settings(world, tmp_path / "run", steps=1, cache=str(empty)), cpu=True)
    assert (part / "thesis.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "cache.part", "run", "taken"]
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match="holds something else than a cache"):
        loop.train(settings(world, tmp_path / "other", steps=1, cache=str(taken)), cpu=True)
    assert (taken / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("file", [cache.INDEX, "latents.npy", "features.npy", "texts.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_a_damaged_cache_is_refused_by_name(world, tmp_path, file, content):
    kept = tmp_path / "cache"
    kept.mkdir()
    rows = {"targets": ["a"], "references": ["a"], "texts": [""]}
    (kept / cache.INDEX).write_text(json.dumps({"identity": "x", **rows}))
    np.save(kept / "latents.npy", np.zeros((1, 1), np.float32))
    np.save(kept / "features.npy", np.zeros((1, 1), np.float32))
    from safetensors.torch import save_file

    save_file({"embeds": torch.zeros(1, 2)}, kept / "texts.safetensors")
    reader = cache.CachedReader(kept, None, None)
    assert len(reader._files()) == 4
    if content is None:
        (kept / file).unlink()
    else:
        (kept / file).write_bytes(content)
    with pytest.raises(cache.CacheDamaged, match=r"The cache in .* is damaged"):
        cache.CachedReader(kept, None, None)._files()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_is_not_waited_for(tmp_path):
    for name in ("x.tar", "metadata.jsonl", "run.yaml", "a.png"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="not a regular file"):
        shards.files(str(tmp_path / "x.tar"))
    with pytest.raises(ValueError, match="not a regular file"):
        records.read(str(tmp_path / "metadata.jsonl"))
    with pytest.raises(ValueError, match="not a regular file"):
        read_config(tmp_path / "run.yaml")
    with pytest.raises(ValueError, match="pipe or a device"):
        records.Records(tmp_path, ()).open("a.png")


@pytest.mark.parametrize("field", ["file_name", "text"])
def test_half_a_character_is_no_text(tmp_path, field):
    whole = {"file_name": "a.png", "text": "a star \U0001f600"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(whole) + "\n")  # JSON writes the whole character as two halves
    assert records.read(str(tmp_path)).records[0].texts == ("a star \U0001f600",)
    (tmp_path / "metadata.jsonl").write_text(json.dumps({**whole, field: "a\ud800.png"}) + "\n")
    with pytest.raises(ValueError, match=r"metadata\.jsonl, line 1 holds half a character \(\\ud800"):
        records.read(str(tmp_path))


def test_what_a_text_encoder_cannot_read_or_cuts_is_told(caplog):
    from ssr_core.hosts.diffusers.encoders import encode_query
    from ssr_core.hosts.diffusers.load import load_base

    base = load_base("mini")
    with pytest.raises(ValueError, match=r'The text "a\\udcff" holds half a character'):
        base.embed(["a star", "a\udcff"])
    encode_query(base.tokenizer, base.text_encoder, "star " * 75)
    assert not caplog.records
    encode_query(base.tokenizer, base.text_encoder, "star " * 76)
    assert "is longer than 75 tokens; the rest is ignored" in caplog.text
