"""What several of these tests attack."""

import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from ssr_core.pretrain.dataset import write


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write(folder, families=3, seed=0, processes=1)
    return folder


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def star(tmp_path):
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "star.png")
    return tmp_path / "star.png"
