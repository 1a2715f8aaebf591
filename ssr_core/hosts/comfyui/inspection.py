"""A MODEL described in words that a user can paste into an issue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import comfyui_version
import torch

from ...attention import SUBJECT
from ...schedule import Manner, StepSchedule
from ...shown import percent, shown
from . import context
from .applied import Applied
from .context import hung_on
from .layout import cross_attentions
from .recording import recorders
from .sampling import KEY, SIDES

SAMPLER_OPTIONS = (
    "sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function", "model_function_wrapper", "context_handler",
)  # fmt: skip
"""What nodes hang on a MODEL for its sampler, by the host's names: one thing or a list."""


def describe(model: Any) -> str:
    """MODEL, its subjects, what else sits on its cross-attentions, and what the last sampling with these subjects met."""
    applied: tuple[Applied, ...] = model.get_attachment(KEY) or ()
    subjects = sum(len(one.parts) for one in applied)
    lines = [*_model(model), f"{_number(subjects, 'subject')} in {_number(len(applied), 'Apply node')}"]
    for number, one in enumerate(applied, start=1):
        lines += _applied(number, one)
    lines += [line for part in hung_on(model) for line in part.described]
    lines += _neighbours(model)
    if recorders(model):
        lines.append("The footprint is recorded.")
    if applied:
        lines.append(_sides(applied[-1]))
    return "\n".join(lines)


def _model(model: Any) -> Iterator[str]:
    base = model.model
    layers = cross_attentions(base.diffusion_model)
    sampling = model.get_model_object("model_sampling")
    manual_cast = model.get_model_object("manual_cast_dtype")
    cast = f", computes in {manual_cast}" if manual_cast else ""
    yield f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}"
    yield f"MODEL: {type(base).__name__} around {type(base.diffusion_model).__name__}, {len(layers)} cross-attentions"
    yield f"weights {model.model_dtype()}{cast}, on {model.load_device}, offloaded to {model.offload_device}"
    yield f"model sampling: {', '.join(kind.__name__ for kind in type(sampling).__bases__)}"


def _applied(number: int, applied: Applied) -> Iterator[str]:
    keys = [branch[0][0] for branch in applied.branches]  # of the first layer
    size = sum(tensor.nbytes for branch in applied.branches for pair in branch for tensor in pair)
    shared = "by word" if applied.word_embeds else "joint" if len(applied.branches) == 1 else "separate"
    own = any(place.pictures != applied.manner.pictures for place in applied.places)
    combined = "one for each picture" if own else shared
    manners = ([combined] if len(applied.parts) > 1 else []) + (["gated"] if applied.gates else [])
    manners += [f"texts read by ELITE {shown(applied.maker[:12])}"] if applied.maker else []
    order = applied.layout.execution_order
    acting = [layer for layer in order if applied.manner.in_layer(layer.index) != 0.0]
    yield (f"{number}. " + ", ".join([f'"{shown(part.query, 60)}"' for part in applied.parts] + manners))
    if not applied.branches:
        return
    frames = f", per frame {_few(applied.manner.pictures)}" if applied.manner.pictures else ""
    where = _blocks(layer.block for layer in acting)
    yield f"   strength {applied.manner.strength:g}{frames}, in {len(acting)} of {len(order)} cross-attentions: {where}"
    strengths = [applied.manner.in_layer(layer.index) for layer in acting]
    if len(set(strengths)) > 1:
        yield f"   times {_few(strengths, len(order))} there"
    yield f"   steps {_steps(applied.manner.steps)}, region {_region(applied)}"
    tokens = " + ".join(str(key.shape[1]) for key in keys)
    yield f"   K and V: {tokens} tokens, {keys[0].dtype}, {size / 1e6:.1f} MB on {keys[0].device}"


def _blocks(blocks: Iterable[tuple[Any, ...]]) -> str:
    """Blocks by the host's names, those of a stage together: "input 1 2 4, middle 0"."""
    stages: dict[str, list[str]] = {}
    for stage, number, *depth in blocks:
        stages.setdefault(stage, []).append(f"{number}.{depth[0]}" if depth and depth[0] else f"{number}")
    return ", ".join(f"{stage} {' '.join(numbers)}" for stage, numbers in stages.items())


def _steps(schedule: StepSchedule) -> str:
    curve = "" if schedule.curve == (1.0,) else f", curve {_few(schedule.curve)}"
    return f"{schedule.start:g} to {schedule.end:g}{curve}"


def _region(applied: Applied) -> str:
    """One for all subjects, or each one's own."""
    if all(place.region is applied.manner.region for place in applied.places):
        return _extent(applied.manner)
    return ", ".join(f'"{shown(part.query, 60)}" {_extent(applied.place_of(part.branch))}' for part in applied.parts)


def _extent(manner: Manner) -> str:
    if manner.region is None:
        return "everywhere"
    frames, height, width = manner.region.shape
    share = float(manner.region.mean())
    return f"{width} x {height}" + (f", {frames} frames" if frames > 1 else "") + f" ({percent(share)} of it)"


def _neighbours(model: Any) -> Iterator[str]:
    """LoRAs, and what other packs and nodes have hung on the MODEL."""
    if model.patches:
        yield f"LoRAs and the like on {_number(len(model.patches), 'weight')}"
    options = model.model_options.get("transformer_options", {})
    for kind, replaced in options.get("patches_replace", {}).items():
        by_name: dict[str, list[tuple[Any, ...]]] = {}
        for block, entry in replaced.items():
            by_name.setdefault(_name(entry), []).append(block)
        for name, blocks in by_name.items():
            if kind == "attn2":
                yield f"also replaces cross-attentions: {name} at {_blocks(blocks)} (called first, then ours is added)"
            else:
                yield f"replaces {kind}: {name} at {_blocks(blocks)}"
    for name, patches in options.get("patches", {}).items():
        yield f"patches {name}: {_counted(patches)}"
    for kind, keyed in model.wrappers.items():
        others = {key: found for key, found in keyed.items() if key not in (KEY, context.KEY) and found}
        for key, found in others.items():
            yield f"wrapper {kind}: {key or 'unnamed'}, {_counted(found)}"
    for name in SAMPLER_OPTIONS:
        if found := model.model_options.get(name):
            yield f"{name}: {_counted(found if isinstance(found, list) else [found])}"


def _sides(applied: Applied) -> str:
    batches = SIDES.get(applied)
    if batches is None:
        return "not sampled yet with these subjects"
    named = ["[" + ", ".join("subject" if side == SUBJECT else "null" for side in sides) + "]" for sides in batches]
    return f"batches of the last sampling: {' and '.join(named) or 'none in which a subject acted'}"


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def _counted(found: Any) -> str:
    return ", ".join(f"{name} x {count}" if count > 1 else name for name, count in Counter(_name(one) for one in found).items())


def _name(thing: Any) -> str:
    """Name of a function or of an object's class, without the folder under which the host imports a pack: issues are public."""
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    module = re.split(r"[/\\]", str(kind.__module__))[-1]
    return f"{module}.{kind.__qualname__}"


def _few(numbers: Any, limit: int = 8) -> str:
    first = ", ".join(f"{number:g}" for number in numbers[:limit])
    return first + (f", ... {len(numbers)} in all" if len(numbers) > limit else "")
