"""The training loop: a frozen base and a method's trained module (method.py), on accelerate's engines (one device, DDP, FSDP).

A run follows from its configuration: samples and noise from the seed and the position (examples.py), the learning rate from the step.
So weights, optimizer and step are all that a checkpoint needs to go on exactly where it stopped.
"""

from __future__ import annotations

import logging
import math
import sys
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

from ..hosts.diffusers.base import fingerprint
from ..hosts.diffusers.load import load_base
from ..mini.files import MINI
from ..mini.scene import check_size
from ..new_files import check_writable
from ..pictures import open_mask, open_picture
from ..shown import plain
from . import checkpoints, optimizers, run_state, shards
from .average import Average
from .cache import cached_reader
from .config import TrainingConfig
from .examples import FAILED, UNFIT, UNREADABLE, Examples, PictureReader, StreamedExamples, batches, collate
from .frozen import Frozen
from .method import Example, Losses, Method
from .methods import METHODS
from .precision import has_bf16
from .validation import draw_validation


def train(config: TrainingConfig, resume: bool = False, cpu: bool = False, stop_after: int | None = None) -> Path:
    """Run, and return the folder of the last checkpoint.

    resume: go on from the newest checkpoint in config.out. stop_after: end early, with a checkpoint, as an interruption would.
    Raises ValueError for a configuration, data or models that do not fit, FloatingPointError when the loss is not finite.
    """
    out = Path(config.out)
    newest = checkpoints.newest(out)
    if newest is not None and not resume:
        raise ValueError(f"{out} already holds {newest.name}. Pass --resume to go on from it, or give another `out`.")
    check_writable(out)
    _check_validation(config)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulate,
        log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(out), logging_dir=str(out / "logs")),
        dataloader_config=DataLoaderConfiguration(),
    )
    run_state.check_engine(accelerator)
    if config.precision == "bf16" and not has_bf16(accelerator.device):
        logging.getLogger(__name__).warning(
            "torch has no fast bf16 on this CPU; it may take ten times as long as float32. Pass --set precision=no."
        )
    set_seed(config.seed)  # only fresh weights depend on it
    method = METHODS[config.method](config, _frozen(config, accelerator))
    trained = [parameter for parameter in method.module.parameters() if parameter.requires_grad]
    model, optimizer = accelerator.prepare(method.module, optimizers.made(config, trained, accelerator.device))
    average = Average([p for group in optimizer.param_groups for p in group["params"]], config.ema) if config.ema else None
    step = 0
    if newest is not None:
        run_state.load(accelerator, model, optimizer, average, newest)
        step = checkpoints.step_of(newest)
    accelerator.init_trackers("", {})

    source = _readable(config, _examples(method, accelerator, step * config.accumulate))
    last = min(config.steps, stop_after or config.steps)
    if accelerator.is_main_process:
        samples = config.batch_size * config.accumulate * accelerator.num_processes
        tqdm.write(config.told_rate(samples), file=sys.stderr)
    bar = tqdm(total=config.steps, initial=step, disable=not accelerator.is_main_process, mininterval=1, desc="training")
    while step < last:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate(step)
        shown = _step(method, accelerator, model, optimizer, source)
        step += 1
        if average is not None:
            average.update()
        bar.update()
        saves = step % config.save_every == 0 or step == last
        if step % 10 == 0 or saves:
            numbers = {name: accelerator.reduce(value, "mean").item() for name, value in shown.items()}
            if not math.isfinite(numbers["total"]):
                raise FloatingPointError(_diverged(f"The loss is {numbers['total']}", step, out))
            bar.set_postfix({name: f"{value:.4f}" for name, value in numbers.items()})
            accelerator.log({**numbers, "lr": config.learning_rate(step - 1)}, step=step)
        if saves:
            if not run_state.finite(accelerator, optimizer, average):
                raise FloatingPointError(_diverged("A weight is no longer finite, or beyond all measure", step, out))
            newest = _save(method, accelerator, model, optimizer, average, step)
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


def _diverged(what: str, step: int, out: Path) -> str:
    return (
        f"{what} at step {step}. Lower lr, set clip_norm (1.0), or use bf16 instead of fp16; "
        f"then go on from the last checkpoint in {out}."
    )


def _check_validation(config: TrainingConfig) -> None:
    """What would otherwise be met after hours: sizes that the base does not draw, pictures that cannot be opened."""
    if config.base == MINI:
        check_size(config.size, config.size)
    for thing in (thing for wanted in config.validation for thing in wanted.things):
        open_picture(Path(thing.reference))
        if thing.mask is not None:
            open_mask(Path(thing.mask))


def _frozen(config: TrainingConfig, accelerator: Accelerator) -> Frozen:
    base = load_base(config.base, config.vision_encoder)
    encoders = [model for model in base.models if model is not base.unet]
    loaded = fingerprint(*encoders)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    for part in base.models:
        if part is not base.vae:
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
    if shards.is_shards(config.data):
        if config.cache:
            raise ValueError("`cache` needs a fixed set of pictures on this disk; leave it out for webdataset shards.")
        streamed = StreamedExamples(inputs, process, processes, start)
        return iter(DataLoader(streamed, batch_size=config.batch_size, **options))
    source = inputs.source()
    if config.cache:
        with accelerator.main_process_first():
            reader: Any = cached_reader(Path(config.cache), source, method)
    else:
        reader = PictureReader(source, inputs)
    positions = batches(config, start, process, processes)
    return iter(DataLoader(Examples(source, inputs, reader), batch_sampler=positions, **options))


def _readable(config: TrainingConfig, source: Iterator[Example]) -> Iterator[Example]:
    """The batches without what the readers say about samples: those that they could not read are told once each, up to a limit; of
    those that are of no use the first, the second, the fourth and so on.
    """
    met: set[str] = set()
    unfit: set[str] = set()
    for batch in source:
        if FAILED in batch:
            raise ValueError(batch[FAILED])
        for reason in batch.pop(UNREADABLE):
            if reason not in met:
                met.add(reason)
                logging.getLogger(__name__).warning(
                    plain(f"{reason} Skipped ({len(met)} of at most {config.most_unreadable}).")
                )
            if len(met) > config.most_unreadable:
                raise ValueError(
                    f"{len(met)} samples cannot be read, the last: {reason} Mend the data, or raise `most_unreadable` "
                    f"({config.most_unreadable})."
                )
        for reason in batch.pop(UNFIT):
            if reason not in unfit:
                unfit.add(reason)
                if len(unfit).bit_count() == 1:
                    told = plain(f"{reason} Left out ({len(unfit)} so far).")
                    logging.getLogger(__name__).warning(told)
        yield batch


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


def _save(method: Method, accelerator: Accelerator, model: Any, optimizer: Any, average: Average | None, step: int) -> Path:
    """A checkpoint folder: the run's state, the trained weights in the method's format, and the configuration."""
    config, out = method.config, Path(method.config.out)
    weights, kept = run_state.gather(accelerator, model, optimizer, average)
    folder = out / f"checkpoint-{step}"

    def write(folder: Path) -> None:
        run_state.write(folder, weights, kept)
        method.save(weights, folder / trained_file(method))
        if average is not None:
            method.save(kept["average"]["values"], folder / trained_file(method, averaged=True))
        (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")

    if accelerator.is_main_process:
        folder = checkpoints.save(out, step, config.keep, write)
    accelerator.wait_for_everyone()
    return folder
