"""Tests against a real ComfyUI in this process. Without one they skip and say so once."""

import asyncio
import json

import pytest
from support import comfy_host, golden, tiny


def pytest_collection_modifyitems(items):
    if reason := comfy_host.missing():
        for item in items:
            if "/host/" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def apply():
    return comfy_host.part("ssr_core.hosts.comfyui.apply")


@pytest.fixture(scope="session")
def encoders():
    return comfy_host.part("ssr_core.hosts.comfyui.ssr")


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


@pytest.fixture(scope="session")
def nodes():
    extension = asyncio.run(comfy_host.pack().comfy_entrypoint())
    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}


@pytest.fixture
def clip_vision(tmp_path):
    """A CLIP_VISION of 24 narrow layers."""
    import comfy.clip_vision

    case = golden.cases()["h_clip"]
    extra = {"model_type": "clip_vision_model", "num_channels": 3, "projection_dim": 32, "attention_dropout": 0.0}
    config = tmp_path / "vision.json"
    config.write_text(json.dumps({**case["clip_config"], **extra}))
    model = comfy.clip_vision.ClipVisionModel(str(config))
    model.load_sd(golden.weights(case["seed"], case["clip_shapes"]))
    return model


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """SD1.5's CLIP with two narrow layers and CLIP's own tokenizer."""
    made = tiny.clip(tmp_path_factory.mktemp("clip") / "config.json", tiny.CLIP_CONFIG)
    tiny.fill(made.cond_stage_model, 5)
    return made
