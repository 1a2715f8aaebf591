"""Training against what people hand each other: checkpoints, configurations, shards and data sets that are damaged or mean harm."""

import gzip
import io
import json
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from ssr_core.pretrain.dataset import write
from ssr_core.pretrain.steps import read_lines
from ssr_core.training import cache, checkpoints, loop, records, run_state, shards, state_file
from ssr_core.training.examples import UNREADABLE, Examples, PictureReader, StreamedExamples, VisionShape, collate
from ssr_core.training.methods import read_config
from ssr_core.training.ssr import SSRConfig, SubjectInputs

FIELDS = {
    "base": "mini", "inner_width": 32, "heads": 2, "steps": 4, "batch_size": 2, "lr": 1e-3, "workers": 0, "save_every": 2,
}  # fmt: skip
SHAPE = VisionShape(size=32, grid=4)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return open, (str(self.proof), "w")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write(folder, families=3, seed=0, processes=1)
    return folder


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


def settings(world, out, **changes):
    return SSRConfig(**{**FIELDS, "data": str(world), "out": str(out), **changes})


def inputs(**changes):
    own = {"base": "folder", "data": "data", "out": "out", "size": 16, "batch_size": 2, "workers": 0, "drop_prompt": 0.0}
    return SubjectInputs(SSRConfig(**{**own, **changes}), SHAPE)


def checkpoints_in(out):
    return sorted(path.name for path in out.glob("checkpoint-*"))


def old_checkpoint(world, out, proof=None):
    """A checkpoint as accelerate wrote it, with a pickle for optimizer and average; `proof`: the pickles mean harm."""
    made = loop.train(settings(world, out, ema=0.9), cpu=True, stop_after=2)
    kept = state_file.read(made / run_state.STATE)
    weights = load_file(made / run_state.WEIGHTS)
    values = [kept["average"]["values"][name] for name in sorted(weights, key=list(module_names(made)).index)]
    (made / run_state.STATE).unlink()
    bomb = None if proof is None else Bomb(proof)
    torch.save(bomb or {**kept["optimizer"], "param_groups": []}, made / run_state.OLD_OPTIMIZER)
    torch.save(bomb or {"values": values, "updates": kept["average"]["updates"]}, made / run_state.OLD_AVERAGE)
    (made / "random_states_0.pkl").write_bytes(pickle.dumps(bomb))
    return made


def module_names(made):
    """The weights in the order of the module, which safetensors files do not keep."""
    from ssr_core.methods.ssr import formats

    return [f"encoder.{name}" for name, _ in formats.load([made / "encoder.safetensors"]).named_parameters()]


@pytest.mark.skipif(not torch.__version__ >= "2.10" and torch.__version__[:3] != "2.1", reason="pickles are refused")
def test_an_earlier_versions_checkpoint_goes_on_to_the_same_bits(world, tmp_path):
    whole = loop.train(settings(world, tmp_path / "whole", ema=0.9), cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    old_checkpoint(world, tmp_path / "old")
    AcceleratorState._reset_state(reset_partial_state=True)
    resumed = loop.train(settings(world, tmp_path / "old", ema=0.9), resume=True, cpu=True)
    for name in ("encoder.safetensors", "encoder_ema.safetensors"):
        one, other = load_file(whole / name), load_file(resumed / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_no_pickle_in_a_checkpoint_runs(world, tmp_path):
    made = old_checkpoint(world, tmp_path / "run", proof=tmp_path / "proof")
    for left_out in ("nothing", run_state.OLD_OPTIMIZER):
        (made / left_out).unlink(missing_ok=True)
        if left_out != "nothing":
            torch.save({"state": {}}, made / left_out)
        AcceleratorState._reset_state(reset_partial_state=True)
        with pytest.raises(ValueError, match=r"is not read|newer only"):
            loop.train(settings(world, tmp_path / "run", ema=0.9), resume=True, cpu=True)
    assert not (tmp_path / "proof").exists()


def test_pickles_are_refused_where_torch_cannot_be_trusted_with_them(tmp_path, monkeypatch):
    torch.save({"state": {}}, tmp_path / "optimizer.bin")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(ValueError, match=r"2\.10 or newer only; this is 2\.9\.1"):
        state_file.read_pickle(tmp_path / "optimizer.bin")


def test_nothing_in_a_checkpoint_folder_is_a_pickle(world, tmp_path):
    made = loop.train(settings(world, tmp_path / "run", ema=0.9, steps=1), cpu=True)
    assert {path.suffix for path in made.iterdir()} == {".safetensors", ".yaml", ".json"}


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {"a": {0: {"step": torch.tensor(3.0), "rows": torch.ones(2, 2)}}, "b": [1, 2.5, None, True, "x"], "c": {}}
    state_file.write(state, tmp_path / "state.safetensors")
    found = state_file.read(tmp_path / "state.safetensors")
    assert found["b"] == state["b"]
    assert found["c"] == {}
    assert torch.equal(found["a"][0]["step"], state["a"][0]["step"])
    assert torch.equal(found["a"][0]["rows"], state["a"][0]["rows"])
    with pytest.raises(TypeError, match="Bomb cannot be kept"):
        state_file.write({"x": Bomb(tmp_path)}, tmp_path / "other")


@pytest.mark.parametrize("damage", ["empty", "cut", "other", "swapped"])
def test_a_damaged_state_is_refused_by_name(world, tmp_path, damage):
    made = loop.train(settings(world, tmp_path / "run", steps=2), cpu=True)
    file = made / run_state.STATE
    content = file.read_bytes()
    if damage == "swapped":
        state_file.write({"optimizer": {"state": {0: {"step": 1}}}, "average": None, "scaler": None}, file)
    else:
        file.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "other": b"PK\x03\x04"}[damage])
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(ValueError, match=r"checkpoint-2.*(damaged|does not fit)"):
        loop.train(settings(world, tmp_path / "run", steps=3), resume=True, cpu=True)


