"""The vision tower, trained against the locked text tower: picture against caption as CLIP is, and, so that patches know what
they show, patches against the phrases of the object they belong to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from .. import vision
from ..hosts.diffusers import mini
from ..mini import files
from ..mini.backgrounds import BACKGROUNDS
from ..mini.shapes import CLASSES
from ..mini.vocabulary import tokenizer
from ..pictures import open_picture
from ..training.precision import autocast
from .steps import batches, read_lines, train
from .text import LENGTH

BATCH = 32
COVERED = 0.6
"""Share of a patch that an object must cover to own it."""
CLASS_WEIGHT = 2.0
LOUDER = 3.0
PER_STEP = 1024
"""Patches compared in one step."""


def run(world: Path, out: Path, steps: int, lr: float = 1e-3, tokens: int = 96, limit: int | None = None) -> None:
    """Train a vision tower against what `text` wrote to `out`; writes vision_encoder.safetensors, float16."""
    torch.manual_seed(0)
    model = mini.clip()
    _start_well(model)
    text = mini.text_state(load_file(out / files.TEXT_ENCODER))
    model.load_state_dict({**model.state_dict(), **{name: value.float() for name, value in text.items()}})
    model.requires_grad_(False)
    model.vision_model.requires_grad_(True)
    model.visual_projection.requires_grad_(True)
    model.logit_scale.requires_grad_(True)
    regions = Regions(world, tokens, limit)
    average = train(model, lambda step: regions.loss(model, step), steps, lr, out / "vision.ckpt")
    half = {name: value.half().contiguous() for name, value in average.items()}
    save_file({name: value for name, value in half.items() if name.startswith("vis")}, out / files.VISION_ENCODER)


class Regions:
    """References with the owner of every patch, and the loss of a batch of them.

    tokens: patches that the transformer sees of a picture, those of objects first; fewer than all make a step cheaper and still
    teach the same (as in FLIP, arXiv 2212.00794).
    """

    def __init__(self, world: Path, tokens: int, limit: int | None = None) -> None:
        self.records = read_lines(world / "references.jsonl")[:limit]
        pictures = [np.array(open_picture(world / record["file_name"])) for record in tqdm(self.records, desc="pictures")]
        self.pictures = torch.from_numpy(np.stack(pictures))  # [N, 128, 128, 3]
        self.owners = torch.stack([_owners(world, record) for record in tqdm(self.records, desc="masks")])  # [N, 256]
        self.names = [f"a {kind}" for kind in CLASSES] + [background.phrase for background in BACKGROUNDS.values()]
        self.tokens = tokens
        self.embeds: dict[str, Tensor] = {}

    @torch.no_grad()
    def _embed(self, model: Any, texts: list[str]) -> Tensor:
        """[texts, D], normalised."""
        unseen = [text for text in dict.fromkeys(texts) if text not in self.embeds]
        if unseen:
            tokens = tokenizer()(unseen, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
            pooled = model.text_model(input_ids=tokens.input_ids).pooler_output
            fresh = F.normalize(model.text_projection(pooled).float(), dim=-1)
            self.embeds.update(zip(unseen, fresh, strict=True))
        return torch.stack([self.embeds[text] for text in texts])

    def loss(self, model: Any, step: int) -> tuple[Tensor, dict[str, float]]:
        chosen = next(batches(len(self.records), BATCH, 0, step))
        generator = torch.Generator().manual_seed(step)
        picture, owner = _moved(self.pictures[chosen], self.owners[chosen].view(-1, 16, 16), generator)
        batch = [self.records[i] for i in chosen.tolist()]
        phrases = [thing["phrase"] for record in batch for thing in record["things"]]
        kinds = [CLASSES.index(thing["kind"]) for record in batch for thing in record["things"]]
        first = np.cumsum([0, *(len(record["things"]) for record in batch)])[:-1]
        with autocast("cpu"):
            mean, std = torch.tensor(vision.MEAN).view(3, 1, 1), torch.tensor(vision.STD).view(3, 1, 1)
            pixels = (picture.permute(0, 3, 1, 2).float() / 255 - mean) / std
            tokens = model.vision_model.pre_layrnorm(model.vision_model.embeddings(pixels))  # [B, 257, D]
            kept = _kept(owner, self.tokens, generator)  # [B, K]
            if self.tokens < owner.shape[1]:
                places = torch.cat([torch.zeros_like(kept[:, :1]), kept + 1], dim=1)
                tokens = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))
                owner = owner.gather(1, kept)
            states = model.vision_model.encoder(inputs_embeds=tokens).last_hidden_state
            states = model.visual_projection(model.vision_model.post_layernorm(states))
            patches, whole = states[:, 1:], F.normalize(states[:, 0].float(), dim=-1)
            texts = self._embed(model, [record["told"] for record in batch] + phrases + self.names)
        captions, instances, classes = texts.split([BATCH, len(phrases), len(self.names)])
        scale = model.logit_scale.exp().clamp(max=100)
        logits = scale * whole @ captions.T
        target = torch.arange(BATCH)
        global_loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

        phrase = torch.from_numpy(first)[:, None] + owner.long() - 1  # [B, K], which phrase a patch belongs to, if to one
        owned = (owner > 0) & (owner < 255)
        ground = torch.tensor([len(CLASSES) + list(BACKGROUNDS).index(record["background"]) for record in batch])[:, None]
        kind = torch.where(owned, torch.tensor(kinds)[phrase.clamp(0, len(kinds) - 1)], ground).flatten()
        flat = F.normalize(patches.float(), dim=-1).flatten(0, 1)
        inside, outside = (
            part[torch.randperm(len(part), generator=generator)[:limit]]
            for part, limit in (
                (owned.flatten().nonzero()[:, 0], PER_STEP),
                ((owner == 0).flatten().nonzero()[:, 0], PER_STEP // 4),
            )
        )
        instance_logits = scale * flat[inside] @ instances.T
        instance_loss = F.cross_entropy(instance_logits, phrase.flatten()[inside])
        both = torch.cat([inside, outside])
        class_logits = scale * flat[both] @ classes.T
        class_loss = F.cross_entropy(class_logits, kind[both])
        shown = {
            "class": (class_logits[: len(inside)].argmax(1) == kind[inside]).float().mean().item(),
            "instance": (instance_logits.argmax(1) == phrase.flatten()[inside]).float().mean().item(),
            "caption": (logits.argmax(1) == target).float().mean().item(),
        }
        return global_loss + instance_loss + CLASS_WEIGHT * class_loss, shown


@torch.no_grad()
def _start_well(model: Any) -> None:
    """A start from which a small vision transformer learns within minutes: patches know where they are, and attend to similar patches.

    Keys start as copies of queries, louder than usual (after "Mimetic Initialization of Self-Attention Layers", arXiv 2305.09828).
    """
    _tell_places(model.vision_model.embeddings.position_embedding.weight)
    for layer in model.vision_model.encoder.layers:
        attention = layer.self_attn
        attention.q_proj.weight.mul_(LOUDER)
        attention.k_proj.weight.copy_(attention.q_proj.weight)


@torch.no_grad()
def _tell_places(embedding: Tensor) -> None:
    """Start the patches' position embedding [1 + 256, D] from sines and cosines of row and column, as loud as the patches.

    The standard start, noise ten times quieter than a patch, takes thousands of steps to tell neighbours from others.
    """
    grid = torch.arange(16).float()
    width = embedding.shape[1] // 4
    angles = grid[:, None] * 10 ** -torch.linspace(0, 1.5, width)  # [16, D/4]
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # [16, D/2]
    rows, columns = line[:, None].expand(-1, 16, -1), line[None].expand(16, -1, -1)
    embedding[1:] = 0.3 * torch.cat([rows, columns], dim=-1).flatten(0, 1)


def _moved(pictures: Tensor, owners: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures [B, 128, 128, 3] shifted by whole patches and mirrored, and their patches' owners [B, 16, 16] -> [B, 256] with them."""
    moved, owned = [], []
    for picture, owner in zip(pictures, owners, strict=True):
        down, right, mirrored = (int(torch.randint(*limits, (), generator=generator)) for limits in ((-3, 4), (-3, 4), (0, 2)))
        rows = (torch.arange(128) - 8 * down).clamp(0, 127)
        columns = (torch.arange(128) - 8 * right).clamp(0, 127)
        patch_rows, patch_columns = torch.arange(16) - down, torch.arange(16) - right
        inside = ((patch_rows >= 0) & (patch_rows < 16))[:, None] & ((patch_columns >= 0) & (patch_columns < 16))
        picture = picture[rows][:, columns]
        owner = owner[patch_rows.clamp(0, 15)][:, patch_columns.clamp(0, 15)]
        # Pixels that repeat the rim belong to no object; the owner 255 keeps them out of the losses.
        owner = torch.where(inside, owner, torch.full_like(owner, 255))
        moved.append(picture.flip(1) if mirrored else picture)
        owned.append(owner.flip(1) if mirrored else owner)
    return torch.stack(moved), torch.stack(owned).flatten(1)


def _kept(owner: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """[B, 256] -> [B, count] patches to look at, in order: objects' before the background's, among these at random."""
    lot = torch.rand(owner.shape, generator=generator) + ((owner > 0) & (owner < 255)).float()
    return lot.topk(count, dim=1).indices.sort(dim=1).values


def _owners(world: Path, record: dict[str, list[dict[str, str]]]) -> Tensor:
    """[256] which object owns each patch, counted from 1; 0 for the background."""
    owner = torch.zeros(256, dtype=torch.uint8)
    for number, thing in enumerate(record["things"], 1):
        mask = np.asarray(Image.open(world / thing["mask"])).reshape(16, 8, 16, 8).mean(axis=(1, 3)).flatten() / 255
        owner[torch.from_numpy(mask > COVERED)] = number
    return owner
