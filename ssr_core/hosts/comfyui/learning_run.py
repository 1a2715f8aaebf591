"""One run of learning inside the host: under its progress bar, with its previews, ended by its interruption.

What a run has learned lies in output/ssr_lasr/unfinished, where Load Subject (LASR) finds it, with the optimizer's state beside it: every
so many steps, when it ends early, and when it is done, until it is saved under a name. The same run, asked for again, goes on from there.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.utils
import latent_preview
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ...methods.lasr import memory, progress, subject_file
from ...methods.lasr.learning import LayerwiseLearner, Learning, kept_whatever_happens, learned_subject
from ...methods.lasr.memory import Estimate, TextShape
from ...methods.lasr.recipe import Recipe, begin
from ...methods.lasr.subject import LasrSubject, LasrSubjects, table_fingerprint
from ...methods.lasr.texts import caption_frames
from ...methods.lasr.views import Views
from ...mini.scene import SIDE, check_size
from ...schedule import Manner
from ...shown import shown
from . import folders, lasr
from .learning import HostModels, views_of_images

log = logging.getLogger("ssr_encoder")

CHECKPOINTING = ("auto", "on", "off")
SPARE = 0.85
"""Of the device's memory that models and a step may take together before blocks are checkpointed."""
PREVIEW_STEPS, PREVIEW_GUIDANCE = 8, 5.0
SIDE_OF_SD15 = 512
SAVE_EVERY = 500
"""Steps; nothing calls back when a process is killed."""
FINISHED = "finished"
"""Part of what a file says of itself: the steps of a run that was done."""


@dataclass(frozen=True)
class Wanted:
    """captions: one for each picture, or none; side: of the square pictures in pixels, 0 for the base's own; fit: views.FITS;
    preview_every: steps, 0 for none; checkpointing: of CHECKPOINTING; resumes: whether a run that ended early is gone on with."""

    recipe: Recipe
    captions: tuple[str, ...] = ()
    side: int = 0
    fit: str = "crop"
    preview_every: int = 0
    checkpointing: str = "auto"
    resumes: bool = True


@dataclass(frozen=True)
class Learned:
    """history: the losses of this run's steps; report: lines for people."""

    subject: LasrSubject
    history: list[tuple[int, dict[str, float]]]
    report: list[str]


def learn(
    model: Any, clip: Any, vae: Any, pictures: Sequence[Tensor], masks: Sequence[Tensor | None], wanted: Wanted
) -> Learned:
    """pictures: [H, W, 3] each; masks: [H, W] or None. Raises ValueError for what does not fit, and whatever the host interrupts with,
    after what was learned is kept."""
    models = HostModels(model, clip)
    side = wanted.side or (SIDE_OF_SD15 if models.knows_photos else SIDE)
    if not models.knows_photos:
        check_size(side, side)
    recipe, captions = wanted.recipe, caption_frames(wanted.captions, wanted.recipe.placeholder.strip())
    if captions and len(captions) != len(pictures):
        raise ValueError(f"There are {len(captions)} captions for {len(pictures)} pictures. Give one for each, or none.")
    text = models.text.model.transformer.text_model.encoder.layers
    shape, numbers = TextShape(models.table.shape[1], len(text)), models.unet_bytes
    needs = memory.estimate(models.layout, shape, side, recipe, numbers)
    models.checkpointing = wanted.checkpointing == "on" or (wanted.checkpointing == "auto" and not _fits(models, needs))
    if models.checkpointing:
        needs = memory.estimate(models.layout, shape, side, recipe, numbers, checkpointing=True)
    told = f"A step takes about {needs}{', with gradient checkpointing' if models.checkpointing else ''}."
    log.info("SSR-Encoder: learning a subject. %s", told)
    if not _fits(models, needs):
        log.warning("SSR-Encoder: that may be more memory than there is. Lower batch_size, phrases or size.")

    coarsest = side // 8 // 2 ** (len(models.layout.channels) - 1)
    interrupted = comfy.model_management.throw_exception_if_processing_interrupted
    with torch.inference_mode(False):
        begun = begin(models, recipe)  # before anything slow, since it checks the words
        if wanted.preview_every:
            lasr.apply_subjects(model, clip, (begun,), Manner(begun.alpha))  # a preview that cannot be drawn is told now
        views = views_of_images(model, vae, pictures, masks, side, coarsest, wanted.fit, interrupted)
        path = folders.unfinished_path(_key(models, pictures, masks, side, wanted))
        learning, begun = _learning(models, recipe, views, captions, begun, path, wanted.resumes)
        first = learning.step
        medium = "photo" if models.knows_photos else "picture"
        _steps(models, learning, begun, path, needs, wanted, lambda one: _preview(model, clip, one, learning, medium))
        subject = learned_subject(learning, begun)
    report = [f'"{shown(subject.placeholder, 40)}": {learning.step:,} steps from {len(pictures)} pictures. {told}']
    if first == recipe.steps:
        report.append("The same run was done before, and what it learned was kept. Turn resume off to learn it anew.")
    elif first:
        report.append(f"Went on from step {first:,}, where a run was stopped.")
    report.append("Connect Save Subject (LASR): until it has a name it lies in output/ssr_lasr/unfinished.")
    return Learned(subject, learning.history, report)


