"""A working day in small: benchmarks/soak.py is the long form."""

import pytest
import torch
from support import comfy_host, soak
from support.server import running

pytestmark = pytest.mark.skipif(comfy_host.find() is None, reason=comfy_host.MISSING)


@pytest.fixture(scope="module")
def soaked(tmp_path_factory):
    base = tmp_path_factory.mktemp("soak")
    soak.write_loras(base / "models" / "loras")
    jobs = soak.plan(20)
    with running(base, "--cache-classic") as server:
        result = soak.run(server, jobs)
        drawn = soak.latents(server, jobs)
    return result, drawn


def test_every_prompt_ends_as_it_must(soaked):
    result, drawn = soaked
    assert {job.ends for job in result.jobs} == {"success", "error", "interrupted"}
    assert result.lost == []
    assert all(torch.isfinite(latent).all() for latent in drawn.values())


def test_every_latent_has_the_bits_of_a_fresh_run(soaked, tmp_path):
    """On a server that keeps no node's output, the other way round."""
    result, drawn = soaked
    soak.write_loras(tmp_path / "models" / "loras")
    again = [soak.Job(job.name, job.graph) for job in reversed(result.jobs) if job.ends == "success"]
    with running(tmp_path, "--cache-none") as server:
        assert soak.run(server, again).lost == []
        fresh = soak.latents(server, again)
    assert [name for name, latent in fresh.items() if not torch.equal(latent, drawn[name])] == []
