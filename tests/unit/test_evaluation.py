"""The benchmarks' harness on a small folder in the authors' layouts, and the drawn world's measurements."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_core.cli import main
from ssr_core.evaluation import datasets, drawn, harness, rows, scorers, selectivity, ssr
from ssr_core.evaluation.report import page, plot, table
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.subject import Subject
from ssr_core.mini import files
from ssr_core.mini.scene import draw, random_cast, random_scene
from ssr_core.words import Word

LISTED = """Classes
subject_name,class
backpack,backpack
dog2,dog

Prompts
prompt_list = [
'a {0} {1} in the jungle'.format(unique_token, class_token),
'a {0} {1} on the beach'.format(unique_token, class_token),
]

prompt_list = [
'a {0} {1} wearing a red hat'.format(unique_token, class_token),
'a {0} {1} on the beach'.format(unique_token, class_token),
]
"""


def pictures(folder, count, seed=0):
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    for number in range(count):
        random_scene(rng, random_cast(rng, 1)).drawn.picture.save(folder / f"{number:02}.jpg")


@pytest.fixture(scope="module")
def dreambench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dreambooth")
    pictures(folder / "dataset" / "backpack", 3)
    pictures(folder / "dataset" / "dog2", 2, seed=1)
    (folder / "prompts_and_classes.txt").write_text(LISTED)
    return folder


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """A tiny CLIP and a tiny DINO as folders of transformers."""
    from transformers import CLIPImageProcessor, ViTConfig, ViTModel

    from ssr_core.hosts.diffusers import mini
    from ssr_core.mini.vocabulary import tokenizer

    folder = tmp_path_factory.mktemp("judges")
    torch.manual_seed(0)
    mini.clip().save_pretrained(folder / "clip")
    tokenizer().save_pretrained(folder / "clip")
    CLIPImageProcessor(size={"shortest_edge": 128}, crop_size=128).save_pretrained(folder / "clip")
    shape = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    ViTModel(shape, add_pooling_layer=False).save_pretrained(folder / "dino")
    return folder


def test_dreambench_is_read_as_its_authors_publish_it(dreambench, tmp_path):
    objects, live = datasets.dreambench(dreambench)
    assert objects.prompts == ("a backpack in the jungle", "a backpack on the beach")
    assert live.prompts == ("a dog wearing a red hat", "a dog on the beach")
    assert [concept.word for concept in (*objects.concepts, *live.concepts)] == ["backpack", "dog"]
    assert [path.stem for path in objects.concepts[0].pictures] == ["00", "01", "02"]
    chosen = tmp_path / "references.json"
    chosen.write_text(json.dumps({"backpack": "02"}))
    objects, live = datasets.dreambench(dreambench, chosen)
    assert [path.stem for path in objects.concepts[0].pictures] == ["02", "00", "01"]


def test_customconcept101_is_read_alone_and_in_pairs(tmp_path):
    for name in ("cat", "boot"):
        pictures(tmp_path / "benchmark_dataset" / name, 2)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "pet.txt").write_text("a {} on a sofa\n\nphoto of a {}\n")
    (tmp_path / "prompts" / "pair.txt").write_text("{} beside {}\n")
    described = [
        {
            "class_prompt": name,
            "instance_data_dir": f"./benchmark_dataset/{name}",
            "prompt_filename": "../customconcept101/prompts/pet.txt",
        }
        for name in ("cat", "boot")
    ]
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    (tmp_path / "dataset_multiconcept.json").write_text(
        json.dumps([[*described, {"prompt_filename_compose": "prompts/pair.txt"}]])
    )
    alone = datasets.customconcept101(tmp_path)
    assert [entry.prompts for entry in alone] == [
        ("a cat on a sofa", "photo of a cat"),
        ("a boot on a sofa", "photo of a boot"),
    ]
    (pair,) = datasets.customconcept101(tmp_path, several=True)
    assert (pair.name, pair.prompts) == ("cat+boot", ("cat beside boot",))
    assert [concept.name for concept in pair.concepts] == ["cat", "boot"]
    (tmp_path / "prompts" / "pair.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no prompts/pair\.txt"):
        datasets.customconcept101(tmp_path, several=True)


def evaluate(dreambench, out, *more):
    common = ["--data", str(dreambench), "--out", str(out), "--size", "64", "--steps", "2", "--per-prompt", "2"]
    return main(["evaluate", "dreambench", *common, *more])


def test_shards_draw_what_one_process_draws_and_go_on_where_they_stopped(dreambench, judges, tmp_path, capsys):
    scored = ["--clip", str(judges / "clip"), "--dino", str(judges / "dino")]
    assert evaluate(dreambench, tmp_path / "one", *scored) == 0
    for shard in ("1/2", "2/2"):
        assert evaluate(dreambench, tmp_path / "two", "--shard", shard, "--draw-only") == 0
    drawn = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    assert len(drawn) == 2 * 2 * 2
    for path in drawn:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()

    kept, lost = tmp_path / "two" / drawn[0], tmp_path / "two" / drawn[1]
    stamp, content = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert evaluate(dreambench, tmp_path / "two", "--shard", "1/2", "--draw-only") == 0
    assert evaluate(dreambench, tmp_path / "two", *scored) == 0
    assert kept.stat().st_mtime_ns == stamp
    assert lost.read_bytes() == content
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")]
    assert reports[0] == reports[1]
    shown = (tmp_path / "one" / "report.html").read_text()
    assert shown.count("<img") >= 6
    assert "a dog wearing a red hat" in shown
    assert evaluate(dreambench, tmp_path / "one", *scored, "--strength", "0.1") == 2
    assert "another run" in capsys.readouterr().err


def test_scores_are_what_their_definitions_say(dreambench, judges, tmp_path):
    entries = datasets.dreambench(dreambench)
    base = load_base("mini")
    encoder = formats.load([files.FOLDER / files.ENCODER], dtype=torch.float32)
    protocol = harness.Protocol(per_prompt=2, steps=1, size=64)
    harness.draw(entries, ssr.SSRDrawer(base, encoder), tmp_path, protocol)
    clip, dino = scorers.load_clip(str(judges / "clip")), scorers.load_dino(str(judges / "dino"))
    report = harness.score(entries, tmp_path, protocol, clip, dino)
    entry, row = entries[0], report["entries"][0]
    drawn = [Image.open(task.path(tmp_path)) for task in harness.tasks([entry], protocol)]
    real = [Image.open(path) for path in entry.concepts[0].pictures]
    expected_t, expected_i, expected_d = [], [], []
    for number, picture in enumerate(drawn):
        (own,), (text,) = clip.pictures([picture]), clip.texts([entry.prompts[number // 2]])
        expected_t.append(float(own @ text))
        expected_i += [float(own @ clip.pictures([other])[0]) for other in real]
        expected_d += [float(dino.pictures([picture])[0] @ dino.pictures([other])[0]) for other in real]
    assert row["clip_t"] == pytest.approx(np.mean(expected_t), abs=1e-5)
    assert row["clip_i"] == pytest.approx(np.mean(expected_i), abs=1e-5)
    assert row["dino"] == pytest.approx(np.mean(expected_d), abs=1e-5)
    assert report["means"]["dino"] == pytest.approx(np.mean([row["dino"] for row in report["entries"]]))
    with pytest.raises(FileNotFoundError, match="pictures are not drawn yet"):
        harness.score(entries, tmp_path, harness.Protocol(per_prompt=3), clip, dino)


def test_clip_sees_a_square_picture_alike_by_either_packages_pixels(judges):
    clip = scorers.load_clip(str(judges / "clip"))
    square, oblong = (
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, width, 3), np.uint8)) for width in (128, 183)
    )
    assert torch.allclose(clip.pictures([square]), clip.pictures_as_clip([square]), atol=1e-5)
    assert not torch.allclose(clip.pictures([oblong]), clip.pictures_as_clip([oblong]), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "dreambench"], "needs --data"),
        (["evaluate", "dreambench", "--data", "nowhere"], "needs --clip"),
        (["evaluate", "dreambench", "--data", "nowhere", "--draw-only"], "prompts_and_classes.txt"),
        (["evaluate", "selectivity", "--ablation", "nothing"], "--ablation takes NAME=FILE"),
    ],
)
def test_the_user_reads_what_an_evaluation_needs(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def looking_at(wanted):
    """A subject whose attention lies exactly on an object, in proportion to how much of each patch it covers."""
    mask = Image.fromarray(wanted.scene.drawn.masks[wanted.index]).resize((16, 16), Image.Resampling.BOX)
    patches = torch.from_numpy(np.asarray(mask).astype(np.float32)).flatten()
    attention = torch.cat([torch.zeros(1), patches]).expand(77, -1)
    tokens, picture = torch.zeros(462, 8), torch.zeros(128, 128, 3, dtype=torch.uint8)
    return Subject(tokens, tokens, attention, picture, wanted.kind, (Word(wanted.kind, 1, 2),), "", (128, 128))


def test_map_mass_is_the_share_of_attention_inside_the_object():
    (case,) = selectivity.cases(1, objects=2)
    wanted, other = (selectivity.Wanted(case.wanted[0].scene, index) for index in (0, 1))
    assert selectivity.map_mass(looking_at(wanted), wanted) > 0.75  # patches on the rim are covered in part
    assert selectivity.map_mass(looking_at(other), wanted) < 0.05


def test_a_perfect_copy_of_the_queried_object_scores_full_marks():
    """Measured on pictures that the world draws itself: the look asked for, then a neighbour's."""
    for case in selectivity.cases(6, objects=4):
        wanted = case.wanted[0]
        for index, right in ((wanted.index, True), ((wanted.index + 1) % 4, False)):
            look = wanted.scene.things[index].instance.look
            instance = type(wanted.scene.things[0].instance)(wanted.kind, look)
            picture = draw(random_scene(random.Random(1), [instance], case.background)).picture
            outcome = selectivity.measure(case, picture, (looking_at(wanted),))
            assert outcome.prompt_obeyed
            assert outcome.look_right == (right,)
            assert outcome.colours_right == (right,) or not right


