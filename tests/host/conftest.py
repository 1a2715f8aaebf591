"""Tests against a real ComfyUI in this process. Without one they skip and say so once."""

import pytest
from support import comfy_host, tiny


def pytest_collection_modifyitems(items):
    if comfy_host.find() is None:
        for item in items:
            if "/host/" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason=comfy_host.MISSING))


@pytest.fixture(scope="session")
def apply():
    return comfy_host.part("ssr_core.hosts.comfyui.apply")


@pytest.fixture(scope="session")
def encoders():
    return comfy_host.part("ssr_core.hosts.comfyui.encoders")


@pytest.fixture(scope="session")
def model():
    """An unpatched MODEL. Tests must leave it as it is."""
    return tiny.model()


@pytest.fixture(scope="session")
def encoder(encoders, tmp_path_factory):
    return encoders.load_encoder([str(tiny.encoder_file(tmp_path_factory.mktemp("models") / "tiny.safetensors"))])


@pytest.fixture(scope="session")
def subject(encoder):
    return (tiny.subject(encoder.fingerprint),)


@pytest.fixture(scope="session")
def plain(model):
    """What the unpatched MODEL draws."""
    return tiny.sample(model)
