"""The commands and the benchmarks against arguments, pictures and folders that are damaged or mean harm: refused in words, nothing lost."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_core import cli, pictures
from ssr_core.cli import evaluate
from ssr_core.evaluation import datasets, harness
from ssr_core.new_files import check_writable, write_new
from ssr_core.shown import LONGEST_MESSAGE, plain


def refusal(capsys, *arguments):
    """What a command says that ends with 2."""
    try:
        code = cli.main(list(map(str, arguments)))
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
    assert len(said) < LONGEST_MESSAGE + 200
    assert all(mark == "\n" or mark.isprintable() for mark in said)
    return said


GENERATE = ("generate", "--reference", "a.png", "--query", "star", "--prompt", "a star")


@pytest.mark.parametrize("command", [GENERATE, ("evaluate", "dreambench")])
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--count", ("0", "-1", "1e9", "nan", "99999999999", "x" * 5000)),
        ("--steps", ("0", "-3", "1001", "1.5", "inf")),
        ("--seed", ("-1", "1e3", str(2**64), "9" * 5000)),
        ("--strength", ("nan", "inf", "-inf", "-1e30", "1e39", "strong")),
        ("--guidance", ("nan", "inf", "-1", "3.4e38")),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(capsys, command, option, values):
    for value in values:
        said = refusal(capsys, *command, option + "=" + value)
        assert f"argument {option}: must be a" in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--size", "1000000x8"), ("--size", "8x8"), ("--size", "0x0"), ("--size", "512"), ("--size", "512x512x512"), ("--size", "-64x64"),
        ("--size", "\u0665\u0661\u0662x512"), ("--size", "nanx64"), ("--frames", "0"), ("--frames", "99999999"), ("--scale", "nan"),
        ("--mask-weight", "inf"), ("--device", "cuda:99999"), ("--device", "fpga"), ("--device", "\x1b[2Jcpu"), ("--dtype", "\x1b[31m"),
        ("--\x1b[2J", "1"),
    ],
)  # fmt: skip
def test_other_arguments_are_refused_in_a_line_without_control_characters(capsys, option, value):
    assert refusal(capsys, *GENERATE, option, value).count("\n") == 1


def test_numbers_at_the_ends_of_their_ranges_are_taken():
    from ssr_core.cli import numbers

    assert (numbers.seed(str(numbers.LARGEST_SEED)), numbers.pictures("1"), numbers.steps("1000")) == (2**53 - 1, 1, 1000)
    assert (numbers.strength("-10"), numbers.guidance("0"), numbers.size("64x4096"), numbers.side("128")) == (
        -10,
        0,
        (64, 4096),
        128,
    )
    torch.Generator().manual_seed(numbers.LARGEST_SEED * 1000 + numbers.MOST_FRAMES)
    torch.Generator().manual_seed(numbers.LARGEST_BENCHMARK_SEED * 1_000_003 + 10**6)


@pytest.mark.parametrize("command", ["generate", "evaluate", "demo", "train", "convert"])
def test_help_tells_no_default_that_is_none(capsys, command):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    said = capsys.readouterr().out
    assert not any(f"default: {wrong}" in said for wrong in ("None", "(0, 1)", "[]", "False", ")"))


def test_a_benchmarks_shard_is_the_whole_where_none_is_named(monkeypatch):
    seen = []
    monkeypatch.setattr(evaluate, "_run", seen.append)
    for arguments in ([], ["--shard", "2/8"]):
        cli.main(["evaluate", "dreambench", *arguments])
    assert [options.shard for options in seen] == [(0, 1), (1, 8)]


@pytest.fixture
def star(tmp_path):
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "star.png")
    return tmp_path / "star.png"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--null-query", "dog"), "does not know 'dog'"),
        (("--negative", "blurry"), "does not know 'blurry'"),
        (("--size", "512x512"), "does not know pictures of 512x512"),
        (("--size", "136x128"), "does not know pictures of 136x128"),
        (("--mask", "nowhere.png"), "There is no picture nowhere.png"),
        (("--device", "cuda:99"), "There is no cuda:99 here"),
        (("--encoder", "nowhere.safetensors"), "nowhere.safetensors"),
    ],
)
def test_mini_and_files_are_checked_before_models_are_loaded(capsys, star, tmp_path, more, message):
    given = ["generate", "--reference", star, "--query", "star", "--prompt", "a star", "--out", tmp_path / "out", *more]
    assert message in refusal(capsys, *given)


def test_outputs_are_checked_before_the_work(capsys, star, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    generate = ["generate", "--reference", star, "--query", "star", "--prompt", "a star", "--out"]
    for arguments in (
        [*generate, file],
        [*generate, file / "deeper"],
        ["demo", "--out", file / "sheet.png"],
        ["demo", "--out", tmp_path / "sheet.exe"],
        ["demo", "--out", tmp_path],
        ["evaluate", "selectivity", "--out", file],
    ):
        said = refusal(capsys, *arguments)
        assert "Nothing can be written to" in said or "--out must name a picture" in said
    assert file.read_text() == "mine"


def test_a_picture_that_is_there_is_kept_and_the_new_one_gets_a_number(tmp_path):
    for number in range(3):
        written = write_new(tmp_path / "picture.png", lambda part, number=number: part.write_bytes(bytes([number])))
        assert written.name == ("picture.png" if number == 0 else f"picture-{number + 1}.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere")
    assert write_new(tmp_path / "link.png", lambda part: part.write_bytes(b"x")).name == "link-2.png"
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(OSError, match="full"):
        write_new(tmp_path / "other.png", lambda part: (_ for _ in ()).throw(OSError("full")))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "link-2.png", "link.png", "picture-2.png", "picture-3.png", "picture.png",
    ]  # fmt: skip


def test_without_links_a_file_is_not_overwritten_either(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    for _ in range(2):
        write_new(tmp_path / "a.png", lambda part: part.write_bytes(b"x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-2.png", "a.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="Nothing can be written"):
        check_writable(tmp_path)


def declared_png(width, height):
    """A PNG of a few bytes that says it is this large."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (30_000, 30_000, "too large"),
        (13_360, 13_360, "at most 178,000,000 pixels"),
        (100_000, 10, "too narrow"),
        (1, 999, "too narrow"),
    ],
)
@pytest.mark.parametrize("opened", [pictures.open_picture, pictures.open_mask])
def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded(
    tmp_path, monkeypatch, width, height, message, opened
):
    Image.init()  # it makes pictures of its own
    (tmp_path / "a.png").write_bytes(declared_png(width, height))
    monkeypatch.setattr(Image.Image, "load", lambda picture: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=f"a.png is {message}|a.png is too .*{message}"):
        opened(tmp_path / "a.png")


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", b"\xd7\xcd\xc6\x9a\0\0" + bytes(60)]
)
def test_formats_for_which_pillow_starts_a_program_are_not_opened(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="of no known format"):
        pictures.open_picture(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
@pytest.mark.parametrize("opened", [pictures.open_picture, pictures.open_mask])
def test_pipes_and_devices_are_no_pictures(tmp_path, opened):
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", "/dev/zero"):
        with pytest.raises(ValueError, match="is a pipe or a device"):
            opened(path)


def customconcept(folder, prompt="a {} on a sofa", place="./benchmark_dataset/cat", file="prompts/pet.txt", word="cat"):
    (folder / "benchmark_dataset" / "cat").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(folder / "benchmark_dataset" / "cat" / "0.jpg")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "pet.txt").write_text(prompt, encoding="utf-8")
    fields = {"class_prompt": word, "instance_data_dir": place, "prompt_filename": file}
    (folder / "dataset.json").write_text(json.dumps([fields]))
    return folder


