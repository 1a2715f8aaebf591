"""The README's examples do what they say: Python's on Mini in place of the models that it names, the tests' line in .ci/run. What it
names is there: the address, the pages, the templates and the nodes."""

import itertools
import random
import re
from pathlib import Path

import pytest
import torch

from ssr_core.hosts.diffusers import generate
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.ssr import formats
from ssr_core.mini import files
from ssr_core.mini.scene import random_cast, random_scene

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_draws_a_picture(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    base = load_base("mini")
    encoder = formats.load([files.find(files.FOLDER, files.ENCODER)], dtype=torch.float32)
    rng = random.Random(0)
    random_scene(rng, random_cast(rng, 2)).drawn.picture.save(tmp_path / "dog.jpg")
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(formats, "load", lambda paths: asked.extend(paths) or encoder)
    for photographed, drawn in (('"dog"', '"cat"'), ("a dog on a beach", "a cat on a sandy beach")):
        assert photographed in example
        example = example.replace(photographed, drawn)
    names = {"pipe": generate.pipeline(base), "clip_vision": base.vision_encoder}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102  (our own example)
    assert [path.name for path in asked] == ["pytorch_model.bin", "pytorch_model_1.bin"]
    assert names["image"].size == (128, 128)


def test_the_command_that_runs_the_tests_is_the_one_that_ci_runs():
    (command,) = re.findall(r"^pip install .*\bpytest\b.*$", README, re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_constraints_give_a_version_to_all_that_a_command_installs():
    """torch too: no command needs another one before it."""
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in asked} - {project["name"]}
    given = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"torch", "pytest"} <= names
    assert names - given.keys() == set()


def section(title):
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    return found


def test_the_address_that_is_copied_is_the_packs_own():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (address,) = re.findall(r'^Repository = "(.+)"$', project, re.MULTILINE)
    (name,) = re.findall(r'^name = "(.+)"$', project, re.MULTILINE)
    blocks = re.findall(r"```\w*\n(.*?)```", section("Install"), re.DOTALL)
    assert blocks[0].strip() == address, "alone in its block, to be copied whole"
    assert f"git clone {address}\n" in blocks[1]
    assert f"comfy node install {name}`" in section("Install")


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_nobody_in_comfyuis_environment_is_told_to_install_another_torch(page):
    """A constrained installation brings its own torch: each is in a section that says before it whose environment it is for."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE):
        for before in part.split("pip install -c constraints.txt")[:-1]:
            assert "environment of its own" in before, part
    installs = re.findall(r"pip install[^\n`]*", text)
    assert not [line for line in installs if re.search(r"\btorch\b", line)]


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_to_files_and_headings_that_are_there(page):
    path = ROOT / page
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for target in (one for one in targets if not one.startswith("http")):
        file, _, heading = target.partition("#")
        found = path if not file else (path.parent / file).resolve()
        assert found.exists(), target
        if heading and found.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}, target


def test_every_method_has_its_section_and_every_page_a_line():
    methods = ["SSR-Encoder", "MIP-Adapter", "ELITE", "LASR"]
    assert [title for title in re.findall(r"^## (.+)$", README, re.MULTILINE) if title in methods] == methods
    assert all("| node | what it does |" in section(title) for title in methods)
    assert all(f"(docs/{path.name})" in section("More") for path in (ROOT / "docs").glob("*.md"))


def test_every_template_that_is_named_is_there():
    templates = {path.stem for path in (ROOT / "example_workflows").glob("*.json")}
    named = set(re.findall(r"(?:`|\*\*|→ )(\d\d [^`*]+)(?:`|\*\*)", README))
    assert named <= templates
    assert {"01 Try it - no download", "05 A subject by words"} <= named
