"""The frozen encoders' outputs, computed once and read from memory-mapped files: latents of targets, features of references, text
embeddings. The method says which references and texts there are and what is kept of a reference."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import tensor_files
from .examples import Choice, target_pixels
from .method import Example, Inputs, Method
from .records import Record, Records

BATCH = 16


@dataclass
class CachedReader:
    """Reads a record's encoded inputs: mean, std [4, h, w]; prompt_embeds [T, D]; the method's own; the seed as PictureReader does."""

    folder: Path
    source: Records
    inputs: Inputs
    _open: dict[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # every worker opens the memory maps anew

    def _files(self) -> dict[str, Any]:
        if not self._open:
            index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
            self._open = {
                "targets": {name: row for row, name in enumerate(index["targets"])},
                "references": {name: row for row, name in enumerate(index["references"])},
                "texts": {text: row for row, text in enumerate(index["texts"])},
                "latents": np.load(self.folder / "latents.npy", mmap_mode="r"),
                "features": np.load(self.folder / "features.npy", mmap_mode="r"),
                "embeds": tensor_files.read(self.folder / "texts.safetensors")[0]["embeds"],
            }
        return self._open

    def __call__(self, record: Record, choice: Choice) -> Example:
        files = self._files()
        mean, std = torch.from_numpy(files["latents"][files["targets"][record.name], int(choice.flip)].copy())
        embeds, row = files["embeds"], files["texts"]

        def features(name: str) -> Tensor:
            return torch.from_numpy(files["features"][files["references"][name]].copy())

        return {
            "mean": mean,
            "std": std,
            "prompt_embeds": embeds[row[choice.prompt]],
            **self.inputs.read_cached(
                self.source, record, choice.chosen, features, lambda texts: embeds[[row[text] for text in texts]]
            ),
            "seed": choice.seed,
        }


def cached_reader(folder: Path, source: Records, method: Method) -> CachedReader:
    """Open the cache, or compute it. Raises ValueError where the folder holds another run's."""
    wanted = _identity(source, method)
    if (folder / "index.json").is_file():
        found = json.loads((folder / "index.json").read_text(encoding="utf-8"))["identity"]
        if found != wanted:
            raise ValueError(
                f"{folder} was computed from other data, other models or another size. Delete it, or give another `cache` folder."
            )
    else:
        _build(folder, source, method, wanted)
    return CachedReader(folder, source, method.inputs)


def _identity(source: Records, method: Method) -> str:
    """Changes with the records, the frozen weights, the size and what the method reads of a reference."""
    config = method.config
    digest = hashlib.blake2b(digest_size=16)
    for part in (config.size, config.flip > 0, method.features_of, method.frozen.fingerprint):
        digest.update(repr(part).encode())
    for record in source.records:
        digest.update(json.dumps(asdict(record)).encode())
    return digest.hexdigest()


def _build(folder: Path, source: Records, method: Method, identity: str) -> None:
    config, frozen, inputs = method.config, method.frozen, method.inputs
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    targets = [record.name for record in source.records]
    references = inputs.references(source.records)
    texts = {text for record in source.records for text in record.texts}
    texts |= {text for record in source.records for text in inputs.texts(record)}
    texts_in_order = sorted(texts | {""})

    latents = None
    for start in tqdm(range(0, len(targets), BATCH), desc="latents", mininterval=5):
        pixels = torch.stack([target_pixels(source.open(name), config.size, False) for name in targets[start : start + BATCH]])
        flips = [pixels, pixels.flip(-1)] if config.flip > 0 else [pixels]
        found = torch.stack([torch.stack(frozen.latents(flip), dim=1) for flip in flips], dim=1)  # [b, flips, 2, 4, h, w]
        latents = _rows(part / "latents.npy", latents, found, len(targets), np.float32)
        latents[start : start + len(found)] = found.cpu().numpy()
    features = None
    for start in tqdm(range(0, len(references), BATCH), desc="features", mininterval=5):
        names = references[start : start + BATCH]
        found = method.features(torch.stack([inputs.reference_pixels(source, name) for name in names]))
        features = _rows(part / "features.npy", features, found, len(references), np.float16)
        features[start : start + len(found)] = found.cpu().numpy()
    embeds = [frozen.embed(texts_in_order[start : start + 64]) for start in range(0, len(texts_in_order), 64)]
    tensor_files.write({"embeds": torch.cat(embeds)}, part / "texts.safetensors")
    index = {"identity": identity, "targets": targets, "references": references, "texts": texts_in_order}
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")
    for file in (latents, features):
        if file is not None:
            file.flush()
    part.replace(folder)


def _rows(path: Path, array: Any, first: Tensor, count: int, dtype: Any) -> Any:
    return np.lib.format.open_memmap(path, "w+", dtype, (count, *first.shape[1:])) if array is None else array
