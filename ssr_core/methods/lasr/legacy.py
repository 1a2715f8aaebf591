"""The authors' files, embeddings_gs-<step>.pt: pickled modules, read without running anything that is in them.

torch's restricted unpickler gets an inert stand-in for each of the ten classes that such a file names, and refuses every other name. What
comes out are dictionaries and tensors; of those only what is known by name, in known places, is taken, and only in the right shape.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import finite, tensor_files
from ...layout import SD15
from ...shown import shown
from .embedder import EmbedderShapes, SubjectEmbedder
from .subject import MOST_SUBJECTS, BaseModel, LasrSubject, LasrSubjects, check_together

LARGEST_FILE = 64_000_000
"""Bytes. A file with one subject has about a million."""
REMEDY = "Copy the file again, or learn the subject again."

STATIC_KEY, TOKEN_KEY = "string_to_param", "string_to_token"
ADAPTIVE_KEYS, ALPHA_KEYS = ("string_to_lasr_embedder", "string_to_ada_embedder"), ("lasr_emb_weight", "ada_emb_weight")
"""Under their first name, and the one of March 2023, which files of the same method have."""
_MANAGER, _TORCH = "ldm.modules.embedding_manager", "torch.nn.modules"


class _StandIn:
    """In the place of a module: keeps what the pickle says of it, and does nothing."""

    def __setstate__(self, state: object) -> None:
        if type(state) is not dict:
            raise TypeError("a module's state that is no dictionary")
        self.parts = state


_NAMES = (
    *(
        f"{_MANAGER}.{name}"
        for name in ("StaticLayerwiseEmbedding", "LASREmbedding", "AdaEmbedding", "LNCat2", "MaskedAvgPool2d")
    ),
    *(f"{_TORCH}.container.{name}" for name in ("ModuleDict", "ModuleList", "ParameterDict")),
    f"{_TORCH}.linear.Linear",
    f"{_TORCH}.normalization.LayerNorm",
    f"{_TORCH}.pooling.AdaptiveAvgPool2d",
)
STAND_INS = tuple((type(name.rpartition(".")[2], (_StandIn,), {}), name) for name in _NAMES)


def is_legacy(path: Path) -> bool:
    """Whether a file may be one of these, by its first bytes: torch's pickles are zip files."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def load(path: Path) -> LasrSubjects:
    """The subjects of a file, one for each placeholder in it. Raises ValueError that names the file for anything else."""
    content = _unpickled(path)
    try:
        return _subjects(content)
    except ValueError as error:
        raise ValueError(f"{shown(path)} is no subject of LASR as its authors' code writes it ({error}). {REMEDY}") from error


