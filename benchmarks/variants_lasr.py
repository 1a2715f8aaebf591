"""Steps with a subject of LASR in the positive prompt, for step_overhead.py: ours, and the official algorithm re-stated.

The official one encodes the prompt of every row for every layer at every step, also the empty one of the unconditional side (lasr.md,
section 5 and D8): 16 text encodings a row. Ours leaves out rows without a placeholder, and with alpha 0 or while contexts are reused
all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from host import comfy_host, filled, layout_of, sd15_unet
from torch import Tensor
from variants import Variant

SIDE, WIDTH, TEXT_LAYERS = 64, 320, 12
"""Of the latent, 512 x 512 pixels, of the UNet's first level, and of the text encoder: Stable Diffusion 1.5's."""
PLAIN, TEXTS = 1606.5, 213.2
"""GFLOP of a pair, and of 16 encodings of 77 tokens by CLIP ViT-L's text encoder (tests/host/test_lasr_counts.py)."""
REUSED = 4
TOKEN, PLACE, END = 345, 5, 49407


class Step:
    """One UNet call of cond + uncond as the host's APPLY_MODEL chain makes it, at one noise level after another."""

    def __init__(self, base: Any, device: torch.device, dtype: torch.dtype, side: int) -> None:
        self.class_obj = base
        self.latent = torch.randn(2, 4, side, side, device=device, dtype=dtype)
        self.text = torch.randn(2, 77, 768, device=device, dtype=dtype)
        self.timesteps = torch.full((2,), 500.0, device=device)

    def __call__(self, latent: Tensor, sigmas: Tensor, concat: Any, text: Any, control: Any, options: dict[str, Any]) -> Tensor:
        return self.class_obj.diffusion_model(latent, self.timesteps, context=self.text, transformer_options=options)


class Same:
    """The prompt's CLIP is the one that runs."""

    def difference(self, other: Any) -> None:
        return None


class Text:
    """The host's CLIP-L, its first layers, run as clip_text.HostText runs it."""

    identity = Same()

    def __init__(self, device: torch.device, dtype: torch.dtype, layers: int) -> None:
        import comfy.sd1_clip

        self.transformer = comfy.sd1_clip.SD1ClipModel(device=device, dtype=dtype).clip_l.transformer.eval()
        encoder = self.transformer.text_model.encoder
        encoder.layers = encoder.layers[:layers]
        filled(self.transformer, device)

    def encode(self, embeds: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        places = embeds.new_zeros(embeds.shape[:2], dtype=torch.long)
        given = embeds.to(dtype)
        return self.transformer(places, None, embeds=given, intermediate_output=None, dtype=dtype)[0].to(embeds.dtype)

    @property
    def table(self) -> Tensor:
        return self.transformer.get_input_embeddings().weight


class InGraph:
    """A text encoder whose launches are recorded once in a CUDA graph. For one prompt."""

    identity = Same()

    def __init__(self, text: Text, device: torch.device) -> None:
        self.given = torch.zeros(1, 77, 768, device=device)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(3):
                text.encode(self.given)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph), torch.inference_mode():
            self.made = text.encode(self.given)

    def encode(self, embeds: Tensor) -> Tensor:
        self.given.copy_(embeds)
        self.graph.replay()
        return self.made.clone()


def prompt_ids() -> Tensor:
    """A prompt with a placeholder: [1, 77]."""
    ids = torch.full((1, 77), END)
    ids[0, PLACE] = TOKEN
    return ids


def learned(step: Step) -> Any:
    """A subject of one describing word."""
    embedder, core = (comfy_host.part(f"ssr_core.methods.lasr.{name}") for name in ("embedder", "subject"))
    shapes = embedder.EmbedderShapes(layout_of(step.class_obj), 768, 1, 3)
    made = filled(embedder.SubjectEmbedder(shapes), torch.device("cpu"))
    return core.LasrSubject(shapes, core.weights_of(made), "z", TOKEN)


