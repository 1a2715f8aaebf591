"""Texts out of the host's CLIP as methods want them: the encoder's own last layer, every prompt weight at 1, one chunk of 77 tokens."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

ENCODERS = {768: {"l"}, 2048: {"g", "l"}}
"""By the width of a UNet's text: which text encoders it is made by, in the host's names. SD1.x and SDXL."""
_NAMED = {
    768: ("SD1.5's own CLIP-L alone", "an SD1.5 checkpoint (the MODEL it is applied to must be SD1.5 too)"),
    2048: ("SDXL's CLIP-L and CLIP-bigG together", "an SDXL checkpoint (its base model; the refiner has CLIP-bigG alone)"),
}
"""Those encoders and where they are found."""


class Encoded(NamedTuple):
    """embeds: [1, T, D] float32 on the CPU; pieces: the byte pairs of the first encoder, the start token first, without the end; cut:
    whether the text was longer."""

    embeds: Tensor
    pieces: list[str]
    cut: bool


def encode_plain(clip: Any, text: str, width: int, what: str, noun: str) -> Encoded:
    """What the host's text encoders make of a text, whatever CLIPSetLastLayer did upstream: the last layer of SD1.x's CLIP-L, or the last
    but one of both of SDXL's, side by side.

    what: needs it, as in "the SSR-Encoder"; noun: what the text is called. Raises ValueError for a CLIP of another kind.
    """
    check_kind(clip, width, what)
    encoder = clip.clone()
    encoder.clip_layer(None)
    tokens = encoder.tokenize(text)
    first = {name: [(entry[0], 1.0) for entry in chunks[0]] for name, chunks in tokens.items()}
    for name, entries in first.items():
        check_embeddings(encoder, name, entries, text, what, noun)
    embeds = encoder.encode_from_tokens({name: [entries] for name, entries in first.items()}).float().cpu()  # [1, T, D]
    if embeds.shape[-1] != width:
        source = _NAMED.get(width, _NAMED[768])[1].split(" (")[0]
        raise ValueError(
            f"This CLIP encodes text with width {embeds.shape[-1]}; {what} needs {width}. Connect the CLIP of {source}."
        )
    inner = encoder.tokenizer.clip_l
    ids = [token for token, _ in first["l"]]
    # Textual inversions sit among the ids as tensors, which must not be compared.
    stop = next((i for i, token in enumerate(ids) if isinstance(token, int) and token == inner.end_token), len(ids))
    pieces = [inner.inv_vocab[token] if isinstance(token, int) else "embedding</w>" for token in ids[:stop]]
    return Encoded(embeds, pieces, any(len(chunks) > 1 for chunks in tokens.values()))


def check_kind(clip: Any, width: int, what: str) -> None:
    """Refuse a CLIP that is missing, or whose text encoders are not those of a width."""
    needed, found = _NAMED.get(width, _NAMED[768])
    if clip is None:
        raise ValueError(f"CLIP is missing: this checkpoint has no text encoder. Load {found.split(' (')[0]} or its CLIP.")
    tokens = clip.tokenize("")
    has = {name for name in tokens if hasattr(clip.cond_stage_model, f"clip_{name}")}  # the refiner's tokenizer knows more
    if not has == set(tokens) == ENCODERS.get(width, {"l"}):
        raise ValueError(
            f"This CLIP has the text encoders {', '.join(sorted(has or tokens))}; {what} needs {needed}. Connect the CLIP of {found}."
        )


def check_embeddings(encoder: Any, name: str, entries: list[Any], text: str, what: str, noun: str) -> None:
    """The host drops an embedding of another width, and every word behind it would move up by one."""
    own = getattr(encoder.cond_stage_model, f"clip_{name}").transformer.get_input_embeddings().weight.shape[-1]
    widths = {token.shape[-1] for token, _ in entries if isinstance(token, Tensor)} - {own}
    if widths:
        made_for = "SD1.5" if set(ENCODERS[768]) == {name} and own == 768 else "this text encoder"
        raise ValueError(
            f'The {noun} "{text[:80]}" names an embedding of width {widths.pop()}; {what} needs {own}. Choose one that was made for '
            f"{made_for}, or leave it out."
        )