def _unpickled(path: Path) -> object:
    named = shown(path)
    if not tensor_files.reads_pickles():
        raise ValueError(
            f"{named} is a pickle, and torch {torch.__version__} does not read those safely; torch "
            f"{'.'.join(map(str, tensor_files.SAFE_PICKLES))} or newer does. Load it where torch is newer, and save the subject from there."
        )
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(f"{named} has {size:,} bytes; a subject has about a million. Is it the right file?")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        stored = all(member.compress_type == zipfile.ZIP_STORED and member.file_size <= size for member in members)
        stand_ins: list[Any] = [*STAND_INS, set]
        with torch.serialization.safe_globals(stand_ins), path.open("rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True) if stored else None
    except Exception as error:  # the restricted unpickler meets damaged bytes with whatever they happen to break
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        found = (
            f"it holds {shown(foreign[1], 80)}, which could run code" if foreign else f"it is damaged ({type(error).__name__})"
        )
        raise ValueError(f"{named} cannot be read as a subject: {found}. {REMEDY}") from error
    if not stored:
        raise ValueError(f"{named} is a compressed archive, which torch does not write. {REMEDY}")
    return content


def _subjects(content: object) -> LasrSubjects:
    whole = _dictionary(content, "the file")
    tokens = _dictionary(whole.get(TOKEN_KEY), TOKEN_KEY)
    statics = _modules(whole.get(STATIC_KEY), STATIC_KEY)
    adaptive_key = next((key for key in ADAPTIVE_KEYS if key in whole), ADAPTIVE_KEYS[0])
    adaptives = _modules(whole.get(adaptive_key), adaptive_key)
    alpha_key = next((key for key in ALPHA_KEYS if key in whole), ALPHA_KEYS[0])
    alpha = whole.get(alpha_key)
    if not isinstance(alpha, int | float):
        raise ValueError(f"{alpha_key} is no number")
    names = list(statics)
    if not 1 <= len(names) <= MOST_SUBJECTS or not all(type(name) is str for name in names):
        raise ValueError(f"{len(names):,} placeholders, expected 1 to {MOST_SUBJECTS} words")
    if not statics.keys() == adaptives.keys() <= tokens.keys():
        raise ValueError(f"not all of {tensor_files.listed(names)} have a token, a static and an adaptive embedder")
    subjects = tuple(_subject(name, tokens[name], statics[name], adaptives[name], alpha) for name in names)
    check_together(subjects)
    return subjects


def _subject(placeholder: str, token: object, static: object, adaptive: object, alpha: float) -> LasrSubject:
    if type(token) is not Tensor or token.dtype != torch.int64 or token.ndim or token.device.type != "cpu":
        raise ValueError(f'the token of "{shown(placeholder, 40)}" is no whole number')
    described = _parts(static, "static")
    words, rank = described.get("N"), described.get("r")
    if type(words) is not int or type(rank) is not int:
        raise ValueError("the number of words or the rank is no whole number")
    shapes = EmbedderShapes(SD15, words=words, rank=rank)
    _check_layers(_parts(adaptive, "lasr"), shapes)
    modules = {"static": static, "lasr": adaptive}
    weights = {name: _weight(modules, name, shape) for name, shape in _expected(shapes).items()}
    return LasrSubject(shapes, weights, placeholder, int(token), alpha, base=BaseModel("Stable Diffusion 1.4"))


def _check_layers(described: Mapping[str, Any], shapes: EmbedderShapes) -> None:
    """Whether the file counts layers as we do: which blocks they are, and how wide what enters them is."""
    before = {"input": 0, "middle": 12, "output": 13}  # the authors count on from stage to stage
    blocks = [before[str(layer.block[0])] + layer.block[1] for layer in shapes.layers]
    layers, widths = described.get("layer_idx2emb_idx"), described.get("infeat_dims")
    if type(layers) is not dict or type(widths) is not list:
        raise ValueError("it does not say which layers it is for")
    numbers = [*layers, *layers.values(), *widths]
    if not all(type(number) is int for number in numbers) or layers != {block: index for index, block in enumerate(blocks)}:
        raise ValueError("other layers than Stable Diffusion 1.x has")
    if len(widths) <= max(blocks) or [widths[block] for block in blocks] != [layer.enters for layer in shapes.layers]:
        raise ValueError("other widths than Stable Diffusion 1.x has")


def _expected(shapes: EmbedderShapes) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in SubjectEmbedder(shapes).state_dict().items()}


NORM_EPSILON = 1e-5
ABSENT_WITHOUT_BIAS = {"static.bias": torch.zeros, "static.bias_scales": torch.ones}
"""What stands for parameters that a static embedder without bias does not have."""


def _weight(modules: Mapping[str, object], name: str, shape: tuple[int, ...]) -> Tensor:
    """A parameter in its place among nested modules: "lasr.layer_maps.0.weight". A copy that owns its memory."""
    part, *path, last = name.split(".")
    module = modules[part]
    if name in ABSENT_WITHOUT_BIAS and _parts(module, part).get("has_bias") is False:
        return ABSENT_WITHOUT_BIAS[name](shape)
    for step in path:
        module = _dictionary(_parts(module, name).get("_modules"), name).get(step)
    parts = _parts(module, name)
    if type(epsilon := parts.get("eps", NORM_EPSILON)) is not float or epsilon != NORM_EPSILON:
        raise ValueError(f"{name} belongs to a norm of another epsilon than {NORM_EPSILON}")
    tensor = _dictionary(parts.get("_parameters"), name).get(last)
    if not isinstance(tensor, Tensor) or type(tensor) not in (Tensor, torch.nn.Parameter):
        raise ValueError(f"{name} is missing")
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_nested or not tensor.is_floating_point():
        raise ValueError(f"{name} is no plain tensor of numbers")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {shown(tuple(tensor.shape), 80)}, expected {shape}")
    if (fault := finite.fault(tensor)) is not None:
        raise ValueError(f"{name} holds {fault}")
    return tensor.detach().to(torch.float32, copy=True).contiguous()


def _modules(container: object, named: str) -> Mapping[Any, object]:
    return _dictionary(_parts(container, named).get("_modules"), named)


def _parts(module: object, named: str) -> Mapping[str, Any]:
    if not isinstance(module, _StandIn):
        raise ValueError(f"{named} is not there, or no module")
    return getattr(module, "parts", {})


def _dictionary(value: object, named: str) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{named} is not there, or no dictionary")
    return value
