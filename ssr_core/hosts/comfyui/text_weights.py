"""The text projections of a MODEL's cross-attentions, replaced by ordinary weight patches of the host, so that LoRAs, low VRAM and saving
work as ever.

A replacement stands before every other patch of its weight, whenever it is hung on: the result is the replacement plus each LoRA's delta,
whatever the order of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...layout import UNetLayout
from ...shown import shown
from .layout import cross_attentions

KEY = "ssr_encoder_text_weights"
"""In attachments: the fingerprint of what replaced a MODEL's text projections."""


def replaced(model: Any, layout: UNetLayout, pairs: Sequence[tuple[Tensor, Tensor]], maker: str, what: str) -> Any:
    """A clone of MODEL whose cross-attentions read texts with other matrices, or MODEL itself where these stand there already.

    pairs: of every layer in checkpoint order, for keys and values, [C, D] each; maker: fingerprint of what they are of; what: that in
    words, as in "ELITE". Raises ValueError for a MODEL in which others stand.
    """
    standing = model.get_attachment(KEY)
    if standing == maker:
        return model
    if standing is not None:
        raise ValueError(
            f"This MODEL's texts are read by another {what} already ({shown(standing[:12])}, not {shown(maker[:12])}), and only one can "
            f"take their place. Use one {what} for all subjects of a MODEL."
        )
    clone = model.clone()
    clone.set_attachments(KEY, maker)
    names = {id(module): name for name, module in clone.model.named_modules()}
    modules = dict(cross_attentions(clone.model.diffusion_model))
    patches = {
        f"{names[id(modules[layer.block])]}.{part}.weight": ("set", (matrix,))
        for layer, pair in zip(layout.layers, pairs, strict=True)
        for part, matrix in zip(("to_k", "to_v"), pair, strict=True)
    }
    added = set(clone.add_patches(patches))
    if missing := sorted(set(patches) - added):
        raise ValueError(f"This MODEL has no weight {shown(missing[0])}, which {what} replaces. Load the checkpoint anew.")
    for key in patches:
        *others, own = clone.patches[key]
        # A merge scales what stood there, so nothing of it is left under a replacement.
        clone.patches[key] = [own, *(patch for patch in others if patch[2] == 1.0)]
    return clone
