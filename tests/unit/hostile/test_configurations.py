"""Configurations of a run: YAML that is none or means harm, values out of all measure."""

import pytest
from support.hostile import refusal, settings

from ssr_core.training import loop
from ssr_core.training.methods import read_config

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


@pytest.mark.parametrize("value", ["lr=[1", "lr", "=1", "lr=.nan", "unknown=1", "base=\x1b[2J"])
def test_what_set_replaces_is_refused_in_words(capsys, tmp_path, value):
    (tmp_path / "run.yaml").write_text(f"base: nowhere\ndata: {tmp_path}/none\nout: {tmp_path}/out\n")
    refusal(capsys, "train", tmp_path / "run.yaml", "--cpu", "--set", value)