def _learning(
    models: HostModels,
    recipe: Recipe,
    views: Views,
    captions: tuple[str, ...],
    begun: LasrSubject,
    path: Path,
    resumes: bool,
) -> tuple[Learning, LasrSubject]:
    step, state = 0, None
    if resumes and path.is_file() and subject_file.provenance(path).get(FINISHED) in (None, str(recipe.steps)):
        begun, state = progress.load(path, recipe)
        step = begun.learning.step
    learner = LayerwiseLearner(begun, recipe, models.device)
    return Learning(models, learner, recipe, views, captions, step, state, models.knows_photos), begun


def _steps(
    models: HostModels,
    learning: Learning,
    begun: LasrSubject,
    path: Path,
    needs: Estimate,
    wanted: Wanted,
    preview: Callable[[LasrSubject], Any],
) -> None:
    """All that are left. Between previews the models are open for gradients; a preview has them as every sampler does."""
    total = learning.recipe.steps
    bar = comfy.utils.ProgressBar(total)
    bar.update_absolute(learning.step, total)

    def keep() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        done = {FINISHED: str(total)} if learning.step == total else {}
        progress.keep(learning, begun, path, {"made_by": "ComfyUI-SSR-Encoder, unfinished", **done})

    def ended_early() -> None:
        if not learning.history:
            return
        keep()
        log.warning(
            "SSR-Encoder: learning ended early. The subject of step %d is kept in %s; run the same again to go on.",
            learning.step,
            path,
        )

    with kept_whatever_happens(ended_early):
        while learning.step < total:
            every = wanted.preview_every or total
            with models.opened(needs.total):
                for _ in learning.until((learning.step // every + 1) * every):
                    comfy.model_management.throw_exception_if_processing_interrupted()
                    bar.update_absolute(learning.step, total)
                    if learning.step % SAVE_EVERY == 0 or learning.step == total:
                        keep()
            if wanted.preview_every and learning.step < total:
                try:
                    shown_now = preview(learned_subject(learning, begun))
                except comfy.model_management.OOM_EXCEPTION:
                    log.warning("SSR-Encoder: there is no memory for a preview at step %d; learning goes on.", learning.step)
                    shown_now = None
                bar.update_absolute(learning.step, total, shown_now)


@torch.inference_mode()
def _preview(model: Any, clip: Any, subject: LasrSubject, learning: Learning, medium: str) -> Any:
    """What a prompt with the subject draws by now, always from the same noise, as the host's own previewer shows it; None where the host
    shows no previews."""
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
    if previewer is None:
        return None
    positive = lasr.encode_prompt(clip, (subject,), f"a {medium} of a {subject.placeholder}")
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    seed, latent = learning.recipe.seed, torch.zeros(1, *learning.views.latents.shape[2:])
    drawn = comfy.sample.sample(
        lasr.apply_subjects(model, clip, (subject,), Manner(subject.alpha)),
        comfy.sample.prepare_noise(latent, seed, None),
        PREVIEW_STEPS,
        PREVIEW_GUIDANCE,
        "euler",
        "normal",
        positive,
        negative,
        latent,
        disable_pbar=True,
        seed=seed,
    )
    return previewer.decode_latent_to_preview_image("JPEG", model.model.process_latent_in(drawn))


def _fits(models: HostModels, needs: Estimate) -> bool:
    weights = models.patcher.model_size() + models.text.patcher.model_size()
    return weights + needs.total <= SPARE * comfy.model_management.get_total_memory(models.device)


def forget(subjects: LasrSubjects) -> None:
    """Remove what runs kept of subjects that lie under a name of their own by now."""
    known = {one.fingerprint for one in subjects}
    for path in folders.unfinished_path("any").parent.glob("*.safetensors"):
        with suppress(ValueError, OSError):  # what is no subject is not ours to remove
            if subject_file.load(path).fingerprint in known:
                path.unlink()
                progress.forget_state(path)


def _key(models: HostModels, pictures: Sequence[Tensor], masks: Sequence[Tensor | None], side: int, wanted: Wanted) -> str:
    """What makes two runs the same but for their length. Told by pictures and not by their latents, in which a VAE's last digits differ
    with the memory that it finds free."""
    told = {name: value for name, value in asdict(wanted.recipe).items() if name != "steps"}
    patches = [_patches_of(patcher) for patcher in (models.patcher, models.text.patcher)]
    skipped = getattr(models.clip, "layer_idx", None)
    sample = models.patcher.model.diffusion_model.input_blocks[0][0].weight.detach().flatten()[:64].float().cpu()
    shapes = [None if one is None else tuple(one.shape) for one in (*pictures, *masks)]
    said = (told, wanted.captions, side, wanted.fit, shapes, table_fingerprint(models.table), patches, skipped)
    digest = hashlib.blake2b(repr(said).encode(), digest_size=8)
    digest.update(sample.numpy().tobytes())
    for one in (*pictures, *masks):
        if one is not None:
            digest.update((one.detach().cpu() * 255).round().to(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _patches_of(patcher: Any) -> list[Any]:
    """What LoRAs and the like add to weights: of each its strengths, and some of its numbers."""
    found = []
    for key in sorted(patcher.patches, key=str):
        for strength, added, of_weight, *_ in patcher.patches[key]:
            tensors = [leaf for leaf in tree_leaves(getattr(added, "weights", added)) if isinstance(leaf, Tensor)]
            numbers = [one.flatten()[:4].float().cpu().tolist() for one in tensors]
            found.append((str(key), strength, of_weight, numbers))
    return found
