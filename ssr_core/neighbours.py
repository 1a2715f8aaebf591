"""What else lies in people's model folders, told by its keys or by what it says of itself, so that a wrong choice is named and not called
damaged."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from .tensor_files import ObjectsError

SSR = "an SSR-Encoder"
MIP = "an MIP-Adapter"
IP_ADAPTER = "an IP-Adapter"
ELITE = "a mapper of ELITE"
LASR = "a subject of LASR"
INVERSION = "a textual inversion"

READERS = {
    "ssr_encoder": "Load SSR-Encoder",
    "ssr_subject": "Load Subject",
    "ssr_mip_adapter": "Load MIP-Adapter",
    "ssr_mip_objects": "Load Objects (MIP)",
    "ssr_elite": "Load ELITE",
    "ssr_elite_subject": "Load Subject (ELITE)",
    "ssr_lasr_subject": "Load Subject (LASR)",
}
"""The node that reads each format of ours, as files name it in their metadata."""

_WRAPPED = r"((state_dict|model|module)\.)*"
_KINDS = (
    (MIP, r"(ip_adapter\.)?\d+\.text_to_weight\.weight"),
    (IP_ADAPTER, r"(image_proj|ip_adapter)\..*|\d+\.to_[kv]_ip\.weight"),
    (ELITE, r"((global|local)_mapper\.)?(mapping(_patch)?_\d+\.\d+\..*|\w+_attn2_to_[kv]\.weight)"),
    (LASR, r"(static|lasr)\..*"),
    ("a ControlNet", r"(control_model|controlnet_\w+|zero_convs|input_hint_block)\..*"),
    ("a LoRA", r"(.*\.)?(lora_(up|down|A|B|mid)|hada_w\d_[ab]|lokr_w\d\w*)(\..*)?|lora_(unet|te\d?)_.*"),
    ("a Stable Diffusion checkpoint", r"(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\..*"),
    ("a UNet", r"(unet\.|diffusion_model\.)?(down_blocks|input_blocks|mid_block|middle_block)\..*"),
    ("a CLIP vision model", r"(vision_model|visual)\..*"),
    ("a text encoder", r"(text_model|transformer\.text_model)\..*"),
    ("a VAE", r"(encoder|decoder|quant_conv|post_quant_conv)\.(conv_in|down|mid|up|mid_block|weight)\b.*"),
    (INVERSION, r"emb_params|string_to_param\..*|clip_[lg]"),
    # The last: its oldest files have names such as norm.weight, which others have too.
    (SSR, r"\d+\.\w+_(SSR|SC)\.weight|aligner\..*|norm\.(weight|bias)|\w*attn\w*\.(to_[qk]\.weight|processor\..*)"),
)
"""Key patterns of each kind; of several that fit, the first says more. mip.md, elite.md and lasr.md have the first ones' key lists."""

_LONGEST = 160
"""Characters of a key that are looked at."""
_EMBEDDINGS = "ldm.modules.embedding_manager"
_LASR_OBJECTS = tuple(f"{_EMBEDDINGS}.{name}" for name in ("StaticLayerwiseEmbedding", "LASREmbedding", "AdaEmbedding"))


def kind_of(keys: Collection[str], own: str | None = None) -> str | None:
    """What a file is by its keys; None where they say nothing, or where there are keys of the asking method's own among them.

    own: SSR, ELITE, ..., what a file of the asking method is called here, or None where no method asks.
    """
    patterns = {kind: re.compile(_WRAPPED + f"({pattern})") for kind, pattern in _KINDS}

    def fits(kind: str) -> bool:
        return any(patterns[kind].fullmatch(key[:_LONGEST]) for key in keys)

    if own is not None and fits(own):
        return None
    return next((kind for kind in patterns if fits(kind)), None)


def kind_of_objects(names: Sequence[str]) -> str | None:
    """The same by the Python objects that a pickle asks for. LASR's authors save whole modules (lasr.md, section 10)."""
    if any(name in _LASR_OBJECTS for name in names):
        return LASR
    if any(name.startswith(_EMBEDDINGS) for name in names):
        return "embeddings of another textual inversion with modules in it"
    if set(names) == {"torch.nn.modules.container.ParameterDict"}:  # its first code's files
        return INVERSION
    if any(name.startswith("pytorch_lightning") for name in names):
        return "a training checkpoint of pytorch_lightning with its callbacks"
    return None


def of_objects(error: ObjectsError, own: str) -> ValueError:
    """What to say of a pickle that holds more than tensors, where `own` was expected."""
    kind = kind_of_objects(error.names)
    if kind is None or kind == own:
        return ValueError(str(error))
    return ValueError(
        f"{error} By their names this is {kind}, not {own}.{sent_on('ssr_lasr_subject' if kind == LASR else None)}"
    )


def sent_on(form: str | None, otherwise: str = "") -> str:
    """The end of a message about a file of another format than was expected: which node reads it; `otherwise` where none of ours does."""
    return f" {READERS[form]} reads it." if form in READERS else otherwise
