"""The contract with the graph: what Apply hangs on a MODEL.

Apply clones the MODEL and hangs an immutable tuple of applied parts on the clone, with three wrappers that read it while the
MODEL samples (sampling.py). Nothing is patched here, so the order of nodes does not matter and upstream MODELs stay as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

from .applied import Applied
from .sampling import KEY, bind, note_conditions, open_run


def compute_dtype(model: Any) -> torch.dtype:
    """The type of a MODEL's activations: its weights may be stored in fewer bits and cast up."""
    dtype = model.get_model_object("manual_cast_dtype") or model.model_dtype()  # nodes may have patched it
    return dtype if dtype in (torch.float32, torch.float16, torch.bfloat16) else torch.float16


def hang(model: Any, applied: Applied) -> Any:
    """A clone of MODEL with one more applied part. MODEL itself stays as it was."""
    clone = model.clone()
    parts = (*applied_to(model), applied)
    clone.set_attachments(KEY, parts)
    wrappers = {
        WrappersMP.OUTER_SAMPLE: open_run(parts),
        WrappersMP.CALC_COND_BATCH: note_conditions,
        WrappersMP.APPLY_MODEL: bind(parts),
    }
    for kind, wrapper in wrappers.items():
        clone.remove_wrappers_with_key(kind, KEY)
        clone.add_wrapper_with_key(kind, KEY, wrapper)
    return clone


def applied_to(model: Any) -> tuple[Applied, ...]:
    return model.get_attachment(KEY) or ()
