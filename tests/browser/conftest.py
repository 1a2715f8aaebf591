"""Tests in a real browser against ComfyUI's real frontend. Without a host or a Chromium they skip and say so."""

import json
import shutil

import pytest
from PIL import Image
from support import comfy_host, golden
from support.browser import draws_dom_widgets, load, open_page, set_renderer, template
from support.server import running

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
MODELS = {
    "checkpoints": ["v1-5-pruned-emaonly.safetensors", "sd_xl_base_1.0.safetensors"],
    "clip_vision": ["clip-vit-large-patch14.safetensors", "CLIP-ViT-bigG-14-laion2B-39B-b160k.safetensors"],
    "controlnet": ["control-lora-canny-rank128.safetensors"],
    "ssr_mip": ["model_sdxl.bin"],
    "ssr_elite": ["global_mapper.pt", "local_mapper.pt"],
    "ssr_encoder": ["ssr_aligner.safetensors", "ssr_layers.safetensors"],
    "ssr": ["ssr_aligner.safetensors", "ssr_layers.safetensors"],  # where the older port kept its files
}
"""Files that graphs name: the server lists them, and nothing here reads them."""

ANY_WORDS = """
class AnyWords:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "take", "tests"
    INPUT_TYPES = classmethod(lambda cls: {"required": {"clip": ("CLIP",)}})

    def take(self, clip):
        from comfy.sd1_clip import SD1Tokenizer

        clip = clip.clone()
        clip.tokenizer = SD1Tokenizer()
        return (clip,)


NODE_CLASS_MAPPINGS = {"AnyWords": AnyWords}
"""
"""A pack that gives Mini's CLIP the host's own tokenizer, which refuses no word."""


def pytest_collection_modifyitems(items):
    reason = comfy_host.missing()
    if reason is None and CHROMIUM is None:
        reason = "no chromium found: install Debian's package chromium to run the browser tests"
    for item in items:
        if reason and "/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def browser():
    """Closed with its module: Playwright keeps an event loop running, which other tests could not start beside."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One for all browser tests: starting one costs more than most of them."""
    base = tmp_path_factory.mktemp("comfyui")
    for folder, names in MODELS.items():
        (base / "models" / folder).mkdir(parents=True)
        for name in names:
            (base / "models" / folder / name).touch()
    (base / "user" / "default").mkdir(parents=True)
    # Not a first start, which opens a dialog in front of everything at some moment.
    (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps({"Comfy.TutorialCompleted": True}))
    (base / "custom_nodes" / "any_words").mkdir(parents=True)
    (base / "custom_nodes" / "any_words" / "__init__.py").write_text(ANY_WORDS)
    (base / "input").mkdir()
    # What every ComfyUI brings in its input folder.
    Image.fromarray(golden.golden_inputs.image(512, 512, 0)).save(base / "input" / "example.png")
    with running(base, "--fp32-text-enc") as server:
        yield server


@pytest.fixture(scope="module", params=["canvas", "nodes 2.0"])
def window(browser, server, request):
    """The frontend in each of its renderers; a module's tests share it, as loading it takes longer than most of them."""
    page, errors = open_page(browser, server.url)
    if request.param != "canvas":
        if not draws_dom_widgets(page):
            page.close()
            pytest.skip("this frontend's first draft of Nodes 2.0 draws no pack's own elements")
        set_renderer(page, True)
    yield page, errors
    set_renderer(page, False)
    page.close()


@pytest.fixture
def page(window, request):
    """With the template of a text query in it."""
    page, errors = window
    errors.found.clear()
    set_renderer(page, "canvas" not in request.node.callspec.id)  # a test before may have changed it
    load(page, template())
    yield page
    assert errors.ours() == []
