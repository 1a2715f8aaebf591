"""Writes vocabulary.json anew, after the world has got new words: `python -m ssr_core.pretrain.vocabulary VOCAB MERGES`.

VOCAB and MERGES are CLIP's vocab.json and merges.txt, as every copy of its tokenizer has them.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..mini.vocabulary import FILE, PLACEHOLDERS, WORDS
from ..text_files import read_json, read_text


def main(vocab: str, merges: str) -> None:
    lines = read_text(Path(merges)).split("\n")
    pairs = [(left, right) for left, _, right in (line.partition(" ") for line in lines[1:]) if right]
    kept = extract(read_json(Path(vocab)), pairs)
    FILE.write_text(json.dumps(kept, separators=(",", ":")), encoding="utf-8")


def extract(vocab: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, Any]:
    """What WORDS need of CLIP's vocabulary: the pieces and merges that lead to each word, by byte-pair encoding it."""
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    pieces, used = {"<|startoftext|>", "<|endoftext|>"}, set()
    for word in (*WORDS, *PLACEHOLDERS):
        parts = [*word[:-1], word[-1] + "</w>"]
        pieces.update(parts)
        while len(parts) > 1:
            pairs = [pair for pair in pairwise(parts) if pair in ranks]
            if not pairs:
                raise ValueError(f"{word!r} is not one token of CLIP's vocabulary.")
            best = min(pairs, key=ranks.__getitem__)
            used.add(best)
            place = next(i for i, pair in enumerate(pairwise(parts)) if pair == best)
            parts[place : place + 2] = ["".join(best)]
            pieces.add(parts[place])
    return {
        "vocab": {piece: vocab[piece] for piece in sorted(pieces, key=vocab.__getitem__)},
        "merges": sorted(used, key=ranks.__getitem__),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
