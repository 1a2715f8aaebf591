"""Making Mini's base: every stage goes on where it stopped, and what it begins with is not spoiled."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import load_file

from ssr_core.hosts.diffusers import mini
from ssr_core.mini import files
from ssr_core.mini.scene import CLASSES
from ssr_core.mini.vocabulary import tokenizer
from ssr_core.pretrain import __main__ as command
from ssr_core.pretrain import scenes, text
from ssr_core.pretrain.steps import TimeUp


def test_the_base_is_made_again_by_one_command(tmp_path, monkeypatch):
    """Every stage, as small as it goes; the files load as Mini's."""
    arguments = ["--out", str(tmp_path), "--families", "34", "--scenes", "34", "--steps", "1", "--processes", "1"]
    monkeypatch.setattr("sys.argv", ["pretrain", *arguments])
    command.main()
    again = mini.load(tmp_path)
    assert again.unet.config.cross_attention_dim == files.WIDTH
    assert again.embed(["a star"]).shape == (1, 77, files.WIDTH)
    assert len(again.layout.layers) == 7
    placeholder, *classes = again.text_encoder.get_input_embeddings().weight[[338, *class_ids()]]
    torch.testing.assert_close(placeholder, torch.stack(classes).mean(0), atol=1e-3, rtol=0)


def class_ids():
    vocabulary = tokenizer().get_vocab()
    return [vocabulary[kind + "</w>"] for kind in CLASSES]


def test_a_run_that_is_out_of_time_saves_and_goes_on_to_the_same_weights(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    text.run(whole, 3)
    with pytest.raises(TimeUp, match=r"text\.ckpt stopped at step 1 of 3; the same command goes on from there"):
        text.run(parts, 3, deadline=0.0)
    text.run(parts, 3)
    one, other = (load_file(folder / "text_encoder.safetensors") for folder in (whole, parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_scenes_for_the_base_keep_clear_of_each_other_and_are_drawn_again_alike(tmp_path):
    for folder in ("one", "two"):
        scenes.write(tmp_path / folder, 24)
    pictures, inside = (np.load(tmp_path / "one" / name) for name in (scenes.PICTURES, scenes.INSIDE))
    assert np.array_equal(pictures, np.load(tmp_path / "two" / scenes.PICTURES))
    lines = (tmp_path / "one" / scenes.CAPTIONS).read_text().splitlines()
    assert len(lines) == len(pictures) == 24
    for number in range(24):
        scene = scenes.scene(0, number)
        assert not any(thing.instance.held_out for thing in scene.things)
        assert np.array_equal(inside[number], scene.drawn.masks.max(axis=0))
        near = [np.asarray(Image.fromarray(mask).filter(ImageFilter.MaxFilter(5))) > 0 for mask in scene.drawn.masks]
        assert np.sum(near, axis=0).max() == 1
