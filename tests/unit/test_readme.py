"""The README's Python example runs as it stands, on Mini in place of the models that it names."""

import random
import re
from pathlib import Path

import torch

from ssr_core import checkpoints
from ssr_core.hosts.diffusers import generate
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.mini import files
from ssr_core.mini.scene import random_cast, random_scene

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_python_example_draws_a_picture(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    base = load_base("mini")
    encoder = checkpoints.load([files.find(files.FOLDER, files.ENCODER)], dtype=torch.float32)
    rng = random.Random(0)
    random_scene(rng, random_cast(rng, 2)).drawn.picture.save(tmp_path / "dog.jpg")
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(checkpoints, "load", lambda paths: asked.extend(paths) or encoder)
    for photographed, drawn in (('"dog"', '"cat"'), ("a dog on a beach", "a cat on a sandy beach")):
        assert photographed in example
        example = example.replace(photographed, drawn)
    names = {"pipe": generate.pipeline(base), "clip_vision": base.vision_encoder}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102  (our own example)
    assert [path.name for path in asked] == ["pytorch_model.bin", "pytorch_model_1.bin"]
    assert names["image"].size == (128, 128)
