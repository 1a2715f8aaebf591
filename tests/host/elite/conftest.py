"""ELITEs for SD1.5's tiny UNet, subjects of theirs, and ELITE's nodes as functions."""

import pytest
import torch
from support import comfy_host, tiny, tiny_elite

CHOICES = {"start": 0.0, "end": 1.0, "curve": "constant", "layers": "all"}


@pytest.fixture(scope="module")
def host():
    return comfy_host.part("ssr_core.hosts.comfyui.elite")


@pytest.fixture(scope="module")
def elite(host, tmp_path_factory):
    return host.load_elite([str(tiny_elite.file(tmp_path_factory.mktemp("elite") / "tiny.safetensors", tiny_elite.small()))])


@pytest.fixture(scope="module")
def other(host, tmp_path_factory):
    return host.load_elite([str(tiny_elite.file(tmp_path_factory.mktemp("elite") / "other.safetensors", tiny_elite.small(9)))])


@pytest.fixture(scope="module")
def subject(elite):
    return (tiny_elite.subject(elite.fingerprint),)


@pytest.fixture(scope="module")
def two(elite):
    return tuple(tiny_elite.subject(elite.fingerprint, seed) for seed in (0, 1))


@pytest.fixture(scope="module")
def say(nodes, clip):
    """A function that runs Prompt with Subject (ELITE)."""

    def prompt(subjects, text="a photo of a S", placeholder="S", **inputs):
        with torch.inference_mode():
            return nodes["SSR_PromptWithSubjectELITE"].execute(clip, subjects, text, placeholder, **inputs).args[0]

    return prompt


@pytest.fixture(scope="module")
def applied(nodes, elite, model):
    """A function that runs Apply Subject (ELITE)."""

    def apply(subjects, strength=0.8, onto=model, own=elite, **inputs):
        with torch.inference_mode():
            given = {**CHOICES, **inputs}
            return nodes["SSR_ApplySubjectELITE"].execute(onto, own, subjects, strength, **given).args[0]

    return apply


@pytest.fixture(scope="module")
def drawn(applied, say, subject):
    """What the subject alone draws."""
    return tiny.sample(applied(subject), positive=say(subject))
