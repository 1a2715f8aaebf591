"""The contract with the graph: what Apply hangs on a MODEL.

Apply clones the MODEL and hangs an immutable tuple of applied subjects on the clone, with three wrappers that read it while the
MODEL samples (sampling.py). Nothing is patched here, so the order of nodes does not matter and upstream MODELs stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...schedule import StepSchedule
from ...subject import Combine, Scaling, SubjectSet, active, branch_inputs, check_encoder
from .applied import Applied, Part
from .encoders import HostEncoder
from .layout import check_model
from .sampling import KEY, bind, note_conditions, open_run


def apply_subjects(
    model: Any,
    encoder: HostEncoder,
    subjects: SubjectSet,
    strength: float | Sequence[float],
    schedule: StepSchedule | None = None,
    layers: tuple[float, ...] = (),
    combine: Combine = "joint",
    scaling: Scaling = "official",
    region: Tensor | None = None,
) -> Any:
    """A clone of MODEL that also attends to the subjects, or MODEL itself where nothing would act.

    strength: one number, or one per picture of the batch (frame of an animation); a longer batch holds the last one.
    layers: a multiplier per layer in checkpoint order, () for 1 everywhere; region: [frames, H, W] over the output picture.
    K and V of all layers are projected here, once, in the type the MODEL computes in.
    """
    check_model(model, encoder.config)
    check_encoder(subjects, encoder.fingerprint)
    frames = tuple(strength) if isinstance(strength, Sequence) else ()
    if not any(frames or (strength,)) or not active(subjects) or (layers and not any(layers)):
        return model
    dtype = _compute_dtype(model)
    inputs = branch_inputs(subjects, combine, scaling)
    applied = Applied(
        layout=encoder.config.layout,
        branches=tuple(encoder.keys_values(branch, dtype) for branch in inputs),
        strength=1.0 if isinstance(strength, Sequence) else strength,
        frame_strengths=frames,
        parts=_parts(active(subjects), combine),
        word_embeds=tuple(branch.word_embeds for branch in inputs if branch.word_embeds is not None),
        layer_strengths=layers or (1.0,) * len(encoder.config.layout.layers),
        schedule=schedule or StepSchedule(),
        region=_checked(region),
    )
    return hang(model, applied)


def _parts(subjects: SubjectSet, combine: Combine) -> tuple[Part, ...]:
    parts, first = [], 0
    for number, subject in enumerate(subjects):
        count = subject.tokens.shape[0]
        if combine == "joint":
            parts.append(Part(subject.query, 0, first, first + count))
            first += count
        else:
            parts.append(Part(subject.query, number, 0, count))
    return tuple(parts)


def _compute_dtype(model: Any) -> torch.dtype:
    """The type of a MODEL's activations: its weights may be stored in fewer bits and cast up."""
    dtype = model.get_model_object("manual_cast_dtype") or model.model_dtype()  # nodes may have patched it
    return dtype if dtype in (torch.float32, torch.float16, torch.bfloat16) else torch.float16


def _checked(region: Tensor | None) -> Tensor | None:
    if region is None:
        return None
    region = region.float().cpu()
    region = region[None] if region.ndim == 2 else region
    if region.ndim != 3 or 0 in region.shape:
        raise ValueError(f"The region has shape {tuple(region.shape)}; expected a MASK, [frames, height, width].")
    if not bool((region > 0).any()):
        raise ValueError(
            "The region is empty (all zero), so the subject could act nowhere. Paint where it may act, or disconnect the mask. "
            "(Load Image gives an all-zero MASK for a picture without alpha.)"
        )
    return region


def hang(model: Any, applied: Applied) -> Any:
    """A clone of MODEL with one more applied part. What it was given stays as it was."""
    clone = model.clone()
    subjects = (*applied_to(model), applied)
    clone.set_attachments(KEY, subjects)
    wrappers = {
        WrappersMP.OUTER_SAMPLE: open_run(subjects),
        WrappersMP.CALC_COND_BATCH: note_conditions,
        WrappersMP.APPLY_MODEL: bind(subjects),
    }
    for kind, wrapper in wrappers.items():
        clone.remove_wrappers_with_key(kind, KEY)
        clone.add_wrapper_with_key(kind, KEY, wrapper)
    return clone


def applied_to(model: Any) -> tuple[Applied, ...]:
    return model.get_attachment(KEY) or ()
