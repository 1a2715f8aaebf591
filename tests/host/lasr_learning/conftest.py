"""SSR Mini in the host, pictures of one of its instances, and an output folder of each test's own."""

import random

import numpy as np
import pytest
import torch
from support.host_learning import Weights, part


@pytest.fixture(scope="module")
def mini():
    with torch.inference_mode():
        return part("hosts.comfyui.mini").load()


@pytest.fixture(scope="module")
def pictures():
    scene = part("mini.scene")
    chance = random.Random(4)
    instance = scene.instances(True)[5]
    drawn = [np.asarray(scene.random_scene(chance, [instance]).drawn.picture) for _ in range(2)]
    return torch.from_numpy(np.stack(drawn).astype(np.float32) / 255)


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def few_views(monkeypatch):
    monkeypatch.setattr(part("methods.lasr.views"), "SCALES", (0.75,))


@pytest.fixture
def weights(mini):
    return Weights(mini.model.model, mini.clip.cond_stage_model)
