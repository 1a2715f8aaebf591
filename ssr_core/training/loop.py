"""The training loop: frozen base, trained encoder, on accelerate's engines (one device, DDP, FSDP).

A run is its configuration: samples and noise follow from the seed and the position (examples.py), the learning rate from the
step, so that a checkpoint needs weights, optimizer and the step to go on exactly where it stood.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, set_seed
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from .. import checkpoints
from ..encoder import EncoderConfig, SSREncoder, fingerprint
from ..hosts.diffusers.attach import check_unet
from ..hosts.diffusers.load import load_base
from . import records
from .average import Average
from .cache import cached_reader
from .config import TrainingConfig
from .examples import Example, Examples, PictureReader, StreamedExamples, batches, collate
from .frozen import Frozen
from .frozen import fingerprint as fingerprint_of
from .losses import Loss, objective
from .model import SubjectKeysValues
from .validation import draw_validation

ENCODER, AVERAGED = "encoder.safetensors", "encoder_ema.safetensors"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def train(config: TrainingConfig, resume: bool = False, cpu: bool = False, stop_after: int | None = None) -> Path:
    """Run, and return the folder of the last checkpoint.

    resume: go on from the newest checkpoint in config.out. stop_after: end early, with a checkpoint, as an interruption would.
    Raises ValueError for a configuration, data or models that do not fit, FloatingPointError when the loss is no number.
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
    frozen, encoder = _models(config, accelerator)
    model, optimizer = accelerator.prepare(
        SubjectKeysValues(encoder),
        torch.optim.AdamW(encoder.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay),
    )
    average = Average([p for group in optimizer.param_groups for p in group["params"]], config.ema) if config.ema else None
    if average is not None:
        accelerator.register_for_checkpointing(average)
    step = 0
    if newest is not None:
        accelerator.load_state(str(newest))
        step = int(json.loads((newest / "progress.json").read_text())["step"])
    accelerator.init_trackers("", {})

    source = _examples(config, frozen, accelerator, step * config.accumulate)
    last = min(config.steps, stop_after or config.steps)
    bar = tqdm(total=config.steps, initial=step, disable=not accelerator.is_main_process, mininterval=1, desc="training")
    while step < last:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate(step)
        shown = _step(config, accelerator, frozen, model, optimizer, source)
        step += 1
        if average is not None:
            average.update()
        bar.update()
        if step % 10 == 0 or step == last:
            numbers = {name: accelerator.reduce(value, "mean").item() for name, value in shown._asdict().items()}
            if not math.isfinite(numbers["total"]):
                raise FloatingPointError(
                    f"The loss is {numbers['total']} at step {step}. Lower lr, set clip_norm (1.0), or use bf16 instead of fp16; "
                    f"then go on from the last checkpoint in {out}."
                )
            bar.set_postfix({name: f"{value:.4f}" for name, value in numbers.items()})
            accelerator.log({**numbers, "lr": config.learning_rate(step - 1)}, step=step)
        if step % config.save_every == 0 or step == last:
            newest = _save(config, accelerator, model, average, step)
        if config.validation and (step % config.validate_every == 0 or step == config.steps):
            with average.in_place() if average is not None else nullcontext():
                if accelerator.is_main_process:
                    trained = accelerator.unwrap_model(model).encoder
                    sheet = draw_validation(config, frozen.base, trained, out / "validation" / f"step-{step:06}.png")
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


def _models(config: TrainingConfig, accelerator: Accelerator) -> tuple[Frozen, SSREncoder]:
    base = load_base(config.base, config.vision_encoder)
    loaded = fingerprint_of(base)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    for part in (base.unet, base.text_encoder, base.vision_encoder):
        part.to(accelerator.device, half)
    base.vae.to(accelerator.device)  # in float32: its output is what the model learns to draw
    if config.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    if config.start_from:
        encoder = checkpoints.load([Path(path) for path in config.start_from], dtype=torch.float32).requires_grad_(True).train()
    else:
        encoder = SSREncoder(
            EncoderConfig(
                layout=base.layout,
                text_width=base.text_encoder.config.hidden_size,
                vision_width=base.vision_encoder.config.hidden_size,
                inner_width=config.inner_width,
                heads=config.heads,
                vision_layers=config.vision_layers,
            )
        )
    check_unet(base.unet, encoder.config.layout)
    return Frozen(base, encoder.config.vision_layers, accelerator.device, loaded), encoder


