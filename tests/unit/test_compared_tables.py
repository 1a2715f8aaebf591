"""What docs/measurements.md and README.md say of the methods side by side is what docs/compare.json holds, and that is of the weights that
are shipped."""

import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from benchmarks.compared_tables import tables  # noqa: E402
from ssr_core.cli import main  # noqa: E402
from ssr_core.evaluation.compare import METHODS, SITUATIONS, STRENGTH, tried  # noqa: E402

FOUND = json.loads((ROOT / "docs" / "compare.json").read_text(encoding="utf-8"))
TABLES = ("alone", "among", "two", "edit", "costs", STRENGTH, "README")
PAGES = {"README": ROOT / "README.md"}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_says_what_was_measured(name):
    page = PAGES.get(name, ROOT / "docs" / "measurements.md")
    assert "\n".join(["", *tables(FOUND)[name], ""]) in page.read_text(encoding="utf-8")


def test_every_cell_is_of_as_many_pictures_as_the_page_says():
    rows = {situation: FOUND[situation] for situation in SITUATIONS}
    assert all(list(found) == [method.title for method in METHODS.values()] for found in rows.values())
    measured = [(situation, row) for situation, found in rows.items() for row in found.values() if "cases" in row]
    assert {row["cases"] for situation, row in measured if situation != "two"} == {200}
    assert {row["cases"] for situation, row in measured if situation == "two"} == {100}
    tries = [tried(method, strength) for method in METHODS.values() for strength in method.strengths]
    assert list(FOUND[STRENGTH]) == tries
    assert {row["cases"] for row in FOUND[STRENGTH].values()} == {30}


def test_it_is_of_the_weights_and_the_code_that_are_here(tmp_path):
    """The command itself would draw nothing anew: what it finds is of these weights, cases and settings."""
    shutil.copy(ROOT / "docs" / "compare.json", tmp_path / "compare.json")
    sizes = ["--instances", "20", "--prompts", "10", "--learning-steps", "300"]
    assert main(["evaluate", "compare", "--out", str(tmp_path), *sizes, "--rows", *SITUATIONS, STRENGTH]) == 0
    assert json.loads((tmp_path / "compare.json").read_text(encoding="utf-8")) == FOUND
    assert (tmp_path / "look_and_prompt.svg").read_bytes() == (ROOT / "docs" / "look_and_prompt.svg").read_bytes()