def test_weights_of_other_shapes_are_refused(world, tmp_path):
    loop.train(settings(world, tmp_path / "run", steps=2), cpu=True)
    for changes, message in (({"inner_width": 64}, "names or shapes differ"), ({"ema": 0.5}, "was made without `ema`")):
        AcceleratorState._reset_state(reset_partial_state=True)
        with pytest.raises(ValueError, match=message):
            loop.train(settings(world, tmp_path / "run", **changes), resume=True, cpu=True)


@pytest.mark.parametrize("progress", [b"", b"{", b"[]", b'{"step": "2"}', b'{"step": 7}', b"\xff\xfe", None])
def test_a_folder_without_a_whole_progress_is_no_checkpoint_and_is_left_alone(tmp_path, progress):
    checkpoints.save(tmp_path, 2, 0, lambda folder: (folder / "encoder.safetensors").write_bytes(b"w"))
    stale = tmp_path / "checkpoint-9"
    stale.mkdir()
    (stale / "encoder.safetensors").write_bytes(b"precious")
    if progress is not None:
        (stale / "progress.json").write_bytes(progress)
    assert checkpoints.newest(tmp_path).name == "checkpoint-2"
    last = checkpoints.save(tmp_path, 4, 0, lambda folder: (folder / "encoder.safetensors").write_bytes(b"w"))
    assert checkpoints_in(tmp_path) == ["checkpoint-4", "checkpoint-9"]
    assert checkpoints.newest(tmp_path) == last
    checkpoints.save(tmp_path, 9, 0, lambda folder: None)
    assert (tmp_path / "checkpoint-9.set-aside-1" / "encoder.safetensors").read_bytes() == b"precious"
    assert checkpoints.newest(tmp_path).name == "checkpoint-9"


