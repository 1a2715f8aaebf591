"""The table of neighbours in docs/ links to tests that exist."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "neighbours.md"
METHODS = ["SSR", "MIP", "ELITE", "LASR"]
"""Columns, behind the neighbour and what is shown."""


def test_every_cell_links_to_a_test_that_exists():
    links = re.findall(r"\]\((\.\./[^)#]+)#(\w+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(links) > 50
    missing = [
        (file, name)
        for file, name in links
        if not re.search(rf"^def {name}\(", (PAGE.parent / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []


def rows():
    """The table's rows: neighbour, what is shown, and a cell for each method."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if not line.startswith("|---")]


def test_every_method_has_a_column_and_every_cell_a_test_or_a_reason():
    head, *body = rows()
    assert head[2:] == METHODS
    page = PAGE.read_text(encoding="utf-8")
    reasons, notes = (set(re.findall(rf"^({kind})\. \S", page, re.MULTILINE)) for kind in ("[a-z]", r"\d"))
    used = set()
    for row in body:
        assert len(row) == 2 + len(METHODS), row
        for cell in row[2:]:
            found = re.fullmatch(r"(\[✓\]\([^)]+\)|\[(?P<reason>[a-z])\])( \[(?P<note>\d)\])?", cell)
            assert found, cell
            assert found["reason"] in {None, *reasons}, cell
            assert found["note"] in {None, *notes}, cell
            used.add(found["reason"])
    assert used == {None, *reasons}


def test_every_test_beside_a_neighbour_is_in_the_table():
    """But for refusals and reports, and what a row of the table says in passing."""
    page = PAGE.read_text(encoding="utf-8")
    folder = PAGE.parents[1] / "tests" / "host" / "neighbours"
    names = [
        name for path in folder.glob("test_*.py") for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    ]
    untold = [name for name in names if name not in page]
    assert all(re.search(r"refused|reported|nobody|keys_and_values", name) for name in untold), untold
