"""A step of learning a subject (LASR) at Stable Diffusion 1.5's shape, against the authors' step re-created.

That step ("official", askerlee/AdaFace-dev at 6b1560fa; lasr.md, sections 8 and 9) encodes its pictures anew, and all four groups of
prompts, subject and class, alone and with a phrase, once for every layer and with gradients. Ours is ssr_core/methods/lasr/learning.py
as `ssr-encoder learn` runs it: latents made once, prompts of the class encoded once. Both go through the same models with random weights,
forward, backward and AdamW, and draw the same pictures, prompts and noise. A step of five compares adaptive contexts too; what is told is
the mean of five. "latents cached" is the official step without its autoencoder. Operations are counted, of forward and backward.

    python benchmarks/learning_step.py --rounds 3                                   # any device; 14 GB at least
    python benchmarks/learning_step.py --rounds 1 --precision fp32                  # a CPU without bf16: half an hour on two cores
    python benchmarks/learning_step.py --channels 32 --side 64 --text-layers 1 --text-width 64   # to try it
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel

sys.path.insert(0, str(Path(__file__).parents[1]))

from ssr_core.evaluation.peak_memory import Peak
from ssr_core.hosts.diffusers.base import Base
from ssr_core.hosts.diffusers.learning import BaseModels
from ssr_core.methods.lasr import contexts, losses
from ssr_core.methods.lasr.draws import Draw, draw
from ssr_core.methods.lasr.embedder import pooled_features
from ssr_core.methods.lasr.learning import BETAS, EPSILON, LayerwiseLearner, Learning
from ssr_core.methods.lasr.losses import AS_COMMITTED, REGULARISER_WEIGHT
from ssr_core.methods.lasr.recipe import BATCH, Recipe, begin
from ssr_core.methods.lasr.views import Views
from ssr_core.mini.files import MINI
from ssr_core.mini.vocabulary import tokenizer

PICTURES, COMPARES = 4, 5
"""Of the subject; and of how many steps one compares adaptive contexts."""
WORD = "cat"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def models(channels: int, text_layers: int, text_width: int) -> Base:
    """Stable Diffusion 1.5 without weights of its own, or a narrower one. Its tokenizer knows the words of SSR Mini's world, whose texts
    are learned with: what they say changes no time."""
    torch.manual_seed(0)
    width = max(32, 128 * channels // 320 // 32 * 32)
    base = Base(
        unet=UNet2DConditionModel(
            sample_size=64,
            block_out_channels=(channels, 2 * channels, 4 * channels, 4 * channels),
            cross_attention_dim=text_width,
            attention_head_dim=8,
        ),
        vae=AutoencoderKL(
            block_out_channels=(width, 2 * width, 4 * width, 4 * width),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=text_width,
                intermediate_size=4 * text_width,
                num_hidden_layers=text_layers,
                num_attention_heads=text_width // 64,
            )
        ),
        tokenizer=tokenizer(),
        vision_encoder=None,
        noise_schedule=DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    )
    for part in base.models:
        part.requires_grad_(False).train(False)
    return base


class Official:
    """The authors' step, in its order, with our modules of the same shapes. pixels: [P, 3, S, S], or None where latents are cached."""

    def __init__(self, ours: Learning, pixels: Tensor | None, vae: Any) -> None:
        self.models, self.recipe, self.views = ours.models, ours.recipe, ours.views
        self.pixels, self.vae, self.texts = pixels, vae, ours.texts
        subject = begin(self.models, self.recipe)
        self.module = subject.embedder().requires_grad_(True).to(self.models.device)
        assert subject.vectors is not None
        self.vectors, self.token = subject.vectors.to(self.models.device), subject.token
        self.placeholder, self.class_word = subject.placeholder, subject.learning.class_word
        self.optimizer = torch.optim.AdamW(self.module.parameters(), self.recipe.rate, BETAS, EPSILON, weight_decay=0.0)

    def advance(self, step: int) -> None:
        drawn = self._drawn(step)
        device = self.models.device
        latents = self._latents(drawn).to(device)
        kept = self.models.kept.to(device)[drawn.timesteps.to(device)].view(-1, 1, 1, 1)
        noise = drawn.noise.to(device)
        noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
        mask = self.views.chosen(drawn.pictures, drawn.views)[1].to(device)
        repeats, batch = len(drawn.phrases), len(noise)

        words = (self.placeholder, self.class_word)
        groups = [texts for word in words for texts in (drawn.singles(word) * repeats, drawn.composed(word))]
        ids = self.models.ids([text for group in groups for text in group])  # [4RB, T]
        embeds = self.models.embeds(ids)
        marks = (ids == self.token).to(device)
        layered = contexts.substituted(embeds[:, None], marks[None, :, None], [self.module.static()])  # [4RB, L, T, D]
        static = self.models.encode(layered.flatten(0, 1)).unflatten(0, (len(ids), -1))
        alone, composed, of_class, of_class_composed = static.chunk(4)

        rows = slice(0, batch)
        chosen, whole = (embeds[rows], marks[rows]), alone[rows]
        copies = 2 if drawn.compares else 1
        if drawn.compares:  # R is 1: the same latents once more, with the phrases
            chosen, whole = (embeds[: 2 * batch], marks[: 2 * batch]), static[: 2 * batch]
        adaptive: list[Tensor] = []

        def context(number: int, features: Tensor, time_: Tensor) -> Tensor:
            pooled = pooled_features(features, mask.repeat(copies, 1, 1))
            vectors = self.module.lasr(number, pooled, time_.detach())
            adaptive.append(self.models.encode(contexts.substituted(chosen[0], chosen[1][None], [vectors])))
            alpha = float(drawn.alphas[number])
            return (1 - alpha) * whole[:, number] + alpha * adaptive[-1]

        predicted = self.models.predict(noisy.repeat(copies, 1, 1, 1), drawn.timesteps.to(device).repeat(copies), context)
        delta = losses.composition_delta(
            losses.Contexts(alone, composed),
            losses.Contexts(of_class, of_class_composed),
            losses.Contexts(*torch.stack(adaptive, dim=1).chunk(2)) if drawn.compares else None,
            AS_COMMITTED,
        )
        simple = losses.reconstruction(predicted[:batch], noise, mask)
        kept_near = losses.regulariser(self.module, self.vectors).total
        self.optimizer.zero_grad()
        (simple + REGULARISER_WEIGHT * kept_near + AS_COMMITTED.weight * delta.total).backward()
        self.optimizer.step()

    def _drawn(self, step: int) -> Draw:
        layers = sum(one.block[2] == 0 for one in self.models.layout.layers)
        recipe = self.recipe
        return draw(
            recipe.seed, step, recipe.batch, recipe.phrases, self.views, self.texts, (), layers, len(self.models.kept)
        )  # fmt: skip

    @torch.no_grad()
    def _latents(self, drawn: Draw) -> Tensor:
        if self.pixels is None:
            return self.views.chosen(drawn.pictures, drawn.views)[0]
        shown = self.pixels[list(drawn.pictures)].to(self.models.device, next(self.vae.parameters()).dtype)
        return self.vae.encode(shown).latent_dist.sample().float() * self.vae.config.scaling_factor