def test_a_save_that_fails_leaves_the_checkpoints_that_there_were(tmp_path):
    checkpoints.save(tmp_path, 2, 0, lambda folder: None)

    def full(folder):
        (folder / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoints.save(tmp_path, 4, 0, full)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_only_what_training_wrote_is_deleted(tmp_path):
    first = checkpoints.save(tmp_path, 1, 0, lambda folder: (folder / "encoder.safetensors").write_bytes(b"w"))
    (first / "notes.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "progress.json").write_text('{"step": 3}')
    (tmp_path / "checkpoint-3").symlink_to(elsewhere, target_is_directory=True)
    checkpoints.save(tmp_path, 5, 0, lambda folder: None)
    assert [path.name for path in first.iterdir()] == ["notes.txt"]
    assert (elsewhere / "progress.json").is_file()


def test_what_is_not_finite_is_never_saved(world, tmp_path):
    with pytest.raises(FloatingPointError, match=r"at step \d\. Lower lr"):
        loop.train(settings(world, tmp_path / "run", lr=1e30, steps=9, save_every=1), cpu=True)
    for made in (tmp_path / "run").glob("checkpoint-*"):
        assert all(bool(value.isfinite().all()) for value in load_file(made / "encoder.safetensors").values())


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


def test_a_worker_process_brings_its_error_out_in_words(world, tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar")
    own = settings(world, tmp_path / "run", data=str(tmp_path / "x.tar"), workers=1)
    with pytest.raises(ValueError, match=r"^\S*x\.tar is damaged or no tar file, at its beginning"):
        loop.train(own, cpu=True)


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


@pytest.mark.parametrize(
    "data",
    [
        "pipe:touch {proof} #.tar", "pipe:touch\t{proof}; cat x.tar", "http://127.0.0.1:9/x.tar", "https://x.invalid/x.tar",
        "s3://bucket/x.tar", "gs://bucket/x.tar", "file:///etc/x.tar", "{{a.tar,pipe:touch {proof} #}}.tar",
        "a.tar::pipe:touch {proof} #.tar", "{{pipe,http}}:touch {proof} #.tar", " pipe:touch {proof} #.tar", "ais://x/x.tar",
        "htcp:x.tar", "-.tar", "${{X}}.tar", "pipe:touch {proof} #.tar.gz",
    ],
)  # fmt: skip
def test_shards_are_files_and_nothing_else(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    with tarfile.open("a.tar", "w"):
        pass
    proof = tmp_path / "proof"
    data = data.format(proof=proof)
    assert shards.is_shards(data)
    with pytest.raises((ValueError, FileNotFoundError), match=r"is no file on this disk|There is no shard"):
        next(iter(StreamedExamples(inputs(data=data), 0, 1, 0)))
    assert not proof.exists()


@pytest.mark.parametrize(
    "data",
    [
        "{0..99999999}.tar", "{0..9}" * 9 + ".tar", "{a,b}" * 60 + ".tar", "{{a,b}" + "{a,b}" * 40 + ",c}.tar",
        "{0..99999999999999999999999999}.tar", "{" * 2000 + "}" * 2000 + ".tar", "{" * 500 + ".tar", "a" * 5000 + ".tar",
        "::".join(["{0..9999}.tar"] * 20),
    ],
)  # fmt: skip
def test_patterns_of_endless_shards_are_refused(data):
    with pytest.raises((ValueError, FileNotFoundError), match=r"are read|longer|no pattern|no shard"):
        shards.files(data)


def tar_of(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def png(value=0):
    content = io.BytesIO()
    Image.new("RGB", (20, 20), (value, value, value)).save(content, "PNG")
    return content.getvalue()


def test_a_damaged_shard_is_named_with_its_member(tmp_path):
    tar_of(tmp_path / "x.tar", [("one.png", png()), ("one.txt", b"a"), ("two.png", png() * 9), ("two.txt", b"b")])
    whole = (tmp_path / "x.tar").read_bytes()
    for end, member in ((2700, "two.png"), (520, "one.png"), (100, "its beginning")):
        (tmp_path / "x.tar").write_bytes(whole[:end])
        with pytest.raises(ValueError, match=rf"x\.tar is damaged or no tar file, at ({member})"):
            list(shards.stream(str(tmp_path / "x.tar"), 0, 0, 0, 1))
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(whole)[:200])
    with pytest.raises(ValueError, match=r"x\.tar\.gz is damaged"):
        list(shards.stream(str(tmp_path / "x.tar.gz"), 0, 0, 0, 1))


def test_a_member_or_header_that_would_fill_the_memory_is_refused_before_it_is_read(tmp_path):
    for kind, message in (
        (tarfile.REGTYPE, "more than .* bytes"),
        (tarfile.GNUTYPE_LONGNAME, "header of"),
        (b"x", "header of"),
    ):
        entry = tarfile.TarInfo("one.png")
        entry.size, entry.type = 2**34, kind
        (tmp_path / "x.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
        with pytest.raises(ValueError, match=message):
            list(shards.stream(str(tmp_path / "x.tar"), 0, 0, 0, 1))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.txt", b"x")], "sample a has no picture; found txt"),
        ([("a.png", png())], "has neither"),
        ([("a.png", png()), ("a.json", b"{")], "sample a, json is no JSON"),
        ([("a.png", png()), ("a.json", b"[1]")], "sample a, json: not a record"),
        ([("a.png", png()), ("a.json", b'{"text": 5}')], "neither a text nor a list"),
        ([("a.png", png()), ("a.txt", b"\xff\xfe")], "sample a, txt, line 1: not UTF-8"),
        ([("a.png", png()), ("a.txt", b"\n")], "no text"),
        ([("a.png", b"x"), ("a.txt", b"a")], "png of .*x.tar, sample a cannot be read as a picture"),
        ([("a.png", png()), ("a.png", png()), ("a.txt", b"a")], "two members .png"),
        ([("a.png", png()), ("a.json", b'{"text": "a", "subjects": [{"reference": "../x.png"}]}')], "has no ../x.png"),
        ([("a.png", png()), ("a.json", b'{"text": "a", "subjects": [{"reference": "/etc/passwd"}]}')], "has no /etc/passwd"),
        ([("a.png", png()), ("a.json", b"[" * 100_000)], "no JSON that can be read"),
    ],
)
def test_a_faulty_sample_is_named(tmp_path, members, message):
    tar_of(tmp_path / "x.tar", members)
    with pytest.raises(ValueError, match=message):
        next(iter(StreamedExamples(inputs(data=str(tmp_path / "x.tar"), drop_subject=0.0), 0, 1, 0)))


@pytest.mark.parametrize("broken", [(0,), (2,), (3, 4), (5,), (0, 5)])
def test_broken_samples_of_shards_are_replaced_alike_after_every_resume(tmp_path, broken):
    members = []
    for number in range(6):
        members += [(f"{number}.png", b"x" if number in broken else png(number)), (f"{number}.txt", f"thing {number}".encode())]
    tar_of(tmp_path / "x.tar", members)
    own = inputs(data=str(tmp_path / "x.tar"), batch_size=1)

    def drawn(start, count):
        stream = iter(StreamedExamples(own, 0, 1, start))
        return [next(stream) for _ in range(count)]

    whole = [(one["prompt"], one["seed"]) for one in drawn(0, 14)]
    for start in range(12):
        assert [(one["prompt"], one["seed"]) for one in drawn(start, 2)] == whole[start : start + 2]
    assert not {f"thing {number}" for number in broken} & {prompt for prompt, _ in whole}


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


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, r"stands for [\d,]+ values; at most 20,000"),
        ("base: &a [*a]\n", "repeats itself inside itself"),
        ("base: " + "[" * 100_000, "too deeply"),
        ("base: " + "x" * 2_000_000, "longer than"),
        ("base: mini\nlr: [1\nout: 2", r"run\.yaml, line 3 is no YAML"),
        ("base: mini\nout: a\tb: c", r"run\.yaml, line 2 is no YAML"),
        ("base: mini\nout: !!python/object/apply:os.system [id]", r"line 2 is no YAML: could not determine a constructor"),
        ("base: mini\nout: \x07", "line 2 is no YAML: it holds a control character"),
        ("base: mini\nout: 2024-99-99", "run.yaml holds a date or a number that is none"),
        ("base: mini\nlr: .nan\ndata: d\nout: o", "lr must be a finite number, got nan"),
        ("base: mini\nguidance: .inf\ndata: d\nout: o", "guidance must be a finite number"),
        ("base: mini\nmask_weight: nan\ndata: d\nout: o", "mask_weight must be a finite number"),
        ("base: mini\nflip: .nan\ndata: d\nout: o", "flip must be"),
        ("base: mini\nseed: 4294967296\ndata: d\nout: o", "seed must be at most 4294967295"),
        ("base: mini\nbatch_size: 999999999\ndata: d\nout: o", "batch_size must be at most 65536"),
        ("base: mini\nworkers: 99999\ndata: d\nout: o", "workers must be at most 256"),
        ("base: mini\nsize: 1000000\ndata: d\nout: o", "size must be at most 4096"),
        ("base: mini\nprecision: yes\ndata: d\nout: o", "precision must be 'no', 'bf16' or 'fp16', got True"),
        ("base: mini\nvision_layers: []\ndata: d\nout: o", "vision_layers"),
        ("\n".join(f"field{i}: 1" for i in range(5000)), "and 4992 more"),
    ],
)  # fmt: skip
def test_a_configuration_that_means_harm_is_refused_shortly(tmp_path, content, message):
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_config(tmp_path / "run.yaml")
    assert len(str(caught.value)) < 2000


def test_precision_no_and_mini_work_as_written(tmp_path):
    (tmp_path / "run.yaml").write_text("base: mini\ndata: d\nout: o\nprecision: no\n")
    own = read_config(tmp_path / "run.yaml")
    assert (own.precision, own.size, own.vision_layers) == ("no", 128, (1, 2, 3, 4, 5, 6))
    (tmp_path / "again.yaml").write_text(own.to_yaml())
    assert read_config(tmp_path / "again.yaml") == own
    (tmp_path / "run.yaml").write_text("base: folder\ndata: d\nout: o\n")
    assert (read_config(tmp_path / "run.yaml").size, read_config(tmp_path / "run.yaml").vision_layers[-1]) == (512, 24)


def test_what_mini_cannot_be_trained_for_is_refused(world, tmp_path):
    with pytest.raises(ValueError, match="does not know pictures of 512x512"):
        loop.train(settings(world, tmp_path / "run", size=512), cpu=True)
    with pytest.raises(ValueError, match="layer 24 of an image encoder that has 6"):
        loop.train(settings(world, tmp_path / "run", vision_layers=(24,)), cpu=True)


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
