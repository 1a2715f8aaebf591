"""Import guard: every name of the host's modules that the pack's files use exists in this host, and calls of one can be bound.

Methods of the host's objects (a MODEL's, a guider's) are not seen here; the other host tests call them.
"""

import ast
import importlib
import inspect
from functools import cache

import pytest
from support import comfy_host

HOST = ("comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths")
NEWER = {"comfy_api.latest.io.NodeReplace"}
"""What only the newer host has, used only where that host calls it (Extension.on_load)."""
FILES = sorted(
    path
    for folder in ("nodes", "ssr_core/hosts/comfyui")
    for path in (comfy_host.PACK / folder).rglob("*.py")
    if "import" in path.read_text(encoding="utf-8")
)


@cache
def resolved(dotted):
    """The host's object of that name: the longest part that is a module, and attributes from there on."""
    comfy_host.pack()
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise AttributeError(dotted)


def imported(tree):
    """Local names that stand for something of the host: {"io": "comfy_api.latest.io", "comfy": "comfy", ...}."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names |= {alias.asname or top: alias.name if alias.asname else top} if top in HOST else {}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in HOST:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node, names):
    """ "comfy.utils.x" for such an expression if it begins with a name of the host, else None."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([names[node.id], *reversed(parts)]) if isinstance(node, ast.Name) and node.id in names else None


def uses(path):
    """(what, line, call or None) of every use of the host in a file, imports among them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = imported(tree)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for name in names.values():
        yield name, 1, None
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner and (what := dotted(node, names)):
            yield what, node.lineno, calls.get(id(node))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(comfy_host.PACK).as_posix())
def test_the_host_has_what_the_file_uses(path):
    wrong = []
    for what, line, call in uses(path):
        if what in NEWER and not hasattr(resolved(what.rpartition(".")[0]), what.rpartition(".")[2]):
            continue
        try:
            found = resolved(what)
            if call is not None and not any(isinstance(argument, ast.Starred) for argument in call.args):
                named = {keyword.arg: None for keyword in call.keywords if keyword.arg is not None}
                bind = (
                    inspect.signature(found).bind
                    if not any(word.arg is None for word in call.keywords)
                    else (lambda *_, **__: 0)
                )
                bind(*call.args, **named)
        except (AttributeError, TypeError, ImportError) as error:
            wrong.append(f"line {line}: {what}: {error}")
        except ValueError:
            pass  # a class of C without a signature
    assert wrong == []


def test_the_guard_sees_the_hosts_names_and_calls():
    found = {what for path in FILES for what, _, _ in uses(path)}
    assert {"comfy.model_management.load_models_gpu", "folder_paths.get_full_path", "comfy_api.latest.io.Model.Input"} <= found
    with pytest.raises(AttributeError):
        resolved("comfy.model_management.no_such_name")