def test_cases_ask_for_instances_that_training_never_saw_on_other_backgrounds():
    for case in selectivity.cases(20, objects=3, subjects=2):
        assert len(case.wanted) == 2
        for wanted in case.wanted:
            assert all(thing.instance.held_out for thing in wanted.scene.things)
            assert wanted.scene.background != case.background
            assert wanted.kind in case.prompt


@pytest.fixture
def tables(monkeypatch):
    """SSR Mini's tables with few rows that are drawn in a step; `ran` lists the settings that were measured."""
    monkeypatch.setattr(ssr, "STRENGTHS", (0.0, 1.0))
    monkeypatch.setattr(ssr, "SHOWN", 1)
    encoder = formats.load([files.find(files.FOLDER, files.ENCODER)], dtype=torch.float32)
    ran = []

    def counted(drawer, wanted, setting):
        ran.append(setting)
        return selectivity.run(drawer, wanted, replace(setting, steps=1))

    monkeypatch.setattr(drawn, "run", counted)
    made = ssr.tables(load_base("mini"), {"": encoder}, ssr.rows({}))
    return made, encoder, ran


def test_the_table_goes_on_where_it_stopped_and_replaces_another_encoders_only_when_told(tables, tmp_path):
    tables, encoder, ran = tables
    names = rows.chosen(tables.rows, ["text-*", "strength", "pictures"])
    assert names == ["text-2", "text-3", "text-4", "strength-0", "strength-1", "pictures-4", "pictures-two-subjects"]
    first = drawn.report(tables, names, 1, tmp_path)
    assert len(ran) == len(names)
    assert json.loads((tmp_path / "selectivity.json").read_text()) == first
    ran.clear()
    assert drawn.report(tables, names, 1, tmp_path) == first
    assert not ran
    encoder.fingerprint = "another"
    with pytest.raises(ValueError, match='"text query, 2 objects" of other weights'):
        drawn.report(tables, names, 1, tmp_path)
    assert not ran
    assert drawn.report(tables, names, 1, tmp_path, force=True) != first
    assert len(ran) == len(names)
    assert "<figure>" in (tmp_path / "pictures-4.html").read_text()
    assert "pictures-4.html" in (tmp_path / "selectivity.html").read_text()
    assert (tmp_path / "strength.svg").read_text().startswith("<svg xmlns=")


