"""A copy of the pack with the method of docs/a_fifth_method.md in it, as somebody makes it who has only that page and the code."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

PACK = Path(__file__).parents[2]
PAGE = PACK / "docs" / "a_fifth_method.md"
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "tests", "docs", "benchmarks", "node_modules")
ADDED = ", added"
"""Behind the path of a block that is no whole file."""


def blocks() -> dict[str, str]:
    """The page's blocks of Python: by the path at their head, and "" for the one without, which draws."""
    found = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        head = re.match(r"# (\S+\.py(?:, added)?)\n", block)
        found[head[1] if head else ""] = block[head.end() :] if head else block
    return found


def copy(into: Path) -> Path:
    """The pack's files, linked, with the page's among them."""
    pack = into / "ComfyUI-SSR-Encoder"
    shutil.copytree(
        PACK, pack, ignore=shutil.ignore_patterns(*LEFT_OUT), copy_function=lambda one, other: Path(other).symlink_to(one)
    )
    for name, text in blocks().items():
        path = pack / name.removesuffix(ADDED)
        if not name:
            continue
        if name.endswith(ADDED):
            text = _with(path.read_text(encoding="utf-8"), text)
            path.unlink()  # the link
        elif path.exists():
            raise FileExistsError(
                f"{name} is the page's own example, and the pack has a file of that name. Call that one something else."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return pack


def _with(text: str, added: str) -> str:
    """A file with more imports and more entries in a list that it has, or with more at its end."""
    if (found := re.search(r"^(\w+: .* = \[\n)(.*?)^\]", added, re.DOTALL | re.MULTILINE)) is None:
        return f"{text}\n{added}"
    imports = "".join(line for line in added.splitlines(keepends=True) if line.startswith("from "))
    head, entries = found.groups()
    assert head in text
    text = text.replace(head, imports + "\n" + head)
    start = text.index(head)
    stop = text.index("\n]", start) + 1
    return text[:stop] + entries + text[stop:]
