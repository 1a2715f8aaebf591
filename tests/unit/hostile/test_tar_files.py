"""Shards: names that are commands, patterns without end, tar files that are damaged or would fill the memory."""

import gzip
import tarfile

import pytest
from support.hostile import inputs, png, settings, tar_of

from ssr_core.training import loop, shards
from ssr_core.training.examples import StreamedExamples


def test_a_worker_process_brings_its_error_out_in_words(world, tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no tar")
    own = settings(world, tmp_path / "run", data=str(tmp_path / "x.tar"), workers=1)
    with pytest.raises(ValueError, match=r"^\S*x\.tar is damaged or no tar file, at its beginning"):
        loop.train(own, cpu=True)


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
