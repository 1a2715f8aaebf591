"""Benchmarks and measurements: prompts that are format strings, folders that lead out, runs that were made of something else."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_core.cli import selectivity
from ssr_core.evaluation import datasets, harness


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

    for training, asked in (("whole_picture: true", "nothing"), ("whole_picture: 5", "text"), ("[1]", "text"), ("", "text")):
        save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"training": training})
        assert selectivity._queried_by(tmp_path / "a.safetensors") == asked
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"training": "a: &a [x]\nb: " + "[*a,*a]" * 2})
    with pytest.raises(ValueError, match=r"a\.safetensors, line 2 is no YAML"):
        selectivity._queried_by(tmp_path / "a.safetensors")
