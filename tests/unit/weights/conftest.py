"""A server that misbehaves in every way a real one has, in place of the hub and the drive."""

import subprocess
import sys

import gdown  # noqa: F401  (its module gdown.download is patched below)
import huggingface_hub
import pytest
import requests
from huggingface_hub import constants
from support import http_server
from support.downloads import BODY, CHUNK, DRIVE_PATH, FILE_ID, LISTING, PATH
from support.http_server import Page

from ssr_core import weights


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch):
    """No waiting between attempts; what arrived is written every KiB (the libraries wait for more); no proxy, no offline switch."""
    monkeypatch.setattr(weights, "PAUSES", (0.0,) * 3)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(sys.modules["gdown.download"], "CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()  # a client made before may have read other settings
    yield
    huggingface_hub.close_session()


@pytest.fixture
def server():
    with http_server.running() as server:
        yield server


@pytest.fixture
def page(server):
    """The page of the hub's file, to be made to misbehave."""
    server.pages[PATH] = Page(BODY)
    return server.pages[PATH]


@pytest.fixture
def other_server():
    with http_server.running() as server:
        yield server


@pytest.fixture
def tls_server(tmp_path, monkeypatch):
    """A hub behind https, whose certificate the library trusts for this test."""
    pem = tmp_path / "hub.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run([*command.split(), "-keyout", pem, "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate of the https server, and is not installed")
    pem.write_bytes(pem.read_bytes() + (tmp_path / "cert.pem").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    huggingface_hub.close_session()
    with http_server.running(pem) as server:
        server.pages[PATH] = Page(BODY)
        yield server


@pytest.fixture
def drive(server, monkeypatch, tmp_path):
    """The public drive: gdown's addresses of it are answered by our server, its code is its own."""
    monkeypatch.setattr(sys.modules["gdown.download"], "DEFAULT_COOKIES_FILE", str(tmp_path / "cookies.txt"))
    send = requests.adapters.HTTPAdapter.send

    def redirected(adapter, request, **options):
        request.url = request.url.replace("https://drive.google.com", server.url)
        return send(adapter, request, **options)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", redirected)
    link = f'<a href="https://drive.google.com/file/d/{FILE_ID}/view?usp=drive_web">pytorch_model.bin</a>'
    server.pages[LISTING] = Page(f"<html><title>ssr</title>{link}</html>".encode(), kind="text/html; charset=utf-8")
    server.pages[DRIVE_PATH] = Page(BODY, attachment="pytorch_model.bin")
    return server
