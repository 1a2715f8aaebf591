"""Beside other nodes a subject keeps its look, whichever method draws it: on SSR Mini, judged from pixels against every look in the
references."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from support import comfy_host, tiny
from support.mini_looks import NEIGHBOURS, PLACE, SCENES, kept, kind_of, look_of, picture_of, prompt, sample

METHODS = ("ssr", "mip", "elite")


class Ready(NamedTuple):
    """A subject of a method on a MODEL, and the prompt that shows it."""

    model: Any
    positive: Any


@pytest.fixture(scope="module")
def mini():
    comfy_host.start()
    with torch.inference_mode():
        return comfy_host.part("ssr_core.hosts.comfyui.mini").load()


def ssr(nodes, mini, scene):
    image, _, kind, _ = nodes["SSR_MiniScene"].execute(scene, 2).args
    subject = nodes["SSR_EncodeSubject"].execute(mini.encoder, mini.clip, mini.clip_vision, image, kind).args[0]
    return Ready(tiny.apply(mini.model, mini.encoder, subject, 1.0), prompt(mini, f"a {kind} {PLACE}"))


def mip(nodes, mini, scene):
    image, mask, kind, _ = nodes["SSR_MiniScene"].execute(scene, 2).args
    objects = nodes["SSR_EncodeObjectMIP"].execute(mini.mip_adapter, mini.clip, mini.clip_vision, image, kind, mask).args[0]
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.mip"), comfy_host.part("ssr_core.schedule").Manner
    return Ready(host.apply_objects(mini.model, mini.mip_adapter, objects, manner(1.0)), prompt(mini, f"a {kind} {PLACE}"))


def elite(nodes, mini, scene):
    image, mask, *_ = nodes["SSR_MiniScene"].execute(scene, 2).args
    subject = nodes["SSR_EncodeSubjectELITE"].execute(mini.elite, mini.clip_vision, image, mask).args[0]
    positive = nodes["SSR_PromptWithSubjectELITE"].execute(mini.clip, subject, f"a S {PLACE}", "S", 1).args[0]
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.elite"), comfy_host.part("ssr_core.schedule").Manner
    return Ready(host.apply_subjects(mini.model, mini.elite, subject, manner(0.8)), positive)


@pytest.fixture(scope="module", params=METHODS)
def subjects(request, nodes, mini):
    """A subject for each scene."""
    make = {"ssr": ssr, "mip": mip, "elite": elite}[request.param]
    with torch.inference_mode():
        return {scene: make(nodes, mini, scene) for scene in SCENES}


@pytest.fixture(scope="module")
def alone(mini, subjects):
    """What each of them draws with nobody beside it."""
    return {scene: sample(mini, one.model, one.positive) for scene, one in subjects.items()}


def looks_of(mini, latents):
    return [look_of(picture_of(mini, latent), kind_of(scene)) for scene, latent in zip(SCENES, latents, strict=True)]


def test_with_nobody_applied_there_is_no_look_to_keep(mini):
    drawn = looks_of(mini, [sample(mini, mini.model, prompt(mini, f"a {kind_of(scene)} {PLACE}")) for scene in SCENES])
    assert sum(look == (scene, 0) for look, scene in zip(drawn, SCENES, strict=True)) <= 1


@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=lambda neighbour: neighbour.__name__)
def test_the_look_stays_and_the_neighbour_acts(mini, subjects, alone, neighbour):
    latents = []
    for scene, one in subjects.items():
        model, options = neighbour(one.model, mini)
        latents.append(sample(mini, model, one.positive, **options))
        assert not torch.allclose(latents[-1], alone[scene], atol=0.01)
    assert kept(looks_of(mini, latents))


def test_the_look_stays_in_a_second_larger_pass(mini, subjects, alone):
    """Hires fix."""
    latents = []
    for scene, one in subjects.items():
        large = torch.nn.functional.interpolate(alone[scene], size=(20, 20), mode="bicubic")
        latents.append(sample(mini, one.model, one.positive, size=(20, 20), latent=large, denoise=0.5))
    assert kept(looks_of(mini, latents))


def test_the_look_comes_into_a_picture_that_is_there(mini, subjects):
    """Inpainting: a thing of the same class stands there with another look, and is drawn anew."""
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 2:14, 2:14] = 1.0
    latents = []
    for scene, one in subjects.items():
        there = sample(mini, mini.model, prompt(mini, f"a {kind_of(scene)} {PLACE}"))
        latents.append(sample(mini, one.model, one.positive, latent=there, noise_mask=mask))
        torch.testing.assert_close(latents[-1][..., 0], there[..., 0], rtol=1e-3, atol=1e-3)
    assert kept(looks_of(mini, latents))
