"""Training an SSR-Encoder on a tiny Stable Diffusion XL: both text encoders, the pooled text, and the same bits after a resume."""

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from support import sdxl_folder

from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.ssr import formats
from ssr_core.training import loop
from ssr_core.training.cache import cached_reader
from ssr_core.training.examples import PictureReader, choose, collate
from ssr_core.training.frozen import Frozen
from ssr_core.training.ssr import SSR, SSRConfig

ENCODER = loop.trained_file(SSR)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xl")
    return sdxl_folder.scenes(folder / "data"), sdxl_folder.folders(folder)


@pytest.fixture
def settings(world):
    def made(out, **changes):
        own = {
            "data": str(world[0]), "out": str(out), "inner_width": 32, "heads": 2, "vision_layers": (1, 2), "steps": 3, "batch_size": 1,
            "size": sdxl_folder.SIDE, "workers": 0, "save_every": 3, "flip": 0.0,
        }  # fmt: skip
        return SSRConfig(**{**own, **world[1].named, **changes})

    return made


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_run_that_was_stopped_and_resumed_has_the_same_bits_and_fits_sdxl(settings, tmp_path):
    changes = {"cache": str(tmp_path / "cache")}
    whole = load_file(loop.train(settings(tmp_path / "whole", **changes), cpu=True) / ENCODER)
    broken = settings(tmp_path / "broken", **changes)
    loop.train(broken, cpu=True, stop_after=1)
    last = loop.train(broken, resume=True, cpu=True)
    resumed = load_file(last / ENCODER)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert formats.load([last / ENCODER]).config.text_width == 96  # both text encoders' together


def test_the_cache_holds_the_pooled_text_too(settings, world, tmp_path):
    base = load_base(str(world[1].model), str(world[1].vision))
    trained = SSR(settings(tmp_path), Frozen(base, torch.device("cpu"), "loaded"))
    source = trained.inputs.source()
    cached, fresh = cached_reader(tmp_path / "cache", source, trained), PictureReader(source, trained.inputs)
    for position, record in enumerate(source.records):
        choice = choose(record, trained.inputs, str(position))
        one, other = (trained.encode(trained.frozen.encode(collate([read(record, choice)]))) for read in (fresh, cached))
        assert one.keys() == other.keys()
        for name in ("pooled", "prompt_embeds", "query_embeds", "time_ids", "mean"):
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-4, msg=name)
        assert one["time_ids"].tolist() == [[128, 128, 0, 0, 128, 128]]
