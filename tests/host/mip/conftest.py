"""A tiny SDXL, an adapter for it, and the MIP-Adapter's nodes as functions."""

import pytest
import torch
from support import comfy_host, golden, tiny_sdxl
from support.tiny_sdxl import CHOICES


@pytest.fixture(scope="module")
def sdxl():
    """An unpatched MODEL. Tests must leave it as it is."""
    return tiny_sdxl.model()


@pytest.fixture(scope="module")
def sdxl_clip():
    return tiny_sdxl.clip()


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    return tiny_sdxl.clip_vision(tmp_path_factory.mktemp("vision"))


@pytest.fixture(scope="module")
def host():
    return comfy_host.part("ssr_core.hosts.comfyui.mip")


@pytest.fixture(scope="module")
def adapter(host, tmp_path_factory):
    return host.load_adapter(str(tiny_sdxl.adapter_file(tmp_path_factory.mktemp("mip") / "tiny.safetensors")))


@pytest.fixture
def encoded(nodes, adapter, sdxl_clip, tower):
    """A function that runs Encode Object (MIP) and gives all it gives."""

    def encode(name="cat", image=None, **inputs):
        image = golden.picture(64, 48, 0) if image is None else image
        given = {"mip_adapter": adapter, "clip": sdxl_clip, "clip_vision": tower, **inputs}
        with torch.inference_mode():
            return nodes["SSR_EncodeObjectMIP"].execute(image=image, name=name, **given)

    return encode


@pytest.fixture
def applied(nodes, adapter, sdxl):
    """A function that runs Apply Objects (MIP)."""

    def apply(objects, strength=0.75, **inputs):
        given = {"model": sdxl, "mip_adapter": adapter, **CHOICES, **inputs}
        with torch.inference_mode():
            return nodes["SSR_ApplyObjectsMIP"].execute(objects=objects, strength=strength, **given).args[0]

    return apply
