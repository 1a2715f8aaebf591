"""The example workflows by the names that they had at first, which say what is in them in a word."""

from __future__ import annotations

import ast
from pathlib import Path

from support import comfy_host

FOLDER = comfy_host.PACK / "example_workflows"


def _former_names() -> dict[str, str]:
    """As nodes/templates.py tells them; read from its text, as the package needs a host."""
    tree = ast.parse((comfy_host.PACK / "nodes" / "templates.py").read_text(encoding="utf-8"))
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "FORMERLY"
    )
    return ast.literal_eval(table)


FORMERLY = _former_names()


def path_of(former: str) -> Path:
    return FOLDER / f"{FORMERLY[former]}.json"


def former_name(path: Path) -> str:
    """What a template was called; its name if it has always had it."""
    return next((former for former, name in FORMERLY.items() if name == path.stem), path.stem)
