"""Tests in a real browser against ComfyUI's real frontend. Without a host or a Chromium they skip and say so."""

import shutil

import pytest
from support import comfy_host

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def pytest_collection_modifyitems(items):
    reason = None
    if comfy_host.find() is None:
        reason = comfy_host.MISSING
    elif CHROMIUM is None:
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
