"""The host's MODEL and CLIP as learning asks for models (methods/lasr/recipe.py), under its memory management.

Both are loaded whole for as long as steps are made: a step's gradient needs every weight that its forward pass used. Weights that the
host streams while it samples (dynamic VRAM) may be gone by then, so on such hosts learning has a copy of its own that is loaded at once.
LoRAs on MODEL and CLIP count, other patches do not: what is learned belongs to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import comfy.model_base
import comfy.model_management
import torch
from torch import Tensor

from ...layout import CrossAttention
from ...methods.lasr.recipe import Context
from ...methods.lasr.views import Views, squared, views_of
from . import context
from .clip_text import HostText, pieces_of
from .context_patches import CALL, NOTED, BlockName, patched
from .gradients import gradients_through
from .layout import layout_of

WHAT = "a learned subject"


class HostModels:
    """For the length of a run, inside opened(). The MODEL and the CLIP that it was made of are not changed."""

    def __init__(self, model: Any, clip: Any, name: str = "", checkpointing: bool = False) -> None:
        """name: of the base, for files. Raises ValueError for models that subjects are not learned on."""
        self.layout, width = layout_of(model, WHAT)
        base, sampling = model.model, model.get_model_object("model_sampling")
        if base.model_type is not comfy.model_base.ModelType.EPS or not _predicts_noise(sampling):
            found = base.model_type.name if base.model_type is not comfy.model_base.ModelType.EPS else type(sampling).__name__
            raise ValueError(
                f"This MODEL predicts {found}, and subjects are learned on one that predicts noise (EPS) at each of its timesteps. Load "
                "another checkpoint of Stable Diffusion 1.x, or take away the node that changes its sampling."
            )
        self.patcher, own = _loaded_whole(model, "MODEL"), clip
        if (text := _loaded_whole(clip.patcher, "CLIP")) is not clip.patcher:
            own = clip.clone()
            own.patcher, own.cond_stage_model = text, text.model
        self.text = HostText(own, width, WHAT)
        if (found := self.text.table.shape[1]) != width:
            raise ValueError(
                f"This CLIP's tokens have width {found}, and this MODEL takes texts of width {width}. Connect the CLIP of the same "
                "checkpoint."
            )
        self.clip, self.base, self.checkpointing = own, name, checkpointing
        self.device: torch.device = self.patcher.load_device
        self.kept: Tensor = 1 / (sampling.sigmas.detach().cpu().float() ** 2 + 1)
        self.half = self.device.type != "cpu" and self._dtype == torch.float16

    @cached_property
    def knows_photos(self) -> bool:
        """SSR Mini's tokenizer refuses words that its drawn world does not have."""
        try:
            self.tokens("photo")
        except ValueError:
            return False
        return True

    @property
    def table(self) -> Tensor:
        return self.text.table.detach()

    @contextmanager
    def opened(self, memory: int) -> Iterator[None]:
        """Loaded, with gradients on. memory: bytes that a step takes besides the weights, for which the host makes room."""
        comfy.model_management.load_models_gpu([self.patcher, self.text.patcher], memory_required=memory, force_full_load=True)
        unet = self.patcher.model.diffusion_model
        with gradients_through(unet, self.text.model, self.checkpointing):
            yield

    def tokens(self, text: str) -> list[tuple[int, str]]:
        return pieces_of(self.clip.tokenizer, text)

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Cut to the text encoder's length; weights such as (z:1.2) are no weights here."""
        rows = []
        for text in texts:
            chunk = [entry[0] for entry in self.clip.tokenize(text, disable_weights=True)["l"][0]]
            if not all(isinstance(token, int) for token in chunk):
                raise ValueError(
                    f"The text {text[:60]!r} has an embedding in it. Subjects are learned with words only; take it out."
                )
            rows.append(chunk)
        return torch.tensor(rows)

    @torch.no_grad()
    def embeds(self, ids: Tensor) -> Tensor:
        table = self.table
        return table[ids.to(table.device)].float().to(self.device)

    def encode(self, embeds: Tensor) -> Tensor:
        return self.text.encode(embeds)

    def predict(self, noisy: Tensor, timesteps: Tensor, context_of: Context) -> Tensor:
        dtype = self._dtype
        call = _Asked(context.sites_of(self.layout), context_of)
        options = {"patches": patched({}, call), CALL: call, NOTED: {}, "cond_or_uncond": [0]}
        text = noisy.new_zeros(len(noisy), 77, self.table.shape[1], dtype=dtype)  # every layer gets another
        unet = self.patcher.model.diffusion_model
        return unet(noisy.to(dtype), timesteps.float(), context=text, transformer_options=options).float()

    @property
    def unet_bytes(self) -> int:
        """Of a number in the UNet."""
        return self._dtype.itemsize

    @property
    def _dtype(self) -> torch.dtype:
        base = self.patcher.model
        return base.get_dtype() if base.manual_cast_dtype is None else base.manual_cast_dtype


class _Asked:
    """context_patches.Asked around a function."""

    reads_features = True

    def __init__(self, sites: dict[BlockName, tuple[int, CrossAttention]], context_of: Context) -> None:
        self.sites, self._context_of = sites, context_of

    def context(self, block: BlockName, text: Tensor, features: Tensor | None, time: Tensor | None) -> Tensor:
        if features is None or time is None:
            raise ValueError(
                f"What enters block {block} of this MODEL is not known; another node runs its UNet in its own way."
            )
        return self._context_of(self.sites[block][0], features, time).to(text.dtype)


def _predicts_noise(sampling: Any) -> bool:
    """Asked of what samples, since nodes patch that and leave the model's own type: whether it takes the UNet's answer for the noise, and
    the number of a sigma for its timestep."""
    sigma, answer, noisy = (torch.full((1, 1, 1, 1), value) for value in (1.5, 2.0, 7.0))
    denoised = sampling.calculate_denoised(sigma.flatten(), answer, noisy)
    sigmas = sampling.sigmas
    timesteps = sampling.timestep(sigmas).to("cpu", torch.float64)
    return torch.allclose(denoised, noisy - sigma * answer) and torch.equal(
        timesteps, torch.arange(len(sigmas), dtype=torch.float64)
    )


def _loaded_whole(patcher: Any, what: str) -> Any:
    """The patcher itself or, where its weights are streamed, a copy that is not."""
    if not getattr(patcher, "is_dynamic", lambda: False)():
        return patcher
    if patcher.cached_patcher_init is None:
        raise ValueError(
            f"This {what} streams its weights (dynamic VRAM), and the node that loaded it does not tell how to load it whole. Start "
            "ComfyUI with --disable-dynamic-vram to learn on it, or load it with a core loader."
        )
    return patcher.clone(disable_dynamic=True)


def views_of_images(
    model: Any,
    vae: Any,
    pictures: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    side: int,
    coarsest: int,
    fit: str = "crop",
    on_view: Callable[[], None] = lambda: None,
) -> Views:
    """pictures: [H, W, 3] each, as the host keeps them; masks: [H, W] or None; side: of the square in pixels."""

    def encode(pixels: Tensor) -> Tensor:
        image = (pixels.permute(0, 2, 3, 1) + 1) / 2  # [1, S, S, 3]
        return model.model.process_latent_in(vae.encode(image)).float()

    with torch.inference_mode(False), torch.no_grad():
        square = [squared(picture[..., :3].clone().float().cpu().permute(2, 0, 1), side, fit) for picture in pictures]
        parts = [None if mask is None else squared(mask.clone().float().cpu()[None], side, fit)[0].round() for mask in masks]
        return views_of(square, parts, encode, coarsest, on_view=on_view)
