"""The core stands alone, and importing the pack costs a host nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).parents[2]


def run(script):
    command = [sys.executable, "-B", "-c", script, str(PACK)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_core_imports_no_host_and_writes_no_file():
    finished = run("""
import importlib, os, pathlib, sys
import numpy, pydantic, torch, PIL.Image, safetensors.torch, torch.nn.functional  # what it stands on may do as it likes

written = []

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(path)
    elif event in ("os.mkdir", "os.rename", "os.remove", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp"):
        written.append((event, arguments))

sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
sys.addaudithook(watch)
import ssr_core
folder = pathlib.Path(sys.argv[1])
files = [path.relative_to(folder).with_suffix("") for path in folder.glob("ssr_core/**/*.py")]
names = sorted(".".join(file.parts).removesuffix(".__init__") for file in files)
extras = (
    "ssr_core.hosts", "ssr_core.training", "ssr_core.evaluation", "ssr_core.pretrain", "ssr_core.demo", "ssr_core.cli.drawing",
    "ssr_core.cli.learning", "ssr_core.cli.benchmarks", "ssr_core.cli.selectivity", "ssr_core.cli.compare",
)
names = [name for name in names if not name.startswith(extras) and not name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
assert not written, written
assert len(names) > 10, names
hosts = {"comfy", "comfy_api", "folder_paths", "nodes", "execution", "diffusers", "transformers", "accelerate"}
assert not hosts & {name.split(".")[0] for name in sys.modules}, hosts & set(sys.modules)
# argparse, hashlib and the like; nothing else that a user would have to install
installed = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names) - {"ssr_core"}
allowed = {"numpy", "torch", "PIL", "safetensors", "pydantic", "annotated_types"}  # the last is pydantic's
assert installed <= allowed, installed - allowed
""")
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    ("part", "own"),
    [
        ("training", ("ssr.py", "mip.py", "fresh_adapter.py", "elite", "methods.py")),
        ("evaluation", ("ssr.py", "mip", "elite", "lasr", "learned.py", "compare")),
    ],
)
def test_what_training_and_evaluation_share_imports_no_method(part, own):
    shared = [path for path in (PACK / "ssr_core" / part).glob("*.py") if not path.name.startswith(own)]
    assert len(shared) > 5
    for path in shared:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported = {*(node.module or "").split("."), *(name.name for name in node.names)}
                assert not imported & {"ssr", "encoder", "aligner", "encode", "subject", "formats", "attach"}, path.name


def test_the_packs_own_file_imports_nothing_heavy():
    finished = run("""
import importlib.util, pathlib, sys
pack = pathlib.Path(sys.argv[1])
spec = importlib.util.spec_from_file_location("a_pack", pack / "__init__.py", submodule_search_locations=[str(pack)])
module = importlib.util.module_from_spec(spec)
sys.modules["a_pack"] = module
before = set(sys.modules)
spec.loader.exec_module(module)
added = {name.split(".")[0] for name in set(sys.modules) - before}
assert added <= set(sys.stdlib_module_names), added
assert not {"torch", "numpy", "comfy", "ssr_core"} & set(sys.modules)
assert not [name for name in sys.modules if name.startswith("a_pack.")]
assert callable(module.comfy_entrypoint)
assert (pack / module.WEB_DIRECTORY).is_dir()
""")
    assert finished.returncode == 0, finished.stderr
