"""The Python example of docs/mip.md draws a picture, on a tiny Stable Diffusion XL in place of the real one."""

import re
from pathlib import Path

from PIL import Image
from support import sdxl_folder

DOCS = (Path(__file__).parents[2] / "docs" / "mip.md").read_text(encoding="utf-8")


def test_the_python_example_draws_a_picture(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    model, vision = sdxl_folder.folders(tmp_path)
    model.rename(tmp_path / "stable-diffusion-xl-base-1.0")
    vision.rename(tmp_path / "image_encoder")
    sdxl_folder.adapter_file(tmp_path / "model_sdxl.bin")
    for number, name in enumerate(("cat_1", "cat_2", "chair")):
        Image.new("RGB", (60 + number, 80), (40 * number, 90, 30)).save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    assert "num_inference_steps=30" in example
    names = {}
    exec(compile(example.replace("num_inference_steps=30", "num_inference_steps=2"), "mip.md", "exec"), names)  # noqa: S102  (our own)
    assert names["image"].size == (sdxl_folder.SIDE, sdxl_folder.SIDE)
    assert [one.count for one in (names["cat"], names["chair"])] == [2, 1]