def test_rows_measured_later_join_those_of_before_in_the_tables_order(tables, tmp_path):
    tables, _, ran = tables
    later = drawn.report(tables, ["text-3"], 1, tmp_path)["queries"]["text query, 3 objects"]
    found = drawn.report(tables, ["no-subject-1", "text-2"], 1, tmp_path)
    assert len(ran) == 3
    assert list(found["queries"].items())[1] == ("text query, 3 objects", later)
    assert list(found) == ["method", "queries", "baseline"]
    page = (tmp_path / "selectivity.html").read_text()
    assert page.index("text query, 2") < page.index("text query, 3") < page.index("no subject, 1")
    with pytest.raises(ValueError, match='"text query, 2 objects" of other weights, cases'):
        drawn.report(tables, ["text-2"], 2, tmp_path)


def test_every_row_has_a_name_that_lists_and_errors_tell(capsys, tmp_path):
    described = ssr.rows({"no query": "nothing"})
    titles = [(row.table, row.title) for row in described.values()]
    assert len(set(titles)) == len(titles)
    assert all(" " not in name for name in described)
    assert rows.chosen(described, []) == list(described)
    assert rows.chosen(described, ["ablations"]) == ["ablation-no-query-2", "ablation-no-query-4"]
    assert main(["evaluate", "selectivity", "--rows", "help"]) == 0
    assert "  subjects: joint-2 separate-2 by-word-2" in capsys.readouterr().out
    assert main(["evaluate", "selectivity", "--rows", "nothing", "--out", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert 'no row or table "nothing"' in said
    assert "strength-1.5" in said
    assert not (tmp_path / "new").exists()


def test_a_folder_of_another_methods_tables_is_left_alone(tables, tmp_path):
    tables, _, ran = tables
    (tmp_path / "selectivity.json").write_text(json.dumps({"method": "mip", "objects": {}}))
    with pytest.raises(ValueError, match="holds tables 'mip', not 'ssr'"):
        drawn.report(tables, ["text-2"], 1, tmp_path)
    for rows_of in ({"x": {}}, {"x": {"encoder": "", "base": "", "cases": 1, "look": "<b>"}}, {"x": 1}, []):
        (tmp_path / "selectivity.json").write_text(json.dumps({"method": "ssr", "queries": rows_of}))
        with pytest.raises(ValueError, match="holds no table of this command"):
            drawn.report(tables, ["text-2"], 1, tmp_path)
    assert not ran


def test_reports_escape_what_they_show_and_plot_every_point():
    assert "&lt;script&gt;" in page("<script>", [table(["<b>"], [["<i>"]])])
    curve = plot({"look": [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]}, "strength")
    assert curve.count(",") == 3
