"""A working day in small: benchmarks/soak.py is the long form."""

import pytest
import torch
from support import soak, soak_methods
from support.server import running


@pytest.fixture(scope="module")
def soaked(tmp_path_factory):
    base = tmp_path_factory.mktemp("soak")
    soak.prepare(base)
    jobs = soak.plan(40)
    with running(base, "--cache-classic") as server:
        first = soak.run(server, jobs[:20])
        busy = next(
            job.graph for job in first.jobs
            if job.ends == "success" and job.graph.get("encode 0", {}).get("class_type") == "SSR_EncodeSubject"
        )  # fmt: skip
        held = [soak.census(server, busy, model=["apply 0", 0]), soak.census(server)]
        second = soak.run(server, jobs[20:])
        held.append(soak.census(server))
        drawn = soak.latents(server, jobs)
    return soak.Soaked(first.jobs + second.jobs), drawn, held


def test_every_prompt_ends_as_it_must(soaked):
    result, drawn, _ = soaked
    assert {job.ends for job in result.jobs} == {
        "success", "interrupted", "error in SSR_MiniScene", "error in SSR_EncodeObjectMIP", "error in SSR_ApplySubjectELITE",
        "error in KSampler",
    }  # fmt: skip
    nodes = {entry["class_type"] for job in result.jobs if job.ends == "success" for entry in job.graph.values()}
    assert nodes >= set(soak_methods.APPLIES.values())
    assert result.lost == []
    assert all(torch.isfinite(latent).all() for latent in drawn.values())


def test_the_server_holds_no_more_after_forty_prompts_than_after_twenty(soaked):
    *_, (busy, after_twenty, after_forty) = soaked
    assert busy["Subject"] >= 1
    assert busy["Applied"] >= 1
    assert busy["Tensor"] > after_twenty["Tensor"]
    assert {name: count for name, count in after_forty.items() if count > after_twenty[name]} == {}
    assert {name for name, count in after_forty.items() if count} <= {"Tensor"}


def test_every_latent_has_the_bits_of_a_fresh_run(soaked, tmp_path):
    """On a server that keeps no node's output, the other way round."""
    result, drawn, _ = soaked
    soak.prepare(tmp_path)
    again = [soak.Job(job.name, job.graph) for job in reversed(result.jobs) if job.ends == "success"]
    with running(tmp_path, "--cache-none") as server:
        assert soak.run(server, again).lost == []
        fresh = soak.latents(server, again)
    assert [name for name, latent in fresh.items() if not torch.equal(latent, drawn[name])] == []
