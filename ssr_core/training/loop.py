"""The training loop: a frozen base and a method's trained module (method.py), on accelerate's engines (one device, DDP, FSDP).

A run follows from its configuration: samples and noise from the seed and the position (examples.py), the learning rate from the step.
So weights, optimizer and step are all that a checkpoint needs to go on exactly where it stopped.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, set_seed
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..hosts.diffusers.load import load_base
from . import records
from .average import Average
from .cache import cached_reader
from .config import TrainingConfig
from .examples import Examples, PictureReader, StreamedExamples, batches, collate
from .frozen import Frozen, fingerprint
from .method import Example, Losses, Method
from .methods import METHODS
from .validation import draw_validation

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def train(config: TrainingConfig, resume: bool = False, cpu: bool = False, stop_after: int | None = None) -> Path:
    """Run, and return the folder of the last checkpoint.

    resume: go on from the newest checkpoint in config.out. stop_after: end early, with a checkpoint, as an interruption would.
    Raises ValueError for a configuration, data or models that do not fit, FloatingPointError when the loss is not finite.
    """
    out = Path(config.out)
    newest = checkpoint_in(out)
    if newest is not None and not resume:
        raise ValueError(f"{out} already holds {newest.name}. Pass --resume to go on from it, or give another `out`.")
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulate,
        log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(out), logging_dir=str(out / "logs")),
        dataloader_config=DataLoaderConfiguration(),
    )
    set_seed(config.seed)  # only fresh weights depend on it
    method = METHODS[config.method](config, _frozen(config, accelerator))
    trained = [parameter for parameter in method.module.parameters() if parameter.requires_grad]
    model, optimizer = accelerator.prepare(
        method.module, torch.optim.AdamW(trained, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
    )
    average = Average([p for group in optimizer.param_groups for p in group["params"]], config.ema) if config.ema else None
    if average is not None:
        accelerator.register_for_checkpointing(average)
    step = 0
    if newest is not None:
        accelerator.load_state(str(newest))
        step = int(json.loads((newest / "progress.json").read_text())["step"])
    accelerator.init_trackers("", {})

    source = _examples(method, accelerator, step * config.accumulate)
    last = min(config.steps, stop_after or config.steps)
    bar = tqdm(total=config.steps, initial=step, disable=not accelerator.is_main_process, mininterval=1, desc="training")
    while step < last:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate(step)
        shown = _step(method, accelerator, model, optimizer, source)
        step += 1
        if average is not None:
            average.update()
        bar.update()
        if step % 10 == 0 or step == last:
            numbers = {name: accelerator.reduce(value, "mean").item() for name, value in shown.items()}
            if not math.isfinite(numbers["total"]):
                raise FloatingPointError(
                    f"The loss is {numbers['total']} at step {step}. Lower lr, set clip_norm (1.0), or use bf16 instead of fp16; "
                    f"then go on from the last checkpoint in {out}."
                )
            bar.set_postfix({name: f"{value:.4f}" for name, value in numbers.items()})
            accelerator.log({**numbers, "lr": config.learning_rate(step - 1)}, step=step)
        if step % config.save_every == 0 or step == last:
            newest = _save(method, accelerator, model, average, step)
        if config.validation and (step % config.validate_every == 0 or step == config.steps):
            with average.in_place() if average is not None else nullcontext():
                if accelerator.is_main_process:
                    sheet = draw_validation(method, out / "validation" / f"step-{step:06}.png")
                    accelerator.get_tracker("tensorboard").writer.add_image("validation", sheet, step, dataformats="HWC")
            accelerator.wait_for_everyone()
    bar.close()
    accelerator.end_training()
    assert newest is not None
    return newest


def checkpoint_in(out: Path) -> Path | None:
    """The newest complete checkpoint of a run."""
    found = [
        path for path in out.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name) and (path / "progress.json").is_file()
    ]
    return max(found, key=_number, default=None)


def _number(path: Path) -> int:
    found = _CHECKPOINT.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def _frozen(config: TrainingConfig, accelerator: Accelerator) -> Frozen:
    base = load_base(config.base, config.vision_encoder)
    loaded = fingerprint(base)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    for part in (base.unet, base.text_encoder, base.vision_encoder):
        part.to(accelerator.device, half)
    base.vae.to(accelerator.device)  # in float32: its output is what the model learns to draw
    if config.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    return Frozen(base, accelerator.device, loaded)


def _examples(method: Method, accelerator: Accelerator, start: int) -> Iterator[Example]:
    """Batches of this process from its batch number `start` on, without end."""
    config, inputs = method.config, method.inputs
    process, processes = accelerator.process_index, accelerator.num_processes
    options: dict[str, Any] = {
        "num_workers": config.workers,
        "collate_fn": collate,
        "persistent_workers": config.workers > 0,
        "pin_memory": accelerator.device.type == "cuda",
    }
    if records.is_shards(config.data):
        if config.cache:
            raise ValueError("`cache` needs a fixed set of pictures on this disk; leave it out for webdataset shards.")
        streamed = StreamedExamples(inputs, process, processes, start)
        return iter(DataLoader(streamed, batch_size=config.batch_size, **options))
    source = records.read(config.data)
    if config.cache:
        with accelerator.main_process_first():
            reader: Any = cached_reader(Path(config.cache), source, method)
    else:
        reader = PictureReader(source, inputs)
    positions = batches(config, start, process, processes)
    return iter(DataLoader(Examples(source, inputs, reader), batch_sampler=positions, **options))


def _step(method: Method, accelerator: Accelerator, model: Any, optimizer: Any, source: Iterator[Example]) -> Losses:
    """One optimizer step; returns the means over its batches of this process."""
    config = method.config
    found: dict[str, list[Tensor]] = {}
    for _ in range(config.accumulate):
        with accelerator.accumulate(model):
            with torch.no_grad():
                batch = method.encode(method.frozen.encode(next(source)))
            with method.loss(model, batch, accelerator.autocast) as losses:
                accelerator.backward(losses["total"])
            if accelerator.sync_gradients and config.clip_norm:
                accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            for name, value in losses.items():
                found.setdefault(name, []).append(value.detach())
    return {name: torch.stack(values).mean() for name, values in found.items()}


def trained_file(method: type[Method] | Method, averaged: bool = False) -> str:
    """Name of the trained weights (or their average) in a checkpoint folder."""
    return f"{method.file}{'_ema' if averaged else ''}.safetensors"


def _save(method: Method, accelerator: Accelerator, model: Any, average: Average | None, step: int) -> Path:
    """A checkpoint folder: the engine's state, the trained weights in the method's format, the configuration, and last the step."""
    config, out = method.config, Path(method.config.out)
    folder = out / f"checkpoint-{step}"
    accelerator.save_state(str(folder))
    _export(method, accelerator, model, folder / trained_file(method))
    if average is not None:
        with average.in_place():
            _export(method, accelerator, model, folder / trained_file(method, averaged=True))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        (folder / "progress.json").write_text(json.dumps({"step": step}))
        older = sorted((path for path in out.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)), key=_number)
        for path in older[: -config.keep - 1]:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()
    return folder


def _export(method: Method, accelerator: Accelerator, model: Any, path: Path) -> None:
    state = accelerator.get_state_dict(model)
    if accelerator.is_main_process:
        method.save(state, path)
