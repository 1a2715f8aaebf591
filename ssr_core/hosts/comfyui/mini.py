"""SSR Mini in ComfyUI's own classes, so that every node of the host and of other packs works on it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import comfy.clip_vision
import comfy.model_management
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy.patcher_extension import WrappersMP
from safetensors.torch import load_file
from torch import Tensor

from ...mini import files, vocabulary
from ...mini.scene import SIDE, check_size, example_scenes
from .elite import HostElite, load_elite
from .managed import patcher_class
from .mip import HostAdapter, load_adapter
from .ssr import HostEncoder, load_encoder

log = logging.getLogger("ssr_encoder")

SCALE = 0.18215
"""Factor between the host's SD1.5 latents and Mini's, which have unit variance."""


def unet_config() -> dict[str, Any]:
    """The host's description of the UNet."""
    layers = files.LAYERS_PER_BLOCK
    return {
        "image_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": files.CHANNELS[0],
        "channel_mult": [width // files.CHANNELS[0] for width in files.CHANNELS],
        "num_res_blocks": [layers] * 3,
        "transformer_depth": [1, 1] * layers + [0] * layers,
        "transformer_depth_output": [1, 1] * (layers + 1) + [0] * (layers + 1),
        "transformer_depth_middle": 1,
        "context_dim": files.WIDTH,
        "num_heads": files.HEADS,
        "num_head_channels": -1,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "legacy": False,
        "use_checkpoint": False,
    }


class MiniModels(NamedTuple):
    """MODEL, CLIP, VAE, CLIP_VISION, SSR_ENCODER, MIP_ADAPTER and ELITE."""

    model: Any
    clip: Any
    vae: Any
    clip_vision: Any
    encoder: HostEncoder
    mip_adapter: HostAdapter
    elite: HostElite


class _MiniConfig(comfy.supported_models.SD15):
    """SD1.5's sampling, latent format and conditioning around a UNet of other widths."""

    unet_config: ClassVar[dict[str, Any]] = {}
    unet_extra_config: ClassVar[dict[str, Any]] = {}


def load(folder: Path = files.FOLDER) -> MiniModels:
    return MiniModels(
        model=_model(folder),
        clip=_clip(load_file(files.find(folder, files.TEXT_ENCODER))),
        vae=_vae(load_file(files.find(folder, files.AUTOENCODER))),
        clip_vision=_clip_vision(load_file(files.find(folder, files.VISION_ENCODER))),
        encoder=load_encoder([str(files.find(folder, files.ENCODER))]),
        mip_adapter=load_adapter(str(files.find(folder, files.MIP_ADAPTER))),
        elite=load_elite([str(files.find(folder, name)) for name in files.ELITE]),
    )


def _model(folder: Path, disable_dynamic: bool = False) -> Any:
    state = load_file(files.find(folder, files.UNET))
    described = unet_config()
    names = comfy.utils.unet_to_diffusers(described)
    own = {names[name]: value.float() for name, value in state.items()}
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    config = _MiniConfig(described)
    # Six million parameters: float32 costs nothing and gives the same picture on every device.
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(own, "", device=offload)
    model.load_model_weights(own, "")
    patcher = patcher_class(disable_dynamic)(model, load_device=device, offload_device=offload)
    # How the host gets a second copy with weights of its own: for LoRAs on conds, and for other GPUs.
    patcher.cached_patcher_init = (_model, (folder,))
    for kind, wrapper in ((WrappersMP.OUTER_SAMPLE, _tell_size), (WrappersMP.APPLY_MODEL, _refuse_size)):
        patcher.add_wrapper_with_key(kind, "ssr_mini", wrapper)
    return patcher


def _tell_size(executor: Any, noise: Tensor, *args: Any, **kwargs: Any) -> Any:
    """OUTER_SAMPLE: other sizes are drawn, as tiles and hires passes may want, but not in silence."""
    if (size := _size(noise)) != (SIDE, SIDE):
        log.warning(
            "SSR Mini was trained on pictures of %d x %d pixels; one of %d x %d shows less than it could.", SIDE, SIDE, *size
        )
    return executor(noise, *args, **kwargs)


def _refuse_size(executor: Any, latent: Tensor, *args: Any, **kwargs: Any) -> Any:
    """APPLY_MODEL: what would be no picture at all is refused. Larger pictures may be drawn in tiles, so the size of each call counts."""
    check_size(*_size(latent))
    return executor(latent, *args, **kwargs)


def _size(latent: Tensor) -> tuple[int, int]:
    """Width and height in pixels."""
    height, width = (side * 8 for side in latent.shape[-2:])
    return width, height


def _clip(state: dict[str, Tensor]) -> Any:
    rows = state.pop(files.EMBEDDING_ROWS)
    # The rest of CLIP's vocabulary stays zero: words that this world does not have.
    whole = rows.new_zeros(vocabulary.CLIP_VOCABULARY, rows.shape[1])
    state[files.EMBEDDING] = whole.index_copy_(0, torch.tensor(vocabulary.ids(len(rows))), rows)

    known = set(vocabulary.ids(len(rows)))

    class Tokenizer(comfy.sd1_clip.SD1Tokenizer):
        """The host's, but for words that this world does not have: to Mini they would all be nothing, without a word."""

        def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> Any:
            tokens = super().tokenize_with_weights(text, *args, **kwargs)
            met = [entry[0] for chunk in tokens["l"] for entry in chunk]
            unknown = dict.fromkeys(token for token in met if isinstance(token, int) and token not in known)
            vocabulary.refuse([self.clip_l.inv_vocab[token].removesuffix("</w>") for token in unknown])
            return tokens

    class Target:
        params: ClassVar[dict[str, Any]] = {}
        clip = comfy.sd1_clip.SD1ClipModel
        tokenizer = Tokenizer

    options = {"clip_l_model_config": {**files.TEXT_CONFIG, "eos_token_id": vocabulary.END}, "dtype": torch.float32}
    clip = comfy.sd.CLIP(
        Target,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        model_options=options,
        parameters=sum(value.numel() for value in state.values()),
    )
    clip.load_sd({name: value.float() for name, value in state.items()})
    return clip


def _vae(state: dict[str, Tensor]) -> Any:
    own: dict[str, Tensor] = {"vae_scale": torch.tensor(SCALE), "vae_shift": torch.tensor(0.0)}
    for name, value in state.items():
        part, _, number, *rest = name.split(".")
        # The host's decoder counts the clamp before its first convolution as a layer.
        own[".".join((f"taesd_{part}", str(int(number) + (part == "decoder")), *rest))] = value.float()
    return comfy.sd.VAE(sd=own, dtype=torch.float32)


def _clip_vision(state: dict[str, Tensor]) -> Any:
    model = comfy.clip_vision.ClipVisionModel(str(files.VISION_CONFIG))
    model.load_sd({name: value.float() for name, value in state.items()})
    return model


def scene(seed: int, objects: int, background: str | None, marked: int, pictures: int = 1) -> tuple[Tensor, Tensor, str, str]:
    """IMAGE [pictures, H, W, 3], MASK [pictures, H, W] of the marked object, its class word, and the caption that tells looks.

    The first picture has all objects; the others show the marked one alone, each on another background.
    """
    if marked > objects:
        raise ValueError(
            f"The scene has {objects} objects; there is no object {marked} to mask. Lower marked or raise objects."
        )
    first, *alone = example_scenes(seed, objects, background, marked, pictures)
    shown = [first.drawn, *(one.drawn for one in alone)]
    masks = [first.drawn.masks[marked - 1], *(one.drawn.masks[0] for one in alone)]
    image = torch.from_numpy(np.stack([np.asarray(drawn.picture) for drawn in shown]).astype(np.float32) / 255)
    mask = torch.from_numpy(np.stack(masks).astype(np.float32) / 255)
    return image, mask, first.things[marked - 1].instance.kind, first.told
