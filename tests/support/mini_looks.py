"""SSR Mini's pictures beside other nodes, judged from pixels against every look in the references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from PIL import Image
from support import comfy_host, neighbours, tiny

from ssr_core.evaluation.judge import choose_look, judge
from ssr_core.mini.looks import Look
from ssr_core.mini.scene import example_scenes

SCENES: dict[str, tuple[int, ...]] = {"ssr": (2, 8, 9, 12), "mip": (0, 3, 6, 8), "elite": (0, 2, 7, 12)}
"""References with two objects each, of which the first is meant: of each method four that it draws right when nobody is beside it."""
STEPS, CFG = 20, 4.0
PLACE = "in the desert"


class Thing(NamedTuple):
    """What is drawn: its class in Mini's words, and its look."""

    kind: str
    look: Any


def cast(scene: int, objects: int = 2) -> list[Thing]:
    (first,) = example_scenes(scene, objects)
    return [Thing(thing.instance.kind, thing.instance.look) for thing in first.things]


LEARNED = {
    "lasr_star.safetensors": cast(20, 1)[0],
    "lasr_mushroom.safetensors": Thing("mushroom", Look(pattern="striped", first="red", second="orange")),
}
"""Subjects that come with Mini, by file."""


def prompt(mini: Any, text: str) -> Any:
    with torch.inference_mode():
        return mini.clip.encode_from_tokens_scheduled(mini.clip.tokenize(text))


def sample(mini: Any, model: Any, positive: Any, control: Any = None, seed: int = 7, **options: Any) -> torch.Tensor:
    """The latent that a prompt draws. control: a ControlNet on both prompts, or none."""
    if control is not None:
        positive = [[entry[0], {**entry[1], "control": control, "control_apply_to_uncond": True}] for entry in positive]
    return tiny.sample(model, steps=STEPS, cfg=CFG, positive=positive, negative=prompt(mini, ""), noise_seed=seed, **options)


def picture_of(mini: Any, latent: torch.Tensor) -> Image.Image:
    with torch.inference_mode():
        pixels = mini.vae.decode(latent)[0]
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().numpy())


def has_look(picture: Image.Image, thing: Thing) -> bool:
    """Whether the new object of its class has its look and not that of anything else that is known here."""
    others = [one.look for scene in sorted({*sum(SCENES.values(), ())}) for one in cast(scene)] + [
        one.look for one in LEARNED.values()
    ]
    looks = [thing.look, *(look for look in others if look != thing.look)]
    found = judge(picture.resize((128, 128))).of(thing.kind)
    return found is not None and choose_look(found, looks) == 0


Neighbour = Callable[[Any, Any], tuple[Any, dict[str, Any]]]
"""(MODEL, SSR Mini) -> the MODEL with the neighbour, and options of sample."""


def lora(model: Any, mini: Any) -> tuple[Any, dict[str, Any]]:
    import comfy.sd

    generator = torch.Generator().manual_seed(1)
    state = {}
    for part in ("attn2_to_q", "attn2_to_out_0"):
        name = f"lora_unet_mid_block_attentions_0_transformer_blocks_0_{part}"
        state |= {
            f"{name}.lora_up.weight": torch.randn(96, 4, generator=generator) / 4,
            f"{name}.lora_down.weight": torch.randn(4, 96, generator=generator) / 8,
            f"{name}.alpha": torch.tensor(4.0),
        }
    return comfy.sd.load_lora_for_models(model, None, state, 1.0, 0.0)[0], {}


def perturbed_attention_guidance(model: Any, mini: Any) -> tuple[Any, dict[str, Any]]:
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    return neighbours.run(PerturbedAttentionGuidance, model=model, scale=1.0)[0], {}


def rescale_cfg(model: Any, mini: Any) -> tuple[Any, dict[str, Any]]:
    from comfy_extras.nodes_model_advanced import RescaleCFG

    return neighbours.run(RescaleCFG, model=model, multiplier=0.5)[0], {}


def another_sampler(model: Any, mini: Any) -> tuple[Any, dict[str, Any]]:
    return model, {"sampler": "dpmpp_2m", "scheduler": "karras"}


def controlnet(model: Any, mini: Any) -> tuple[Any, dict[str, Any]]:
    """Random weights, so weak that the picture stays one."""
    import comfy.cldm.cldm
    import comfy.controlnet

    config = {
        key: value
        for key, value in comfy_host.part("ssr_core.hosts.comfyui.mini").unet_config().items()
        if key not in ("out_channels", "transformer_depth_output")
    }
    network = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=torch.float32)
    tiny.fill(network)
    control = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu")).copy()
    control.set_cond_hint(torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(2)), 0.003)
    return model, {"control": control}


NEIGHBOURS: list[Neighbour] = [lora, perturbed_attention_guidance, rescale_cfg, another_sampler, controlnet]