def _examples(config: TrainingConfig, frozen: Frozen, accelerator: Accelerator, start: int) -> Iterator[Example]:
    """Batches of this process from its batch number `start` on, without end."""
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
        streamed = StreamedExamples(config, frozen.shape, process, processes, start)
        return iter(DataLoader(streamed, batch_size=config.batch_size, **options))
    source = records.read(config.data)
    if config.cache:
        with accelerator.main_process_first():
            reader: Any = cached_reader(Path(config.cache), source, config, frozen, frozen.shape)
    else:
        reader = PictureReader(source, config, frozen.shape)
    positions = batches(config, start, process, processes)
    return iter(DataLoader(Examples(source, config, reader), batch_sampler=positions, **options))


def _step(
    config: TrainingConfig, accelerator: Accelerator, frozen: Frozen, model: Any, optimizer: Any, source: Iterator[Example]
) -> Loss:
    """One optimizer step; returns the means over its batches of this process."""
    losses: list[tuple[Tensor, ...]] = []
    for _ in range(config.accumulate):
        with accelerator.accumulate(model):
            with torch.no_grad():
                batch = frozen.encode(next(source))
            loss = gradients(
                model, frozen, batch, config.regulariser, config.timestep_weights, accelerator.backward, accelerator.autocast
            )
            if accelerator.sync_gradients and config.clip_norm:
                accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(tuple(part.detach() for part in loss))
    return Loss(*(torch.stack(parts).mean() for parts in zip(*losses, strict=True)))


def gradients(
    model: Any,
    frozen: Frozen,
    batch: Example,
    regulariser: float,
    timestep_weights: str = "official",
    backward: Callable[[Tensor], None] = Tensor.backward,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Loss:
    """The objective of one encoded batch, and its gradients through the frozen UNet into the encoder."""
    query = batch["query_embeds"]  # [B, n, T, D]
    noisy, noise, timesteps = frozen.noise(batch)
    weights = frozen.weights[timesteps] if timestep_weights == "balanced" else None
    with autocast():
        tokens, keys_values = model(query, batch["features"].float(), batch["masks"], batch["mask_weights"])
    with frozen.attached(keys_values, noisy.shape[0]):
        with autocast():
            predicted = frozen.predict(noisy, timesteps, batch["prompt_embeds"])
            loss = objective(predicted, noise, tokens, query.flatten(0, 1), regulariser, weights)
        backward(loss.total)
    return loss


def _save(config: TrainingConfig, accelerator: Accelerator, model: Any, average: Average | None, step: int) -> Path:
    """A checkpoint folder: the engine's state, the encoder(s) in the one format, the configuration, and last the step."""
    out = Path(config.out)
    folder = out / f"checkpoint-{step}"
    accelerator.save_state(str(folder))
    _export(config, accelerator, model, folder / ENCODER)
    if average is not None:
        with average.in_place():
            _export(config, accelerator, model, folder / AVERAGED)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        (folder / "progress.json").write_text(json.dumps({"step": step}))
        older = sorted((path for path in out.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)), key=_number)
        for path in older[: -config.keep - 1]:
            shutil.rmtree(path)
    accelerator.wait_for_everyone()
    return folder


def _export(config: TrainingConfig, accelerator: Accelerator, model: Any, path: Path) -> None:
    """The encoder alone, as every host loads it; it carries the configuration it was trained with."""
    state = accelerator.get_state_dict(model)
    if not accelerator.is_main_process:
        return
    shapes = accelerator.unwrap_model(model).encoder.config
    own = {name.removeprefix("encoder."): tensor.detach().cpu().float() for name, tensor in state.items()}
    weights = checkpoints.Weights(shapes, own, fingerprint(own, shapes))
    checkpoints.write(weights, path, extra={"training": config.to_yaml()})
