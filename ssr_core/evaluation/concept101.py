"""CustomConcept101's pairs in MIP-Adapter's protocol: which references are shown, how pictures are drawn, how its authors score.

Source: hqhQAQ/MIP-Adapter, data/concept101_dataset.py, evaluation/inference_func.py and evaluation/evaluate_func.py. Their noise follows
from a picture's place in its batch on the GPU; here every picture has a seed of its own (harness.py). Their features are in half
precision, these in single.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ..finite import finite
from ..hosts.diffusers.mip import NEGATIVE, SCALE
from ..pictures import open_picture
from ..reference import CROP_SIDE, FRAME_SIDE, detected_object
from ..shown import shown
from ..text_files import read_json
from .datasets import Concept, Entry
from .drawer import Reference
from .harness import Protocol, Scheme, Scored
from .scorers import ClipScorer, DinoScorer, likeness

PROTOCOL = Protocol(
    per_prompt=1, steps=30, guidance=5.0, strength=SCALE, size=1024, seed=420, negative=NEGATIVE, sampler="euler"
)
"""Of hqhQAQ/MIP-Adapter with SDXL base; the plus variant's strength is 0.65."""
CLIP_WEIGHT = 2.5
"""Of CLIPScore (arXiv 2104.08718): an authors' CLIP-T of 0.77 is a cosine of 0.308."""

Box = tuple[float, ...]


def scheme(folder: Path, entries: Sequence[Entry]) -> Scheme:
    """The protocol on the benchmark in this folder, with json_data/<concept>/<picture>.json beside it, as the authors publish them.

    A concept is shown by all its pictures, each cut to its first detection box. Raises ValueError or FileNotFoundError that names the
    file where a box is missing.
    """
    concepts = {concept: None for entry in entries for concept in entry.concepts}
    boxes = {path: detection_box(folder, concept, path) for concept in concepts for path in concept.pictures}

    def reference(concept: Concept) -> Reference:
        # Boxes are told in the pictures as they are stored.
        first, *more = (detected_object(open_picture(path, upright=False), boxes[path]) for path in concept.pictures)
        return Reference(first, concept.word, more=tuple(more))

    told = {
        "references": {
            "pictures": "all of a concept",
            "crop": f"first detection box in a frame of shorter side {FRAME_SIDE}, on white, {CROP_SIDE} x {CROP_SIDE}",
            "boxes": hashlib.blake2b(repr(list(boxes.values())).encode(), digest_size=16).hexdigest(),
        },
        "scoring": {
            "clip_t": "mean cosine of picture and prompt",
            "clip_i, dino": "mean cosine of all pairs of generated and original pictures, mean of an entry's concepts",
            "authors": {
                "clip_t": f"mean {CLIP_WEIGHT} * max(cosine, 0) of picture and caption",
                "caption": "the file name <prompt>_gen.png up to its first full stop, and a full stop",
                "pictures": "of equal prompts of an entry the last one",
                "pixels": "OpenAI's clip package",
                "clip_i, dino": "as above",
            },
        },
    }
    return Scheme(reference, told, authors_scores)


def detection_box(folder: Path, concept: Concept, picture: Path) -> Box:
    """The first object's box of a picture, in pixels of the picture at a shorter side of 800."""
    path = folder / "json_data" / concept.name / f"{picture.name.split('.')[0]}.json"
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{shown(path)} leads out of the benchmark's folder, where nothing is read. Copy the file into it.")
    content = read_json(path)
    try:
        box = tuple(finite(edge, "an edge of the box", -1e6, 1e6) for edge in content["mask"][1]["box"])
        if len(box) != 4:
            raise ValueError(f"its box has {len(box)} numbers")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{shown(path)} tells no box ({type(error).__name__}: {shown(error)}). Expected mask[1].box with left, top, right and bottom, "
            "as MIP-Adapter's authors publish it."
        ) from error
    return box


def authors_caption(prompt: str) -> str:
    """What the authors score a picture against: the name of its file up to the first full stop. Without one, "_gen" is part of it."""
    return f"{prompt}_gen.png".split(".")[0] + "."


def authors_scores(scored: Scored, clip: ClipScorer, dino: DinoScorer) -> dict[str, float]:
    """Their CLIP-T, CLIP-I and DINO of one entry. Equal prompts have one file there, which the last of them wrote."""
    kept = list(
        {
            (prompt, copy): number for number, (prompt, copy) in enumerate(zip(scored.prompts, scored.copies, strict=True))
        }.values()
    )
    pictures = [scored.pictures[number] for number in kept]
    by_clip, by_dino = clip.pictures_as_clip(pictures), dino.pictures(pictures)  # [N, D]
    captions = clip.texts([authors_caption(scored.prompts[number]) for number in kept])
    real = [[open_picture(path) for path in concept.pictures] for concept in scored.entry.concepts]
    return {
        "clip_t": clip_score(by_clip, captions),
        "clip_i": float(np.mean([likeness(by_clip, clip.pictures_as_clip(of_concept)) for of_concept in real])),
        "dino": float(np.mean([likeness(by_dino, dino.pictures(of_concept)) for of_concept in real])),
    }


def clip_score(pictures: Tensor, captions: Tensor) -> float:
    """Mean of 2.5 * max(cosine, 0) of normalised [N, D] and [N, D]."""
    return float((CLIP_WEIGHT * (pictures * captions).sum(-1).clamp_min(0)).mean())
