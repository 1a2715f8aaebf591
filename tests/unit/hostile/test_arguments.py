"""Arguments of the commands: numbers, sizes, devices, files and folders, refused in a line before any work."""

import pytest
import torch
from support.hostile import GENERATE, refusal

from ssr_core import cli
from ssr_core.cli import evaluate
from ssr_core.shown import LONGEST_MESSAGE, plain


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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--frames", "4"), "--frames needs a --motion-adapter"),
        (("--motion-adapter", "m", "--controlnet", "c", "--control-image", "i"), "cannot be used together"),
        (("--controlnet-sees-subject",), "needs a --controlnet"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(capsys, star, tmp_path, more, message):
    given = ["generate", "--reference", star, "--query", "star", "--prompt", "a star", "--out", tmp_path / "out", *more]
    assert message in refusal(capsys, *given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("selectivity", "--data", "folder"), "--data is for benchmarks on photographs"),
        (("selectivity", "--seed", "1"), "--seed is for benchmarks on photographs"),
        (("selectivity", "--shard", "1/2"), "--shard is for benchmarks on photographs"),
        (("selectivity", "--draw-only"), "--draw-only is for benchmarks on photographs"),
        (("dreambench", "--rows", "text-2"), "--rows is for selectivity"),
        (("dreambench", "--force"), "--force is for selectivity"),
        (("dreambench", "--count", "3"), "--count is for selectivity"),
    ],
)
def test_an_option_of_the_other_kind_of_measurement_is_refused(capsys, tmp_path, given, message):
    assert message in refusal(capsys, "evaluate", *given, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_of_scorers_are_read_before_anything_is_drawn(capsys, tmp_path, monkeypatch):
    from ssr_core.cli import benchmarks

    monkeypatch.setattr(benchmarks.datasets, "named", lambda *_: [])
    monkeypatch.setattr(benchmarks.harness, "draw", lambda *_: pytest.fail("drawn"))
    given = ("evaluate", "dreambench", "--data", tmp_path, "--clip", tmp_path / "none", "--dino", tmp_path / "none")
    assert "openai/clip-vit-base-patch32" in refusal(capsys, *given, "--out", tmp_path / "out")


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
        ["demo", "--out", tmp_path / "a\0.png"],
        ["demo", "--out", tmp_path / ("x" * 300 + ".png")],
        [*generate, tmp_path / "a\0"],
        ["evaluate", "selectivity", "--out", file],
    ):
        said = refusal(capsys, *arguments)
        assert any(
            words in said for words in ("Nothing can be written to", "--out must name a picture", "No file can be named")
        )
    assert file.read_text() == "mine"


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
