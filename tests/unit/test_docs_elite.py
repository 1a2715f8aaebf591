"""The Python example of docs/elite.md draws a picture, on a tiny Stable Diffusion in place of the real one; its configurations are ones."""

import re
from pathlib import Path

from support import tiny_sd

from ssr_core.training.elite_config import EliteTrainingConfig
from ssr_core.training.methods import read_config

DOCS = (Path(__file__).parents[2] / "docs" / "elite.md").read_text(encoding="utf-8")


def test_the_python_example_draws_a_picture(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    model, vision = tiny_sd.folders(tmp_path)
    model.rename(tmp_path / "stable-diffusion-v1-4")
    vision.rename(tmp_path / "clip-vit-large-patch14")
    tiny_sd.mappers(tmp_path)
    tiny_sd.reference(tmp_path / "dog.jpg", tmp_path / "dog_bg.png")
    monkeypatch.chdir(tmp_path)
    assert "num_inference_steps=100" in example
    names = {}
    exec(compile(example.replace("num_inference_steps=100", "num_inference_steps=2"), "elite.md", "exec"), names)  # noqa: S102  (our own)
    assert names["image"].size == (8 * tiny_sd.SIDE, 8 * tiny_sd.SIDE)
    assert list(names["said"].places[0].values()) == [(2,)]


def test_the_configurations_are_complete(tmp_path):
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert isinstance(read_config(path), EliteTrainingConfig)
