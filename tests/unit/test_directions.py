"""Imports go one way: nodes, cli -> training, evaluation, demo -> hosts -> methods -> the shared vocabulary.

Read from the source, imports inside functions included: what is only imported late is a circle all the same.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

PACK = Path(__file__).parents[2]
LEVELS = (
    {"ssr_core.cli", "ssr_core.pretrain", "nodes", "install"},
    {"ssr_core.training", "ssr_core.evaluation", "ssr_core.demo"},
    {"ssr_core.hosts", "ssr_core.weights", "ssr_core.weight_structure", "ssr_core.checkpoints"},
    {"ssr_core.methods"},
    {"ssr_core"},
)
"""From the top to the shared vocabulary, which is all that stands in ssr_core itself, and mini."""
APART = ("ssr_core.methods", "ssr_core.hosts")
"""Folders in which one tenant knows nothing of another."""


def level_of(module):
    return next(number for number, names in enumerate(LEVELS) if any(f"{module}.".startswith(f"{name}.") for name in names))


def modules():
    """Module name -> its syntax tree and the package that relative imports start from."""
    found = {}
    for path in (*PACK.glob("ssr_core/**/*.py"), *PACK.glob("nodes/**/*.py")):
        parts = path.relative_to(PACK).with_suffix("").parts
        package = parts[:-1]
        name = ".".join(package if parts[-1] == "__init__" else parts)
        found[name] = (ast.parse(path.read_text(encoding="utf-8")), package)
    return found


def imports():
    """Module name -> modules of the pack that it imports."""
    known, edges = modules(), defaultdict(set)
    for name, (tree, package) in known.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = ".".join((*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else ())))
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    edges[name].add(whole if whole in known else base)
            elif isinstance(node, ast.ImportFrom | ast.Import):
                named = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                edges[name].update(one for one in named if one and one.split(".")[0] in ("ssr_core", "nodes"))
    return edges


def test_no_file_imports_one_that_stands_above_it():
    edges = imports()
    assert len(edges) > 80
    upwards = {f"{one} -> {other}" for one, others in edges.items() for other in others if level_of(other) < level_of(one)}
    assert not upwards


@pytest.mark.parametrize("folder", APART)
def test_tenants_of_a_folder_do_not_know_each_other(folder):
    def tenant(module):
        return module.removeprefix(f"{folder}.").split(".")[0] if module.startswith(f"{folder}.") else None

    met = {
        f"{one} -> {other}"
        for one, others in imports().items()
        for other in others
        if tenant(one) and tenant(other) and tenant(one) != tenant(other)
    }
    assert not met


def test_no_imports_go_round_in_a_circle():
    edges, done, path = imports(), set(), []

    def visit(module):
        if module in path:
            pytest.fail(" -> ".join((*path[path.index(module) :], module)))
        if module not in done:
            path.append(module)
            for other in sorted(edges[module]):
                if other != module:
                    visit(other)
            done.add(path.pop())

    for module in sorted(edges):
        visit(module)


@pytest.mark.parametrize("host", ["comfyui", "diffusers"])
def test_a_host_lists_its_files(host):
    folder = PACK / "ssr_core" / "hosts" / host
    listed = set(re.findall(r"^ *(\w+\.py) ", (folder / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {path.name for path in folder.glob("*.py")} - {"__init__.py"}
