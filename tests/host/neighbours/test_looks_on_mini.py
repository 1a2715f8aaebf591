"""Beside other nodes a subject keeps its look, whichever method draws it: on SSR Mini, judged from pixels against every look in the
references."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from support import comfy_host, tiny
from support.mini_looks import LEARNED, NEIGHBOURS, PLACE, SCENES, Thing, cast, has_look, picture_of, prompt, sample


class Ready(NamedTuple):
    """A subject of a method on a MODEL, the prompt that shows it, and what it must look like."""

    model: Any
    positive: Any
    thing: Thing
    seed: int = 7


@pytest.fixture(scope="module")
def mini():
    comfy_host.start()
    with torch.inference_mode():
        return comfy_host.part("ssr_core.hosts.comfyui.mini").load()


def ssr(nodes, mini):
    for scene in SCENES["ssr"]:
        image, _, kind, _ = nodes["SSR_MiniScene"].execute(scene, 2).args
        subject = nodes["SSR_EncodeSubject"].execute(mini.encoder, mini.clip, mini.clip_vision, image, kind).args[0]
        yield Ready(tiny.apply(mini.model, mini.encoder, subject, 1.0), prompt(mini, f"a {kind} {PLACE}"), cast(scene)[0])


def mip(nodes, mini):
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.mip"), comfy_host.part("ssr_core.schedule").Manner
    for scene in SCENES["mip"]:
        image, mask, kind, _ = nodes["SSR_MiniScene"].execute(scene, 2).args
        encode = nodes["SSR_EncodeObjectMIP"].execute
        objects = encode(mini.mip_adapter, mini.clip, mini.clip_vision, image, kind, mask).args[0]
        model = host.apply_objects(mini.model, mini.mip_adapter, objects, manner(1.0))
        yield Ready(model, prompt(mini, f"a {kind} {PLACE}"), cast(scene)[0])


def elite(nodes, mini):
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.elite"), comfy_host.part("ssr_core.schedule").Manner
    for scene in SCENES["elite"]:
        image, mask, *_ = nodes["SSR_MiniScene"].execute(scene, 2).args
        subject = nodes["SSR_EncodeSubjectELITE"].execute(mini.elite, mini.clip_vision, image, mask).args[0]
        positive = nodes["SSR_PromptWithSubjectELITE"].execute(mini.clip, subject, f"a S {PLACE}", "S", 1).args[0]
        yield Ready(host.apply_subjects(mini.model, mini.elite, subject, manner(0.8)), positive, cast(scene)[0])


def lasr(nodes, mini):
    """Two that come with Mini, twice each."""
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.lasr"), comfy_host.part("ssr_core.schedule").Manner
    for name, thing in LEARNED.items():
        subject = nodes["SSR_LoadSubjectLASR"].execute(f"ssr_mini/{name}").args[0]
        positive = nodes["SSR_PromptWithSubjectLASR"].execute(mini.clip, subject, f"a {subject[0].placeholder} {PLACE}").args[0]
        model = host.apply_subjects(mini.model, mini.clip, subject, manner(0.5))
        for seed in (7, 8):
            yield Ready(model, positive, thing, seed)


@pytest.fixture(scope="module", params=[ssr, mip, elite, lasr], ids=lambda method: method.__name__)
def subjects(request, nodes, mini):
    """Four."""
    with torch.inference_mode():
        return list(request.param(nodes, mini))


def drawn(mini, one, model=None, **options):
    return sample(mini, model or one.model, one.positive, seed=one.seed, **options)


@pytest.fixture(scope="module")
def alone(mini, subjects):
    """What each of them draws with nobody beside it."""
    return [drawn(mini, one) for one in subjects]


def kept(mini, subjects, latents):
    """How many of the four have their own look; by chance, one of fifteen does."""
    pictures = [picture_of(mini, latent) for latent in latents]
    return sum(has_look(picture, one.thing) for picture, one in zip(pictures, subjects, strict=True))


def test_with_nobody_applied_there_is_no_look_to_keep(mini, subjects):
    plain = [one._replace(model=mini.model, positive=prompt(mini, f"a {one.thing.kind} {PLACE}")) for one in subjects]
    assert sum(has_look(picture_of(mini, drawn(mini, one)), one.thing) for one in plain) <= 1


@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=lambda neighbour: neighbour.__name__)
def test_the_look_stays_and_the_neighbour_acts(mini, subjects, alone, neighbour):
    latents = []
    for one, before in zip(subjects, alone, strict=True):
        model, options = neighbour(one.model, mini)
        latents.append(drawn(mini, one, model, **options))
        assert (latents[-1] - before).abs().max() > 2e-4
    assert kept(mini, subjects, latents) >= 3


def test_the_look_stays_in_a_second_larger_pass(mini, subjects, alone):
    """Hires fix."""
    latents = []
    for one, before in zip(subjects, alone, strict=True):
        large = torch.nn.functional.interpolate(before, size=(20, 20), mode="bicubic")
        latents.append(drawn(mini, one, size=(20, 20), latent=large, denoise=0.5))
    assert kept(mini, subjects, latents) >= 3


def test_the_look_comes_into_a_picture_that_is_there(mini, subjects):
    """Inpainting: a thing of the same class stands there with another look, and is drawn anew."""
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 2:14, 2:14] = 1.0
    latents = []
    for one in subjects:
        there = sample(mini, mini.model, prompt(mini, f"a {one.thing.kind} {PLACE}"), seed=one.seed)
        latents.append(drawn(mini, one, latent=there, noise_mask=mask))
        torch.testing.assert_close(latents[-1][..., 0], there[..., 0], rtol=1e-3, atol=1e-3)
    assert kept(mini, subjects, latents) >= 3
