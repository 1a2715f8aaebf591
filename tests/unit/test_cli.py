"""`ssr-encoder` itself, and `ssr-encoder convert`, from the pair that Xiaojiu-z/SSR_Encoder releases, at its real shapes, to one file."""

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from support import golden

from ssr_core import cli, version
from ssr_core.methods.ssr import formats
from ssr_core.shown import percent

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Files laid out as those that Xiaojiu-z/SSR_Encoder releases. Each tensor is one number repeated: only names, shapes and types
    matter here."""
    folder = tmp_path_factory.mktemp("pair")
    paths = []
    for name, shapes in (("pytorch_model.bin", "aligner_shapes"), ("pytorch_model_1.bin", "layers_shapes")):
        table = golden.mapping()[shapes]
        state = {
            key: torch.full(tuple(shape), 1e-3 * (number + 1), dtype=torch.float32)
            for number, (key, shape) in enumerate(table.items())
        }
        torch.save(state, folder / name)
        paths.append(folder / name)
    return paths


def test_convert_makes_one_file_of_the_official_pair(pair, tmp_path, capsys):
    out = tmp_path / "ssr_encoder.safetensors"
    assert cli.main(["convert", *map(str, reversed(pair)), "--out", str(out)]) == 0
    assert "25,593,344 parameters" in capsys.readouterr().out
    single, both = formats.read([out]), formats.read(pair)
    assert single.fingerprint == both.fingerprint
    assert single.config == both.config
    assert all(torch.equal(single.state[name], tensor) for name, tensor in both.state.items())


def test_convert_to_half_keeps_the_encoders_identity(pair, tmp_path):
    out = tmp_path / "half.safetensors"
    assert cli.main(["convert", *map(str, pair), "--out", str(out), "--dtype", "fp16"]) == 0
    half = formats.read([out])
    assert half.fingerprint == formats.read(pair).fingerprint
    with safe_open(out, framework="pt") as file:
        assert file.get_tensor("layers.0.to_k.weight").dtype == torch.float16


def test_convert_replaces_a_file_only_when_told_to(pair, tmp_path, capsys):
    out = tmp_path / "there.safetensors"
    out.write_bytes(b"precious")
    assert cli.main(["convert", *map(str, pair), "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert cli.main(["convert", *map(str, pair), "--out", str(out), "--force"]) == 0


def test_convert_says_what_is_wrong(pair, tmp_path, capsys):
    assert cli.main(["convert", str(pair[0]), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "Give its partner too" in capsys.readouterr().err
    assert cli.main(["convert", *map(str, pair), "--out", str(tmp_path / "x.bin")]) == 2
    assert "must end in .safetensors" in capsys.readouterr().err


def test_the_version_is_the_projects(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    written = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert capsys.readouterr().out == f"ssr-encoder {written}\n"


def test_an_installed_package_tells_its_own_version(monkeypatch, tmp_path):
    monkeypatch.setattr(version, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(version.metadata, "version", lambda name: f"7.0 of {name}")
    assert version.version() == "7.0 of ssr-encoder"
    (tmp_path / "pyproject.toml").write_text('name = "somebody-elses"\nversion = "3.1"\n')
    assert version.version() == "7.0 of ssr-encoder"


def test_shares_are_written_alike():
    assert [percent(share) for share in (0.0, 0.0049, 0.955, 1.0)] == ["0 %", "0 %", "96 %", "100 %"]


def test_an_option_given_twice_adds_up(tmp_path, capsys):
    """With argparse's own rule the last one counts alone, and a run goes on with other settings than it was told."""
    assert cli.main(["train", str(tmp_path / "none.yaml"), "--set", "lr", "--set", "steps=1"]) == 2
    assert "--set takes FIELD=VALUE, got 'lr'" in capsys.readouterr().err
    assert cli.main(["generate", "--reference", "a.png", "--reference", "b.png", "--query", "star", "--prompt", "a star"]) == 2
    assert "2 references, but 1 of --query" in capsys.readouterr().err