def begun(base: Base, side: int, phrases: int, device: torch.device) -> Learning:
    cells = side // 8
    generator = torch.Generator().manual_seed(1)
    views = Views(torch.randn(PICTURES, 2, 4, cells, cells, generator=generator), torch.ones(PICTURES, 2, cells, cells), 2)
    recipe = Recipe(WORD, phrases=phrases)
    made = BaseModels(base, MINI, device)
    learner = LayerwiseLearner(begin(made, recipe), recipe, device)
    return Learning(made, learner, recipe, views, knows_photos=False)


def our_step(learning: Learning, step: int) -> None:
    learning.step = step
    learning.advance()


def seconds(call: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def mean_step(of_kinds: Mapping[int, float]) -> float:
    """Of steps as they come; of_kinds: 0 compares adaptive contexts, 1 does not."""
    return (of_kinds[0] + (COMPARES - 1) * of_kinds[1]) / COMPARES


def operations(call: Callable[[], None]) -> float:
    """Of matrix products and convolutions, in 10^12: two for each multiplication and addition."""
    aten = torch.ops.aten  # the two that torch has no count for
    of_cpu = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *more, **options: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *more, **options: (
            sdpa_backward_flop_count(grad, q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=of_cpu) as counted:
        call()
    return counted.get_total_flops() / 1e12


def peak(call: Callable[[], None], device: torch.device) -> float:
    """GB that a call takes at most beside what is there: of the device's allocator, on a CPU of all tensors that live at once."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**30
    with Peak() as found:
        found.running(True)
        call()
    return found.bytes / 2**30


def measured(
    ways: Mapping[str, Callable[[int], None]], rounds: int, device: torch.device, told: str
) -> dict[str, dict[str, Any]]:
    """Seconds, operations and memory of each, by name. told: on the progress bar."""
    times: dict[str, dict[int, list[float]]] = {name: {0: [], 1: []} for name in ways}
    counts: dict[str, dict[int, float]] = {name: {} for name in ways}
    peaks: dict[str, dict[int, float]] = {name: {} for name in ways}
    calls = [(name, step) for name in ways for step in (0, 1)]  # one that compares, and one that does not
    with tqdm(total=len(calls) * (rounds + 1), desc=told) as bar:
        for name, step in calls:  # to warm up

            def counted(name: str = name, step: int = step) -> None:
                counts[name][step] = operations(lambda: ways[name](step))

            peaks[name][step] = peak(counted, device)
            bar.update()
        for _ in range(rounds):
            for name, step in calls:
                times[name][step].append(seconds(lambda name=name, step=step: ways[name](step), device))
                bar.update()
    found = {}
    for name, of_steps in times.items():
        found[name] = {
            "seconds": mean_step({step: median(taken) for step, taken in of_steps.items()}),
            "times": of_steps,
            "operations": mean_step(counts[name]),
            "peak_gb": max(peaks[name].values()),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--phrases", type=int, default=2, help="R, for each picture and step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--channels", type=int, default=320, help="of the UNet's first level")
    parser.add_argument("--text-layers", type=int, default=12)
    parser.add_argument("--text-width", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--side", type=int, default=512, help="of a picture in pixels")
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=list(PRECISIONS))
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    device = torch.device(options.device)

    base = models(options.channels, options.text_layers, options.text_width)
    base.vae.to(device)
    pixels = torch.rand(PICTURES, 3, options.side, options.side, generator=torch.Generator().manual_seed(2)) * 2 - 1
    found: dict[str, dict[str, Any]] = {}
    first = options.precision[0]
    for precision in options.precision:
        for part in base.models:
            part.to(PRECISIONS[precision])
        ours = begun(base, options.side, options.phrases, device)
        ways: dict[str, Callable[[int], None]] = {
            "official": Official(ours, pixels, base.vae).advance,
            "official, latents cached": Official(ours, None, base.vae).advance,
            "ours": lambda step, ours=ours: our_step(ours, step),
        }
        found |= {f"{name}, {precision}": row for name, row in measured(ways, options.rounds, device, precision).items()}

    shape = f"{options.channels} channels, {options.side} x {options.side}, {options.text_layers} text layers of width {options.text_width}"
    print(
        f"{device}, torch {torch.__version__}, {shape}, B = {BATCH}, R = {options.phrases}, {options.rounds} interleaved rounds\n"
    )
    print(
        f"| step | seconds, mean of five | times official {first} | times official of its precision | 10^12 operations | operations of "
        "official, times | peak, GB |\n|---|---|---|---|---|---|---|"
    )
    for name, row in found.items():
        official = found[f"official, {name.rsplit(', ', 1)[1]}"]
        faster = [one["seconds"] / row["seconds"] for one in (found[f"official, {first}"], official)]
        fewer = official["operations"] / row["operations"]
        figures = [row["seconds"], *faster, row["operations"], fewer, row["peak_gb"]]
        print(f"| {name} | {' | '.join(f'{figure:.2f}' for figure in figures)} |")
    if options.json:
        options.json.write_text(
            json.dumps({"shape": shape, "device": str(device), "torch": torch.__version__, "rows": found}, indent=2)
        )


if __name__ == "__main__":
    main()
