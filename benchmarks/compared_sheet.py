"""What the methods draw of the same subjects, in one picture: python benchmarks/compared_sheet.py OUT docs/compare.jpg

OUT: a folder of `ssr-encoder evaluate compare` with the rows "pictures-*". A row for each subject, a column for each method that was drawn.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
from pathlib import Path

from PIL import Image

from ssr_core.evaluation.compare import METHODS, PAGES
from ssr_core.sheet import Labelled, sheet

SIDE, QUALITY = 128, 88
PICTURES = re.compile(r'src="data:image/[a-z]+;base64,([^"]+)"')
OF_A_CASE = 3
"""Pictures of a page for each case: the reference, what is selected in it, and what was drawn."""


def cases(page: Path) -> list[list[Image.Image]]:
    """The pictures of every case."""
    found = [Image.open(io.BytesIO(base64.b64decode(one))) for one in PICTURES.findall(page.read_text(encoding="utf-8"))]
    return [found[start : start + OF_A_CASE] for start in range(0, len(found), OF_A_CASE)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    instances, prompts = PAGES
    rows: list[list[Labelled]] = []
    for short, method in METHODS.items():
        if not (page := options.out / f"pictures-{short}.html").is_file():
            continue
        found = cases(page)[::prompts]
        if not rows:
            rows.append([("reference", reference) for reference, _, _ in found])
        rows.append([(method.title if not place else "", drawn) for place, (*_, drawn) in enumerate(found)])
    assert all(len(row) == instances for row in rows)
    sheet([list(column) for column in zip(*rows, strict=True)], SIDE).save(options.picture, quality=QUALITY)


if __name__ == "__main__":
    main()
