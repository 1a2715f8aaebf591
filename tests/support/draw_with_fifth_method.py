"""Draws with the method of docs/a_fifth_method.md in both hosts; test_docs_fifth_method.py gives it a copy of the pack and a host."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, sys.argv[1])
os.environ["COMFYUI_PATH"] = sys.argv[2]

import pytest
import torch
from support import comfy_host, fifth_method, tiny
from support.golden import relative_error

comfy_host.PACK = pack = Path(sys.argv[1])
PROMPT, STEPS, GUIDANCE, STRENGTH = "a cat and a boat in the desert", 2, 4.0, 0.5


def in_diffusers() -> tuple[torch.Tensor, torch.Tensor]:
    """The page's example, and the latent of Euler's steps as ComfyUI makes them, from the same noise."""
    import diffusers

    import ssr_core

    assert Path(ssr_core.__file__).parent.parent == pack
    names: dict[str, object] = {}
    exec(compile(fifth_method.blocks()[""], "a_fifth_method.md", "exec"), names)  # noqa: S102  (our own)
    assert names["image"].size == (128, 128)
    base, module, palettes, said = (names[name] for name in ("base", "module", "palettes", "said"))
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    schedule = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    schedule.set_timesteps(STEPS)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    latents = noise * (schedule.sigmas[0] ** 2 + 1) ** 0.5
    text = torch.cat([base.embed([""]), said])
    with torch.no_grad(), names["tint"].palettes_attached(base.unet, module, palettes, said, STRENGTH):
        for step in schedule.timesteps:
            scaled = schedule.scale_model_input(torch.cat([latents, latents]), step)
            without, conditional = base.unet(scaled, step, text).sample.chunk(2)
            latents = schedule.step(without + GUIDANCE * (conditional - without), step, latents).prev_sample
    after = base.unet.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    return names["latents"], latents


def in_comfyui() -> torch.Tensor:
    nodes = {node.GET_SCHEMA().node_id: node for node in asyncio.run(_nodes())}

    def run(name: str, *inputs: object, **named: object) -> object:
        with torch.inference_mode():
            return nodes[name].execute(*inputs, **named).args[0]

    with torch.inference_mode():
        model, clip, *_ = nodes["SSR_LoadMini"].execute().args
    tint = run("SSR_LoadTint", model)
    palettes = run("SSR_EncodePaletteTint", tint, clip, _picture("orange"), "cat")
    palettes = run("SSR_EncodePaletteTint", tint, clip, _picture("teal"), "boat", previous=palettes)
    said = run("SSR_PromptWithPaletteTint", clip, palettes, PROMPT)
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    plain = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))

    def draw(patched: object, positive: object = said) -> torch.Tensor:
        return tiny.sample(patched, steps=STEPS, cfg=GUIDANCE, positive=positive, negative=negative)

    before = draw(model, plain)
    patched = run("SSR_ApplyPaletteTint", model, tint, palettes, STRENGTH)
    drawn = draw(patched)
    assert torch.isfinite(drawn).all()
    assert torch.equal(draw(model, plain), before), "the MODEL that was given stays as it was"
    assert relative_error(drawn, before) > 1e-2
    assert torch.equal(draw(run("SSR_ApplyPaletteTint", model, tint, palettes, 0.0), plain), before)
    unshifted = [[plain[0][0] * (1 + 1e-5), plain[0][1]]]  # the same text, with no rider and not known as one that lost it
    assert relative_error(drawn, draw(patched, unshifted)) > 1e-2, "hook 4 acts"
    with pytest.raises(ValueError, match="passed on by another node, which left its contexts for every layer behind"):
        draw(patched, plain)
    report = run("SSR_InspectModel", patched)
    assert '"cat", "boat", by word' in report
    assert "tinted: cat, boat" in report
    with pytest.raises(ValueError, match="Connect the same palettes to both"):
        draw(patched, run("SSR_PromptWithPaletteTint", clip, palettes[:1], PROMPT))
    _beside_a_learned_subject(nodes, model, clip, tint, palettes, said, draw)
    return drawn


def _beside_a_learned_subject(nodes, model, clip, tint, palettes, said, draw) -> None:
    """Another method with contexts of its own on the same MODEL: each serves its prompt, in either order of Apply nodes."""
    learned = comfy_host.part("ssr_core.hosts.comfyui.lasr")
    core, embedder = (comfy_host.part(f"ssr_core.methods.lasr.{name}") for name in ("subject", "embedder"))
    layout = tint.module.layout
    made = embedder.SubjectEmbedder(embedder.EmbedderShapes(layout, tint.module.text_width, 1, 3))
    tiny.fill(made, 4)
    subject = core.LasrSubject(made.shapes, core.weights_of(made), "cat", clip.tokenize("cat")["l"][0][1][0])
    with torch.inference_mode():
        cat = learned.encode_prompt(clip, (subject,), "a cat in the desert")
        manner = comfy_host.part("ssr_core.schedule").Manner
        lasr_first = (
            nodes["SSR_ApplyPaletteTint"]
            .execute(learned.apply_subjects(model, clip, (subject,), manner(0.5)), tint, palettes, STRENGTH)
            .args[0]
        )
        tint_first = learned.apply_subjects(
            nodes["SSR_ApplyPaletteTint"].execute(model, tint, palettes, STRENGTH).args[0], clip, (subject,), manner(0.5)
        )
    together = draw(lasr_first, [*said, *cat])
    assert relative_error(draw(tint_first, [*said, *cat]), together) <= 1e-5
    split = _apart(lambda: draw(lasr_first, [*said, *cat]))
    assert relative_error(together, split) <= 1e-4, "two kinds of riders share a batch"
    assert relative_error(draw(lasr_first, said), together) > 1e-3


def _apart(drawn):
    """With every cond in a call of its own."""
    import comfy.conds

    original = comfy.conds.CONDRegular.can_concat
    comfy.conds.CONDRegular.can_concat = lambda self, other: False
    try:
        return drawn()
    finally:
        comfy.conds.CONDRegular.can_concat = original


def _picture(colour: str) -> torch.Tensor:
    from PIL import ImageColor

    return (torch.tensor(ImageColor.getrgb(colour)) / 255).expand(1, 64, 64, 3)


async def _nodes() -> list:
    return await (await comfy_host.pack().comfy_entrypoint()).get_node_list()


if __name__ == "__main__":
    _, theirs = in_diffusers()
    ours = in_comfyui()
    error = relative_error(ours, theirs / 0.18215)  # the host gives latents divided by SD1.5's scale
    assert error <= 1e-3, error
    print("all of it holds")  # noqa: T201
