"""MIP-Adapter's evaluation on CustomConcept101: references, captions and scores of hqhQAQ/MIP-Adapter (its stub encoders' features)."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from ssr_core.evaluation import concept101, datasets, harness
from ssr_core.evaluation.scorers import clip_pixels, dino_pixels
from ssr_core.reference import detected_object

DATA = Path(__file__).parent / "data" / "mip"
CASE = json.loads((DATA / "evaluation.json").read_text())
STORED = load_file(DATA / "evaluation.safetensors")
SIDE = 8
NAMES = sorted(name for name in STORED if name.startswith("Stub|"))


def golden_picture(key, height, width):
    """Blocks of random colour with fine noise, as the golden cases' recipe has it."""
    rng = np.random.RandomState(zlib.crc32(f"{CASE['case_seed']}:input:{key}".encode()))
    coarse = rng.randint(0, 256, size=((height + 7) // 8, (width + 7) // 8, 3))
    fine = rng.randint(-20, 21, size=(height, width, 3))
    large = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)[:height, :width]
    return Image.fromarray(np.clip(large + fine, 0, 255).astype(np.uint8))


def test_a_reference_is_cut_as_the_authors_cut_it():
    box = CASE["params"]["crop"]["box"]
    cut = torch.from_numpy(np.array(detected_object(golden_picture("crop", 300, 420), box)))
    assert torch.equal(cut[::4, ::3], STORED["reference_crop"])


@pytest.mark.parametrize(("name", "pixels"), [("clip", clip_pixels), ("dino", dino_pixels)])
def test_pixels_are_those_that_the_authors_score(name, pixels):
    ours = pixels(golden_picture("thing_b_2", 272, 300), 224)
    torch.testing.assert_close(ours[:, ::8, ::8], STORED[f"{name}_preprocess(thing_b/2)"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("prompt", "caption"), CASE["captions"])
def test_captions_are_cut_out_of_file_names(prompt, caption):
    assert concept101.authors_caption(prompt) == caption


def coded(name):
    """A picture that the stubs below recognise."""
    return Image.new("RGB", (SIDE, SIDE), (NAMES.index(f"Stub|{name}"), 0, 0))


def recognised(pictures, encoder):
    names = [NAMES[picture.getpixel((0, 0))[0]].removeprefix("Stub|") for picture in pictures]
    return F.normalize(torch.stack([STORED[f"{encoder}|{name}"] for name in names]), dim=-1)


class Clip:
    def pictures(self, pictures):
        return recognised(pictures, "Stub")

    pictures_as_clip = pictures

    def texts(self, texts):
        return F.normalize(torch.stack([STORED[f"text|{text}"] for text in texts]), dim=-1)


class Dino:
    def pictures(self, pictures):
        return recognised(pictures, "Dino")


class Drawer:
    """Draws what the authors' run has under that prompt."""

    fingerprint, base_fingerprint = "weights", "models"

    def __init__(self):
        self.shown = []

    def select(self, reference):
        self.shown.append(reference)
        return reference.words

    def draw(self, selections, prompts, seeds, sampling):
        return [coded(f"out/comb_{prompt.split()[-1].rstrip('.')}/{prompt}_gen.png") for prompt in prompts]


@pytest.fixture
def published(tmp_path):
    """The case's concepts and prompts in the layout that the authors publish."""
    params, folder = CASE["params"], tmp_path / "customconcept101"
    for concept, count in params["references"].items():
        for part in ("benchmark_dataset", "json_data"):
            (folder / part / concept).mkdir(parents=True)
        for number in range(count):
            coded(f"benchmark_dataset/{concept}/{number}.png").save(folder / "benchmark_dataset" / concept / f"{number}.png")
            told = {"mask": [{"value": 0}, {"value": 1, "label": "thing", "box": [10, 20, 400.5, 800.2]}]}
            (folder / "json_data" / concept / f"{number}.json").write_text(json.dumps(told))
    (folder / "prompts").mkdir()
    listed = []
    for number, (first, second, _) in enumerate(params["combos"]):
        file = folder / "prompts" / f"{number}.txt"
        file.write_text("".join(f"prompt {k} for combo {number}.\n" for k in range(params["prompts_per_combo"])))
        concepts = [{"class_prompt": name[-1], "instance_data_dir": f"./benchmark_dataset/{name}"} for name in (first, second)]
        listed.append([*concepts, {"prompt_filename_compose": f"prompts/{number}.txt"}])
    (folder / "dataset_multiconcept.json").write_text(json.dumps(listed))
    return folder


def test_the_authors_scores_come_out_and_ours_stand_beside_them(published, tmp_path):
    entries = datasets.customconcept101(published, several=True)
    scheme, drawer, out = concept101.scheme(published, entries), Drawer(), tmp_path / "out"
    assert harness.draw(entries, drawer, out, concept101.PROTOCOL, scheme=scheme) == 12
    report = harness.score(entries, out, concept101.PROTOCOL, Clip(), Dino(), scheme)
    expected = CASE["params"]["scores"]
    assert report["means"]["authors"] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert {name: report["means"][name] for name in ("clip_i", "dino")} == pytest.approx(
        {name: expected[name] for name in ("clip_i", "dino")}, rel=1e-5, abs=1e-6
    )
    for row, line in zip(report["entries"], CASE["params"]["per_combo_log"], strict=True):
        told = [float(part.split(": ")[1]) for part in line.split(", ")[1:]]
        assert [row["authors"][name] for name in ("clip_t", "clip_i", "dino")] == pytest.approx(told, abs=5e-5)
    cosines = [
        (Clip().texts([prompt]) @ recognised([coded(f"out/comb_{number}/{prompt}_gen.png")], "Stub").T).item()
        for number, entry in enumerate(entries)
        for prompt in entry.prompts
    ]
    assert report["means"]["clip_t"] == pytest.approx(np.mean(cosines), abs=1e-6)

    run = json.loads((out / "run.json").read_text())
    assert run["scores"] == report["means"]
    assert run["protocol"]["negative"].startswith("monochrome")
    assert run["scoring"]["authors"]["clip_t"] == "mean 2.5 * max(cosine, 0) of picture and caption"
    assert "scored as the authors do" in (out / "report.html").read_text()
    assert harness.draw(entries, drawer, out, concept101.PROTOCOL, scheme=scheme) == 0  # a scored run goes on


def test_a_concept_is_shown_by_all_its_pictures_each_cut_to_its_box(published, tmp_path):
    entries = datasets.customconcept101(published, several=True)
    drawer = Drawer()
    harness.draw(entries, drawer, tmp_path / "out", concept101.PROTOCOL, scheme=concept101.scheme(published, entries))
    assert {one.words: 1 + len(one.more) for one in drawer.shown} == {"a": 3, "b": 5, "c": 2}
    for picture in (drawer.shown[0].picture, *drawer.shown[0].more):
        assert picture.size == (224, 224)
        columns = ~(np.asarray(picture) == 255).all(axis=-1).all(axis=0)
        assert columns.sum() == int(224 * 390 / 780)


def test_pictures_drawn_from_other_boxes_are_another_run(published, tmp_path):
    entries = datasets.customconcept101(published, several=True)
    harness.draw(entries, Drawer(), tmp_path / "out", concept101.PROTOCOL, scheme=concept101.scheme(published, entries))
    (published / "json_data" / "thing_a" / "1.json").write_text('{"mask": [{}, {"box": [0, 0, 5, 5]}]}')
    with pytest.raises(ValueError, match="another run"):
        harness.draw(entries, Drawer(), tmp_path / "out", concept101.PROTOCOL, scheme=concept101.scheme(published, entries))
    with pytest.raises(ValueError, match="another run"):
        harness.draw(entries, Drawer(), tmp_path / "out", concept101.PROTOCOL)


def test_equal_prompts_have_one_file_there_and_are_drawn_and_scored_twice_here(published, tmp_path):
    prompts = ["prompt 0 for combo 0.", "prompt 1 for combo 0.", "prompt 0 for combo 0."]
    (published / "prompts" / "0.txt").write_text("\n".join(prompts))
    entries = datasets.customconcept101(published, several=True)[:1]
    scheme, out = concept101.scheme(published, entries), tmp_path / "out"
    assert harness.draw(entries, Drawer(), out, concept101.PROTOCOL, scheme=scheme) == 3
    (row,) = harness.score(entries, out, concept101.PROTOCOL, Clip(), Dino(), scheme)["entries"]
    cosines = [(Clip().texts([p]) @ recognised([coded(f"out/comb_0/{p}_gen.png")], "Stub").T).item() for p in prompts]
    assert row["clip_t"] == pytest.approx(np.mean(cosines), abs=1e-6)
    assert row["authors"]["clip_t"] == pytest.approx(2.5 * np.mean(np.clip(cosines[:2], 0, None)), abs=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"1\.json is no JSON"),
        ('{"mask": [{}]}', r"1\.json tells no box \(IndexError"),
        ('{"mask": [{}, {"box": [1, 2, 3]}]}', "its box has 3 numbers"),
        ('{"mask": [{}, {"box": [1, 2, 3, "x"]}]}', "an edge of the box is 'x'"),
        ('{"mask": {}}', "KeyError"),
    ],
)
def test_a_missing_box_is_told_before_anything_is_drawn(published, content, message):
    (published / "json_data" / "thing_a" / "1.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        concept101.scheme(published, datasets.customconcept101(published, several=True))
    (published / "json_data" / "thing_a" / "1.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.json"):
        concept101.scheme(published, datasets.customconcept101(published, several=True))