@pytest.mark.parametrize(
    "prompt", ["{0.__class__}", "{0.__class__.__mro__}", "{:>999999999}", "{0!r}", "{a}", "{0[0]}", "{{0}}", "{9}", "{"]
)
def test_a_prompt_of_a_benchmark_is_no_format_string(tmp_path, prompt):
    with pytest.raises(ValueError, match=r"pet\.txt, line 2: the prompt"):
        datasets.customconcept101(customconcept(tmp_path, "a {} here\n" + prompt))


def test_prompts_with_marks_of_their_own_are_read(tmp_path):
    (entry,) = datasets.customconcept101(customconcept(tmp_path, "\ufeffa {}\u2028on {0}\r\n\r\na {0}}", word="{0} cat"))
    assert entry.prompts == ("a {0} cat on {0} cat", "a {0} cat}")


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "/etc/hostname"}, {"file": "../../../../etc/hostname"}, {"file": "prompts/secret.txt"}, {"place": "/"}, {"place": ".."},
        {"place": "linked"}, {"place": 5}, {"file": None}, {"word": ["cat"]}, {"word": "c\0t"}, {"file": "prompts/pipe.txt"},
    ],
)  # fmt: skip
def test_a_benchmark_reads_its_own_folder_only(tmp_path, changes):
    benchmark = tmp_path / "benchmark"
    benchmark.mkdir()
    customconcept(benchmark, **changes)
    (tmp_path / "secret.txt").write_text("secret {}")
    (benchmark / "prompts" / "secret.txt").symlink_to(tmp_path / "secret.txt")
    (benchmark / "linked").symlink_to(tmp_path)
    os.mkfifo(benchmark / "prompts" / "pipe.txt")
    with pytest.raises((ValueError, FileNotFoundError), match=r"leads out|has no|not as its authors|not a regular|no pictures"):
        datasets.customconcept101(benchmark)


