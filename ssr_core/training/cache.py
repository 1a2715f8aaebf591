"""The frozen encoders' outputs, computed once and read from memory-mapped files: latents of targets, features of references, text
embeddings. The method says which references and texts there are and what is kept of a reference."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import tensor_files
from ..text_files import parse_json
from .examples import UNREADABLE_BY, target_pixels
from .method import CacheableInputs, Choice, Example, Method, Source
from .records import OutsideFolder, Record, Records

BATCH = 16
INDEX = "index.json"
"""Written last: a folder that has it is a cache of ours, whole."""


class CacheDamaged(OSError):
    """Not a sample's fault, so that no sample is skipped for it."""


@dataclass
class CachedReader:
    """Reads a record's encoded inputs: mean, std [4, h, w]; prompt_embeds [T, D]; the method's own; the seed as PictureReader does."""

    folder: Path
    source: Records
    inputs: CacheableInputs
    _open: dict[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # every worker opens the memory maps anew

    def _files(self) -> dict[str, Any]:
        if not self._open:
            index = _index(self.folder)
            try:
                texts = tensor_files.read(self.folder / "texts.safetensors")[0]
                opened = {
                    "latents": np.load(self.folder / "latents.npy", mmap_mode="r"),
                    "features": np.load(self.folder / "features.npy", mmap_mode="r"),
                    "embeds": texts["embeds"],
                    "pooled": texts.get("pooled", texts["embeds"]),
                }
            except (ValueError, KeyError, EOFError, OSError) as error:
                raise CacheDamaged(_damaged(self.folder, error)) from error
            named = {"latents": index.targets, "features": index.references, "embeds": index.texts, "pooled": index.texts}
            for name, rows in named.items():
                if len(opened[name]) != len(rows):
                    raise CacheDamaged(_damaged(self.folder, ValueError(f"{len(opened[name])} {name} for {len(rows)} names")))
            if "pooled" not in texts:  # none but XL's text encoders have it
                del opened["pooled"]
            self._open = {"index": index, **opened}
        return self._open

    def __call__(self, record: Record, choice: Choice) -> Example:
        files = self._files()
        index, embeds = files["index"], files["embeds"]

        def row(rows: dict[str, int], name: str) -> int:
            if name in index.unreadable:
                raise ValueError(index.unreadable[name])
            return rows[name]

        def features(name: str) -> Tensor:
            return torch.from_numpy(files["features"][row(index.references, name)].copy())

        mean, std = torch.from_numpy(files["latents"][row(index.targets, record.name), int(choice.flip)].copy())
        return {
            "mean": mean,
            "std": std,
            "prompt_embeds": embeds[index.texts[choice.prompt]],
            **({"pooled": files["pooled"][index.texts[choice.prompt]]} if "pooled" in files else {}),
            **self.inputs.read_cached(
                self.source, record, choice.chosen, features, lambda texts: embeds[[index.texts[text] for text in texts]]
            ),
            "seed": choice.seed,
        }


def cached_reader(folder: Path, source: Source, method: Method) -> CachedReader:
    """Open the cache, or compute it. Raises ValueError where the folder holds another run's, or anything else, and for a method that
    reads other pixels at every epoch."""
    inputs = method.inputs
    if not isinstance(inputs, CacheableInputs) or not isinstance(source, Records):
        raise ValueError(
            f"`cache` is not for method {method.config.method}, which cuts its pictures anew at every epoch; leave it out."
        )
    wanted = _identity(source, method)
    if not (folder / INDEX).is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(
                f"{folder} holds something else than a cache (it has no {INDEX}), which is left as it is. Give another `cache` folder."
            )
        _build(folder, source, method, inputs, wanted)
    if _index(folder).identity != wanted:
        raise ValueError(
            f"{folder} was computed from other data, other models or another size. Delete it, or give another `cache` folder."
        )
    return CachedReader(folder, source, inputs)


@dataclass(frozen=True)
class _Index:
    """Rows of the files by name, and what could not be read: a name, and why."""

    identity: str
    targets: dict[str, int]
    references: dict[str, int]
    texts: dict[str, int]
    unreadable: dict[str, str]


def _index(folder: Path) -> _Index:
    try:
        written = parse_json((folder / INDEX).read_text(encoding="utf-8"), str(folder / INDEX))
        rows = {part: {str(name): row for row, name in enumerate(written[part])} for part in ("targets", "references", "texts")}
        return _Index(str(written["identity"]), unreadable=dict(written.get("unreadable", {})), **rows)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise CacheDamaged(_damaged(folder, error)) from error


def _damaged(folder: Path, error: Exception) -> str:
    return f"The cache in {folder} is damaged ({type(error).__name__}: {error}). Delete it, or give another `cache` folder."


def _identity(source: Records, method: Method) -> str:
    """Changes with the records, the frozen weights, the size and what the method reads of a reference."""
    config = method.config
    digest = hashlib.blake2b(digest_size=16)
    for part in (config.size, config.flip > 0, method.features_of, method.frozen.fingerprint):
        digest.update(repr(part).encode())
    for record in source.records:
        digest.update(json.dumps(asdict(record)).encode())
    return digest.hexdigest()


def _build(folder: Path, source: Records, method: Method, inputs: CacheableInputs, identity: str) -> None:
    """Computed in a folder beside it that nobody else has, which then takes the name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    part.mkdir()
    try:
        _compute(part, source, method, inputs, identity)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        try:
            part.rename(folder)
        except OSError:
            if not (folder / INDEX).is_file():  # else another run was faster; its index is looked at as any
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _compute(part: Path, source: Records, method: Method, inputs: CacheableInputs, identity: str) -> None:
    config, frozen = method.config, method.frozen
    targets = [record.name for record in source.records]
    references = inputs.references(source.records)
    texts = {text for record in source.records for text in record.texts}
    texts |= {text for record in source.records for text in inputs.texts(record)}
    texts_in_order = sorted(texts | {""})
    unreadable: dict[str, str] = {}

    def readable(name: str, read: Callable[[], Tensor]) -> Tensor | None:
        try:
            return read()
        except OutsideFolder:
            raise
        except UNREADABLE_BY as error:
            unreadable[name] = str(error)
            if len(unreadable) > config.most_unreadable:
                raise ValueError(
                    f"{len(unreadable)} pictures cannot be read, the last: {error} Mend the data, or raise `most_unreadable` "
                    f"({config.most_unreadable})."
                ) from error
            return None

    latents = None
    for start in tqdm(range(0, len(targets), BATCH), desc="latents", mininterval=5):
        read = [
            readable(name, lambda name=name: target_pixels(source.open(name), config.size, False))  # type: ignore[misc]
            for name in targets[start : start + BATCH]
        ]
        pixels = torch.stack([torch.zeros(3, config.size, config.size) if one is None else one for one in read])
        sides = [pixels, pixels.flip(-1)] if config.flip > 0 else [pixels]
        found = torch.stack([torch.stack(frozen.latents(side), dim=1) for side in sides], dim=1)  # [b, sides, 2, 4, h, w]
        latents = _rows(part / "latents.npy", latents, found, len(targets), np.float32)
        latents[start : start + len(found)] = found.cpu().numpy()
    features, side = None, method.frozen.base.vision_encoder.config.image_size
    nothing = torch.zeros(3, side, side)
    for start in tqdm(range(0, len(references), BATCH), desc="features", mininterval=5):
        read = [
            readable(name, lambda name=name: inputs.reference_pixels(source, name))  # type: ignore[misc]
            for name in references[start : start + BATCH]
        ]
        found = method.features(torch.stack([nothing if one is None else one for one in read]))
        features = _rows(part / "features.npy", features, found, len(references), np.float16)
        features[start : start + len(found)] = found.cpu().numpy()
    encoded = [frozen.texts(texts_in_order[start : start + 64]) for start in range(0, len(texts_in_order), 64)]
    kept = {"embeds": torch.cat([embeds for embeds, _ in encoded])}
    if frozen.base.is_xl:
        kept["pooled"] = torch.cat([pooled for _, pooled in encoded if pooled is not None])
    tensor_files.write(kept, part / "texts.safetensors")
    for file in (latents, features):
        if file is not None:
            file.flush()
    index = {
        "identity": identity,
        "targets": targets,
        "references": references,
        "texts": texts_in_order,
        "unreadable": unreadable,
    }
    (part / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _rows(path: Path, array: Any, first: Tensor, count: int, dtype: Any) -> Any:
    return np.lib.format.open_memmap(path, "w+", dtype, (count, *first.shape[1:])) if array is None else array
