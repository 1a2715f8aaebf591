"""The manifest, and who may reach a network."""

import ast
import json
from pathlib import Path

import huggingface_hub

from ssr_core import weights
from ssr_core.weight_structure import OWN_PARTS
from ssr_core.weights import read_manifest

PACK = Path(__file__).parents[3]


def test_the_manifests_addresses_are_those_the_hub_is_asked_for():
    for weight in read_manifest():
        if weight.host == "hub":
            assert weight.url == huggingface_hub.hf_hub_url(weight.repository, weight.remote_name), weight.id
        else:
            assert (weight.host, weight.url) == ("drive", f"https://drive.google.com/drive/folders/{weight.repository}")


def test_the_manifest_is_complete_and_its_names_are_unique():
    manifest = read_manifest()
    assert {weight.id for weight in manifest if weight.default} == {"aligner", "layers", "clip-vision"}
    assert len({weight.id for weight in manifest}) == len({weight.place(Path()) for weight in manifest}) == len(manifest) == 14
    for weight in manifest:
        assert weight.purpose
        assert weight.licence
        assert weight.sha256 is None or weights._SHA256.fullmatch(weight.sha256)
        assert weight.part in OWN_PARTS or weight.holds, f"{weight.id} has nothing to be recognised by"


def test_a_method_is_fetched_by_its_name_with_the_tower_that_it_wants():
    named = {
        method: [weight.id for weight in read_manifest() if weight.method == method]
        for method in ("ssr", "mip", "mip-plus", "elite")
    }
    assert named == {
        "ssr": ["aligner", "layers", "clip-vision"],
        "mip": ["mip-sdxl", "mip-vision-bigg"],
        "mip-plus": ["mip-sdxl-plus", "mip-vision-h"],
        "elite": ["elite-global", "elite-local"],  # its tower is the SSR-Encoder's, which comes by default
    }


def test_example_workflows_name_the_files_as_the_manifest_does():
    known = {(weight.name, weight.url, weight.folders[0]) for weight in read_manifest()}
    named, loaded = set(), set()
    for path in (PACK / "example_workflows").glob("*.json"):
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            models = node["properties"].get("models", [])
            named |= {(model["name"], model["url"], model["directory"]) for model in models}
            if node["type"].startswith(("CheckpointLoader", "CLIPVisionLoader", "ControlNetLoader")):
                loaded |= set(node["widgets_values"]) - {model["name"] for model in models}
    assert len(named) >= 4
    assert named <= known
    assert not loaded, "files that a loader of the host takes, with no address beside them"


def shipped() -> list[Path]:
    return [*PACK.glob("*.py"), *(PACK / "ssr_core").rglob("*.py"), *(PACK / "nodes").rglob("*.py")]


def test_only_weights_py_imports_what_can_reach_a_network():
    network = {
        "huggingface_hub",
        "gdown",
        "requests",
        "urllib",
        "urllib3",
        "http",
        "httpx",
        "socket",
        "ssl",
        "aiohttp",
        "ftplib",
    }
    found = {}
    for path in shipped():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
        if imported & network:
            found[path.relative_to(PACK).as_posix()] = imported & network
    assert found == {"ssr_core/weights.py": {"huggingface_hub", "gdown"}}