@pytest.mark.parametrize("content", ["", "{", "5", "[5]", "[[]]", "{}", "[" * 99_999, '[{"class_prompt": "x"}]'])
def test_a_benchmark_whose_list_is_none_is_refused(tmp_path, content):
    customconcept(tmp_path)
    for name in ("dataset.json", "dataset_multiconcept.json"):
        (tmp_path / name).write_text(content)
    for several in (False, True):
        with pytest.raises(ValueError, match="dataset"):
            datasets.customconcept101(tmp_path, several)


class Drawer:
    """Draws black pictures."""

    def __init__(self, fingerprint="weights", base="base"):
        self.fingerprint, self.base_fingerprint = fingerprint, base

    def select(self, reference):
        return reference

    def draw(self, selections, prompts, seeds, sampling):
        return [Image.new("RGB", (8, 8))]


def test_one_folder_holds_pictures_of_one_base_and_one_data_set(tmp_path):
    data = customconcept(tmp_path / "data")
    protocol = harness.Protocol(per_prompt=1)

    def draw(drawer=None, prompt=None):
        if prompt is not None:
            (data / "prompts" / "pet.txt").write_text(prompt)
        return harness.draw(datasets.customconcept101(data), drawer or Drawer(), tmp_path / "out", protocol)

    assert draw() == 1
    assert draw() == 0
    for other in (Drawer(base="another"), Drawer("another")):
        with pytest.raises(ValueError, match="pictures of another run"):
            draw(other)
    with pytest.raises(ValueError, match="pictures of another run"):
        draw(prompt="a {} in the snow")
    draw(prompt="a {} on a sofa")
    Image.fromarray(np.full((32, 32, 3), 9, np.uint8)).save(data / "benchmark_dataset" / "cat" / "0.jpg")
    with pytest.raises(ValueError, match="pictures of another run"):
        draw()
    assert not list((tmp_path / "out").glob("*.part"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_damaged_run_file_is_named(tmp_path, content):
    data = customconcept(tmp_path / "data")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json"):
        harness.draw(datasets.customconcept101(data), Drawer(), tmp_path / "out", harness.Protocol())


def test_an_earlier_versions_run_goes_on_with_a_word(tmp_path, caplog):
    from dataclasses import asdict

    data, out = customconcept(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    protocol = harness.Protocol(per_prompt=1)
    (out / "run.json").write_text(json.dumps({"protocol": asdict(protocol), "encoder": "weights"}))
    assert harness.draw(datasets.customconcept101(data), Drawer(), out, protocol) == 1
    assert "does not tell base and data" in caplog.text


def test_two_concepts_of_one_name_keep_their_own_pictures(tmp_path):
    customconcept(tmp_path)
    (tmp_path / "more" / "cat").mkdir(parents=True)
    Image.new("RGB", (32, 32), (255, 0, 0)).save(tmp_path / "more" / "cat" / "0.jpg")
    fields = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps([*fields, {**fields[0], "instance_data_dir": "more/cat"}]))
    assert [entry.name for entry in datasets.customconcept101(tmp_path)] == ["cat", "cat-2"]


def test_an_encoders_own_configuration_cannot_harm_who_measures_it(tmp_path):
    from safetensors.torch import save_file

    for training, asked in (("whole_picture: true", True), ("whole_picture: 5", False), ("[1]", False), ("", False)):
        save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"training": training})
        assert evaluate._trained_without_query(tmp_path / "a.safetensors") is asked
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"training": "a: &a [x]\nb: " + "[*a,*a]" * 2})
    with pytest.raises(ValueError, match=r"a\.safetensors, line 2 is no YAML"):
        evaluate._trained_without_query(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", ["lr=[1", "lr", "=1", "lr=.nan", "unknown=1", "base=\x1b[2J"])
def test_what_set_replaces_is_refused_in_words(capsys, tmp_path, value):
    (tmp_path / "run.yaml").write_text(f"base: nowhere\ndata: {tmp_path}/none\nout: {tmp_path}/out\n")
    refusal(capsys, "train", tmp_path / "run.yaml", "--cpu", "--set", value)


@pytest.mark.parametrize("name", ["", "unet", "vae/config.json"])
def test_a_folder_of_models_that_is_none_is_named(capsys, star, tmp_path, name):
    model = tmp_path / "model"
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler") if name else ():
        (model / part).mkdir(parents=True)
        (model / part / "config.json").write_text("{" if part in name else "{}")
    model.mkdir(exist_ok=True)
    given = ["--model", model, "--vision-encoder", tmp_path, "--encoder", "x"]
    said = refusal(capsys, "generate", "--reference", star, "--query", "x", "--prompt", "x", "--out", tmp_path / "out", *given)
    assert str(model) in said


def test_a_message_keeps_within_a_screen_and_moves_no_cursor():
    assert plain("a\x1b[2J\tb\nc\u202e") == "a\\x1b[2J\\tb\nc\\u202e"
    assert len(plain("x" * 10**6)) <= LONGEST_MESSAGE + 4
