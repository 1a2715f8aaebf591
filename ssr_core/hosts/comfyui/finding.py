"""Model files that nobody named: an SSR-Encoder and its CLIP vision model, found in all model folders by name, else by shape.

The names are the manifest's. Where no file has them, the one file whose tensors have the released names and shapes is taken; two that
differ are nobody's to choose between, and are listed. Knows files and their headers, not what is done with them (ssr.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

import folder_paths
import torch

from ...methods.ssr import formats
from ...methods.ssr.encoder import EncoderConfig, SSREncoder
from ...shown import shown
from ...tensor_files import Shapes, read_names
from ...weights import WeightFile, read_manifest
from .folders import EXTENSIONS, FOLDER, PAIRS, VISION_FOLDER

AUTO = "auto"
VISION_POSITIONS = ("vision_model.embeddings.position_embedding.weight", (257, 1024))
"""Of CLIP ViT-L/14 at 224 pixels. The same model at 336 pixels has more places, and the released aligner was not trained on them."""
NOT_MODELS = {"custom_nodes", "configs", "datasets"}
"""What the host lists beside its model folders."""
HEADER_ONLY = (".safetensors", ".sft")
"""Others are read whole to know their names, and are only looked at where encoders are kept."""


def published(part: str) -> str:
    """The name of the file that the manifest has first for a part: what a loader's list is preset to."""
    return _of(part).name


def encoder_files() -> list[str]:
    """Paths of the encoder: one file, or the two halves of a pair. Raises FileNotFoundError, or ValueError if there is a choice."""
    by_name = [_named(published(part)) for part in ("aligner", "layers")]
    if None not in by_name:
        return [str(path) for path in by_name if path is not None]
    found = {
        part: [path for path in _candidates(FOLDER) if _released(path) == part] for part in ("encoder", "aligner", "layers")
    }
    whole, halves = found["encoder"], [found["aligner"], found["layers"]]
    if whole and all(halves):
        return [str(_only([*whole, *halves[0]], "encoder_file"))]
    if whole:
        return [str(_only(whole, "encoder_file"))]
    if all(halves):
        widgets = ("encoder_file", "layers_file")
        return [str(_only(half, widget)) for half, widget in zip(halves, widgets, strict=True)]
    raise FileNotFoundError(_missing("an SSR-Encoder"))


def layers_beside(path: str) -> str | None:
    """The other half of a pair, for one of its halves: of the published name beside it, else found by shape. None for a whole encoder."""
    half = _part(Path(path))
    if half not in ("aligner", "layers"):
        return None
    one = Path(path)
    beside = one.with_stem(PAIRS[one.stem]) if one.stem in PAIRS else None
    if beside is not None and beside.is_file():
        return str(beside)
    other = "layers" if half == "aligner" else "aligner"
    found = [path for path in _candidates(FOLDER) if _released(path) == other]
    if not found:
        raise FileNotFoundError(
            f"{shown(one.name)} holds only the {half} of an SSR-Encoder, and no file in ComfyUI's model folders holds its {other}. "
            "Choose it in layers_file."
        )
    return str(_only(found, "layers_file"))


def vision_file() -> str:
    """Path of CLIP ViT-L/14. Raises FileNotFoundError, or ValueError if there is a choice."""
    by_name = _named(published("clip_vision"))
    if by_name is not None:
        return str(by_name)
    expected = {**_of("clip_vision").holds, VISION_POSITIONS[0]: VISION_POSITIONS[1]}
    found = [
        path
        for path in _candidates(VISION_FOLDER)
        if all(_shapes(path).get(name) == tuple(shape) for name, shape in expected.items())
    ]
    if not found:
        raise FileNotFoundError(_missing("CLIP ViT-L/14"))
    return str(_only(found, "clip_vision_file"))


def _missing(what: str) -> str:
    return (
        f"No file in ComfyUI's model folders is {what} by its name or its tensors. Run \"python install.py --download\" in the pack's "
        "folder, or put the file there by hand and press R to refresh (weights_manifest.json lists it)."
    )


def _of(part: str) -> WeightFile:
    return next(weight for weight in read_manifest() if weight.part == part)


def _only(found: list[Path], widget: str) -> Path:
    """The one file, or one of several that are the same on disk."""
    real = {os.path.realpath(path): path for path in found}
    if len(real) > 1:
        listed = ", ".join(shown(path) for path in real.values())
        raise ValueError(f"Several files could be meant: {listed}. Choose one in {widget} in place of {AUTO}.")
    return next(iter(real.values()))


def _named(name: str) -> Path | None:
    """The first file of that name in any model folder, whatever folder below it lies in."""
    return next((path for path in _files() if path.name == name), None)


def _candidates(first: str) -> list[Path]:
    """Files that may be looked into: of every kind in the folder where such files are kept, elsewhere those with a header."""
    own = set(_listed(first))
    return [path for path in _files(first) if path in own or path.suffix in HEADER_ONLY]


def _files(first: str = FOLDER) -> Iterable[Path]:
    """All files in all model folders, those of one folder first, each once."""
    names = [name for name in folder_paths.folder_names_and_paths if name != first and name not in NOT_MODELS]
    return dict.fromkeys(path for name in (first, *names) for path in _listed(name))


def _listed(folder: str) -> list[Path]:
    found = (folder_paths.get_full_path(folder, name) for name in folder_paths.get_filename_list(folder))
    return [Path(path) for path in found if path is not None and Path(path).suffix in EXTENSIONS]


def _part(path: Path) -> str | None:
    """encoder, aligner or layers; None for what is no file of the SSR-Encoder."""
    parts = _parts_of(_own_names(path))
    return "encoder" if parts == {"aligner", "layers"} else next(iter(parts), None)


def _released(path: Path) -> str | None:
    """As _part, of files whose tensors are those of the released encoder, none missing and none of another shape."""
    own = _own_names(path)
    expected = {name: shape for name, shape in _released_shapes().items() if name.partition(".")[0] in _parts_of(own)}
    return _part(path) if own and own == expected else None


def _parts_of(own: Shapes) -> set[str]:
    return {name.partition(".")[0] for name in own}


def _own_names(path: Path) -> Shapes:
    """Shapes by our own names; nothing for a file of something else."""
    shapes, form = _read(path)
    if form == formats.FORMAT:
        return shapes
    try:
        renamed = formats.rename({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    except (ValueError, RuntimeError):  # another model's names, or impossible shapes
        return {}
    return {name: tuple(tensor.shape) for name, tensor in renamed.items()}


@cache
def _released_shapes() -> Shapes:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in SSREncoder(EncoderConfig()).state_dict().items()}


def _shapes(path: Path) -> Shapes:
    return _read(path)[0]


def _read(path: Path) -> tuple[Shapes, str | None]:
    try:
        status = path.stat()
    except OSError:
        return {}, None
    return _header(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _header(path: Path, changed: int, size: int) -> tuple[Shapes, str | None]:
    """Names and shapes of a file's tensors, and the format that it says it has; nothing of one that cannot be read."""
    try:
        names, metadata = read_names(path)
    except (ValueError, OSError):
        return {}, None
    return names, metadata.get("format")