def ours(step: Step, text: Any, table: Tensor, alpha: float, reuse: int = 1) -> Callable[[], Any]:
    """Bound as while sampling: one run, so that what is the same at all steps is placed once. reuse: that many steps in a call."""
    context, host = (comfy_host.part(f"ssr_core.hosts.comfyui.{name}") for name in ("context", "lasr"))
    riders, prompts = comfy_host.part("ssr_core.hosts.comfyui.riders"), comfy_host.part("ssr_core.methods.lasr.contexts")
    subject, ids = learned(step), prompt_ids()
    made = prompts.prompts_of(ids, table[ids.to(table.device)].float().cpu(), [TOKEN])
    content = host.SubjectPrompt((subject,), None, made, torch.randn(16, 77, 768))
    entry = riders.ride([torch.zeros(1, 77, 768), {}], "lasr", "", "", "a z", content)
    part = host.LasrContexts((subject,), text, comfy_host.part("ssr_core.schedule").Manner(alpha), reuse)
    number = entry[1]["model_conds"]["ssr_encoder_lasr"].cond
    riding = torch.cat([torch.zeros(1, 1, dtype=torch.int64), number])  # the unconditional row has nothing
    bound, run = context.bind((part,)), context.ContextRun((part,))
    options = {"cond_or_uncond": [1, 0], context.KEY: run}
    levels = [torch.full((2,), 10.0 - level, device=step.latent.device) for level in range(reuse)]

    def call(kept: Any = entry) -> None:  # riders live as long as what they ride on
        for sigmas in levels:
            bound(step, step.latent, sigmas, None, None, None, options, ssr_encoder_lasr=riding)

    return call


def official(step: Step, text: Text, alpha: float, dtype: torch.dtype) -> Callable[[], Any]:
    """16 encodings of both rows' prompts, each from that row's own features, mixed with the static ones."""
    sites = comfy_host.part("ssr_core.hosts.comfyui.context").sites_of(layout_of(step.class_obj))
    core = comfy_host.part("ssr_core.methods.lasr.contexts")
    device = step.latent.device
    made = learned(step).embedder().to(device)
    ids = torch.cat([torch.full((1, 77), END), prompt_ids()]).to(device)
    static = torch.randn(2, 16, 77, 768, device=device, dtype=dtype)
    noted: dict[str, Tensor] = {}

    def note_time(time: Tensor, channels: int, options: dict[str, Any]) -> Tensor:
        noted["time"] = time
        return time

    def note_down(features: Tensor, options: dict[str, Any]) -> Tensor:
        noted["features"] = features
        return features

    def note_up(features: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        noted["features"] = features
        return features, skip

    def give(query: Tensor, context: Tensor, value: Any, options: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        number = sites[tuple(options["block"][:2])][0]
        pooled = noted["features"].float().mean(dim=(2, 3))
        vectors = made.lasr(number, pooled, noted["time"].float())  # [2, 768]
        rows = core.substituted(text.table[ids], [ids == TOKEN], [vectors])
        adaptive = text.encode(rows, dtype)
        mixed = ((1 - alpha) * static[:, number] + alpha * adaptive).to(context.dtype)
        return query, mixed, mixed

    patches = {"emb_patch": [note_time], "input_block_patch_after_skip": [note_down], "output_block_patch": [note_up]}
    options = {"cond_or_uncond": [1, 0], "patches": {**patches, "attn2_patch": [give]}}
    return lambda: step(step.latent, step.timesteps, None, None, None, options)


def variants(
    device: torch.device, dtype: torch.dtype, side: int | None, width: int = WIDTH, text_layers: int = TEXT_LAYERS
) -> list[Variant]:
    side = side or SIDE
    step = Step(sd15_unet(device, dtype, width), device, dtype, side)
    text = Text(device, dtype, text_layers)
    share = TEXTS / PLAIN if (side, width, text_layers) == (SIDE, WIDTH, TEXT_LAYERS) else None

    def extra(texts: float) -> float | None:
        return None if share is None else texts * share

    plain = Variant("plain", lambda: step(step.latent, step.timesteps, None, None, None, {"cond_or_uncond": [1, 0]}), 0.0)
    rows = [
        Variant("alpha 0, static contexts", ours(step, text, text.table, 0.0), extra(0)),
        Variant("alpha 0.5", ours(step, text, text.table, 0.5), extra(1)),
        Variant(
            f"alpha 0.5, reused for {REUSED} steps", ours(step, text, text.table, 0.5, REUSED), extra(1 / REUSED), steps=REUSED
        ),
        Variant("official, both rows", official(step, text, 0.5, dtype), extra(2)),
    ]
    if device.type == "cuda":
        graphed = ours(step, InGraph(text, device), text.table, 0.5)
        rows.append(Variant("alpha 0.5, text encoder in a CUDA graph", graphed, extra(1)))
    return [plain, *rows]
