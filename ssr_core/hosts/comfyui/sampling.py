"""What happens while a MODEL with subjects samples: late binding.

Three wrappers: OUTER_SAMPLE opens a run (K and V on the sampling device, dropped after it), CALC_COND_BATCH notes which cond list is
which, APPLY_MODEL takes out what rides on the conds, decides in every call which applied parts act and, for that call only, puts at every
block a function that calls whatever stands there and adds the subjects' attention. Other packs' objects are never touched and nothing is
left behind.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import riders
from .applied import Applied
from .call import Call
from .compiled import add_subjects, in_progress
from .conditions import Conditions, read_conditions
from .layer import attention_of, cuts_pictures, frame_indices, read_layer
from .place import Place, batch_of
from .recording import recorders
from .run import Run
from .words import KIND, WordsOfCall, check_prompts

KEY = "ssr_encoder"
"""Our name in attachments and wrappers; in transformer_options it holds the run."""
CONDITIONS, CALL, STANDING = f"{KEY}_conditions", f"{KEY}_call", f"{KEY}_standing"

SIDES: weakref.WeakKeyDictionary[Applied, tuple[tuple[int, ...], ...]] = weakref.WeakKeyDictionary()
"""Which sides the chunks of the last sampling's batches were on (NULL, SUBJECT), for Inspect."""


def open_run(parts: tuple[Applied, ...]) -> Callable[..., Any]:
    """OUTER_SAMPLE: one run for one sampling."""

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        recording = recorders(guider.model_patcher)
        options = guider.model_options.setdefault("transformer_options", {})  # the guider's own copy for this one sampling
        options[KEY] = run = Run(parts, guider, recording=bool(recording))
        kinds = frozenset({KIND} if any(part.maker for part in parts) else ())
        try:
            if kinds:
                check_prompts(parts, guider.conds)
            with riders.expected(kinds):
                result = executor(*args, **kwargs)
        finally:
            del options[KEY]
        run.check_reached()
        if run.footprint is not None:
            run.footprint.settle()
            for recorder in recording:
                recorder.footprint = run.footprint
        SIDES[parts[-1]] = tuple(sorted(run.sides))
        return result

    return outer_sample


def note_conditions(
    executor: Any,
    model: Any,
    conds: Any,
    latent: Tensor,
    timestep: Tensor,
    model_options: dict[str, Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """CALC_COND_BATCH: which side each cond list of this batch is on."""
    options = dict(model_options.get("transformer_options", {}))
    run = options.get(KEY)
    guider_conds = getattr(run.guider, "conds", None) if run is not None else None
    options[CONDITIONS] = read_conditions(guider_conds or {}, conds, latent, whole=not cuts_pictures(options))
    return executor(model, conds, latent, timestep, {**model_options, "transformer_options": options}, *args, **kwargs)


def bind(parts: tuple[Applied, ...]) -> Callable[..., Any]:
    """APPLY_MODEL: put the subjects' attention in place for one call of the UNet."""

    def apply_model(
        executor: Any,
        latent: Tensor,
        sigmas: Tensor,
        c_concat: Any = None,
        c_crossattn: Any = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        options = transformer_options or {}
        run = options.get(KEY) or Run(parts)
        rows = riders.taken_out(kwargs, KIND, latent.shape[0])
        strengths = run.strengths(executor.class_obj.model_sampling, sigmas)
        if not any(strengths):
            return executor(latent, sigmas, c_concat, c_crossattn, control, options, **kwargs)
        conditions: Conditions | None = options.get(CONDITIONS)
        labels, uuids = list(options.get("cond_or_uncond", [0])), list(options.get("uuids", ()))
        batch = batch_of(latent, len(labels), conditions, frame_indices(options))
        labels, uuids = labels * batch.tiles, uuids * batch.tiles
        words = WordsOfCall(run, None if rows is None else rows[:: batch.pictures])
        call = Call(run, strengths, Place(run, conditions, latent, batch), executor.class_obj, words)
        run.sides.add(tuple(call.sides(tuple(labels))))
        options = {
            **options,
            **_bound(options.get("patches_replace", {}), call),
            CALL: call,
            "cond_or_uncond": labels,
            "uuids": uuids,
        }
        run.expected_in = type(executor.class_obj.diffusion_model).__name__
        with in_progress(call, options):
            result = executor(latent, sigmas, c_concat, c_crossattn, control, options, **kwargs)
        if KEY not in options:  # a caller that samples without a guider opens no run: this call had its own
            run.check_reached()
        return result

    return apply_model


def _bound(patches_replace: dict[str, Any], call: Call) -> dict[str, Any]:
    """patches_replace with `attend` at every layer where an applied part acts, and what `attend` needs: the layer, what stood there and
    whether the text attention by itself is asked for."""
    standing = patches_replace.get("attn2", {})
    attn2, known = dict(standing), {}
    for layer in call.run.parts[0].layout.layers:
        if next(call.acting(layer), None) is not None:
            known[layer.block] = layer, standing.get(layer.block, standing.get(layer.block[:2])), call.reads_text(layer)
            attn2[layer.block] = attend
    return {"patches_replace": {**patches_replace, "attn2": attn2}, STANDING: known}


def attend(query: Tensor, key: Tensor, value: Tensor, extra_options: dict[str, Any]) -> Tensor:
    """The replacement at every layer: whatever stood there, or the host's own text attention, plus the subjects'."""
    block = (*extra_options["block"][:2], extra_options.get("block_index", 0))
    layer, previous, reads_text = extra_options[STANDING][block]
    if previous is None:
        text = own = attention_of(extra_options)(query, key, value, extra_options["n_heads"])
    else:
        text = own = previous(query, key, value, extra_options)
        if reads_text:
            own = attention_of(extra_options)(query, key, value, extra_options["n_heads"])
    if torch.compiler.is_compiling():
        return add_subjects(layer, query, text, own, key, extra_options)
    return extra_options[CALL].add(read_layer(layer, query, text, own, key, extra_options))
