"""The templates' pictures: reference -> result, as the template browser shows them. python -m benchmarks.templates.thumbnails

Mini's templates are run for them on a server of its own. A template that needs weights shows what Mini draws in a graph of the same kind; a
line on the picture says so.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ssr_core.mini.scene import example_scenes

from .__main__ import FOLDER, TEMPLATES
from .content import Template
from .graph import ROOT

SIZE = (600, 400)
SIDE = 250
MOST = 2
"""References in a thumbnail."""
LEARNED_FROM = {"ssr_mini_lasr_learned": (20,)}
"""Mini Scenes of one object, from which the first subject was learned that a template loads (ssr_core/mini/weights/README.md)."""
BACKGROUND, INK = (24, 26, 30), (235, 235, 235)


def composed(references: list[Image.Image], result: Image.Image, told: str) -> Image.Image:
    """One or several references on the left, an arrow, the result on the right; told: a line below, or ""."""
    sheet = Image.new("RGB", SIZE, BACKGROUND)
    drawing = ImageDraw.Draw(sheet)
    side = SIDE if len(references) == 1 else (SIDE + 2 * 6) // 2
    top = (SIZE[1] - SIDE) // 2 - (12 if told else 0)
    total = side * len(references) + 6 * (len(references) - 1)
    for number, picture in enumerate(references):
        sheet.paste(_square(picture, side), (20, top + (SIDE - total) // 2 + number * (side + 6)))
    left = 20 + side
    right = SIZE[0] - 20 - SIDE if len(references) == 1 else SIZE[0] - 40 - SIDE
    middle = top + SIDE // 2
    drawing.line((left + 14, middle, right - 22, middle), fill=INK, width=6)
    drawing.polygon([(right - 32, middle - 14), (right - 32, middle + 14), (right - 10, middle)], fill=INK)
    sheet.paste(_square(result, SIDE), (right, top))
    if told:
        drawing.text((SIZE[0] / 2, SIZE[1] - 40), told, fill=INK, font=ImageFont.load_default(20), anchor="mm")
    return sheet


def _square(picture: Image.Image, side: int) -> Image.Image:
    """Its middle. Small pictures are enlarged pixel by pixel."""
    edge = min(picture.size)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    how = Image.Resampling.NEAREST if edge < side else Image.Resampling.LANCZOS
    return picture.crop((left, top, left + edge, top + edge)).resize((side, side), how)


def run(server: Any, template: Template) -> tuple[list[Image.Image], Image.Image]:
    """The references and the result of a template that runs without weights."""
    from support.workflow import to_prompt

    workflow = json.loads((FOLDER / f"{template.name}.json").read_text(encoding="utf-8"))
    history = server.run(to_prompt(workflow, server.get("/object_info")))["outputs"]
    kinds = {str(node["id"]): node["type"] for node in workflow["nodes"]}
    pictures: dict[str, list[Image.Image]] = {}
    for node, output in history.items():
        for file in output.get("images", []):
            pictures.setdefault(kinds[node], []).append(
                Image.open(server.base / file["type"] / file["filename"]).convert("RGB")
            )
    learned_from = [example_scenes(number, 1)[0].drawn.picture for number in LEARNED_FROM.get(template.formerly, ())]
    return pictures.get("SSR_MiniScene", learned_from)[:MOST], pictures["SaveImage"][0]


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from support.server import running

    drawn = {}
    with tempfile.TemporaryDirectory() as base, running(Path(base), "--fp32-text-enc") as server:
        for template in TEMPLATES:
            if template.shown is None:
                drawn[template.formerly] = run(server, template)
    for template in TEMPLATES:
        references, result = drawn[template.shown or template.formerly]
        told = "what SSR Mini draws in such a graph" if template.shown else ""
        composed(references, result, told).save(FOLDER / f"{template.name}.jpg", quality=85)


if __name__ == "__main__":
    main()
