"""The example workflows as files: made from their descriptions, complete, with photographs that may be shipped."""

import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.templates import FOLDER, FORMERLY

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks.templates.__main__ import TEMPLATES  # noqa: E402
from ssr_core import examples  # noqa: E402


def test_every_template_is_described_and_has_a_thumbnail():
    named = {template.name for template in TEMPLATES}
    assert {path.stem for path in FOLDER.glob("*.json")} == named
    assert {path.stem for path in FOLDER.glob("*.jpg")} == named
    assert {template.formerly: template.name for template in TEMPLATES if not template.app} == FORMERLY


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.formerly)
def test_a_title_is_numbered_and_a_note_is_short(template):
    assert re.match(r"\d\d \w", template.name)
    workflow = json.loads((FOLDER / f"{template.name}.json").read_text(encoding="utf-8"))
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    assert len(note["widgets_values"][0]) < 500
    assert "ds" not in workflow["extra"], "it opens with everything in sight"
    with Image.open(FOLDER / f"{template.name}.jpg") as thumbnail:
        assert min(thumbnail.size) >= 300
        assert len(set(thumbnail.resize((60, 40)).getdata())) > 100


def test_photographs_are_small_and_credited():
    credits = (examples.FOLDER / "CREDITS.md").read_text(encoding="utf-8")
    photographs = sorted(examples.FOLDER.glob("*.jpg"))
    assert {path.name for path in photographs} == {one.file for one in examples.EXAMPLES.values()}
    for path in photographs:
        assert path.stat().st_size <= 150_000
        (row,) = re.findall(rf"^\| `{path.name}` \|.*$", credits, re.MULTILINE)
        assert re.search(r"\| (CC0 1\.0|public domain) \|", row)


def test_one_photograph_has_two_things_to_choose_from():
    files = [one.file for one in examples.EXAMPLES.values()]
    assert len(files) > len(set(files))
    cup, spoon = (examples.example(name)[1] for name in ("cup", "spoon"))
    assert (cup * spoon).sum() < 0.2 * min(cup.sum(), spoon.sum())
