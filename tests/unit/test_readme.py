"""The README's examples do what they say: Python's on Mini in place of the models that it names, the tests' line in .ci/run."""

import itertools
import random
import re
from pathlib import Path

import pytest
import torch

from ssr_core.hosts.diffusers import generate
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.ssr import formats
from ssr_core.mini import files
from ssr_core.mini.scene import random_cast, random_scene

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_draws_a_picture(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    base = load_base("mini")
    encoder = formats.load([files.find(files.FOLDER, files.ENCODER)], dtype=torch.float32)
    rng = random.Random(0)
    random_scene(rng, random_cast(rng, 2)).drawn.picture.save(tmp_path / "dog.jpg")
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(formats, "load", lambda paths: asked.extend(paths) or encoder)
    for photographed, drawn in (('"dog"', '"cat"'), ("a dog on a beach", "a cat on a sandy beach")):
        assert photographed in example
        example = example.replace(photographed, drawn)
    names = {"pipe": generate.pipeline(base), "clip_vision": base.vision_encoder}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102  (our own example)
    assert [path.name for path in asked] == ["pytorch_model.bin", "pytorch_model_1.bin"]
    assert names["image"].size == (128, 128)


def test_the_command_that_runs_the_tests_is_the_one_that_ci_runs():
    (command,) = re.findall(r"^pip install .*\bpytest\b.*$", README, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_constraints_give_a_version_to_all_that_a_command_installs():
    """torch too: no command needs another one before it."""
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in asked} - {project["name"]}
    given = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"torch", "pytest"} <= names
    assert names - given.keys() == set()
