"""The frozen encoders' outputs, computed once and read from memory-mapped files: latents, patch features, text embeddings."""

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
from .config import TrainingConfig
from .examples import Choice, Example, VisionShape, mask_of, reference_pixels, target_pixels
from .frozen import Frozen
from .records import Record, Records

BATCH = 16
ZERO = ""
"""Name of the unconditional reference."""


@dataclass
class CachedReader:
    """Reads a record's encoded inputs: mean, std [4, h, w]; features [n, S, P, C]; prompt_embeds [T, D]; query_embeds [n, T, D];
    masks, mask_weights and seed as from pictures.
    """

    folder: Path
    source: Records
    config: TrainingConfig
    shape: VisionShape
    _open: dict[str, Any] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # memory maps are opened by every worker anew

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
        features, masks, weights = [], [], []
        for subject in choice.subjects:
            name = ZERO if subject.source is None else subject.source.reference or record.name
            features.append(torch.from_numpy(files["features"][files["references"][name]].copy()))
            mask, weight = mask_of(self.source, subject, self.config, self.shape)
            masks.append(mask)
            weights.append(weight)
        embeds, row = files["embeds"], files["texts"]
        return {
            "mean": mean,
            "std": std,
            "features": torch.stack(features),
            "prompt_embeds": embeds[row[choice.prompt]],
            "query_embeds": embeds[[row[subject.words] for subject in choice.subjects]],
            "masks": torch.stack(masks),
            "mask_weights": torch.tensor(weights)[:, None],
            "seed": choice.seed,
        }


def cached_reader(folder: Path, source: Records, config: TrainingConfig, frozen: Frozen, shape: VisionShape) -> CachedReader:
    """Open the cache, or compute it. Raises ValueError where the folder holds another run's."""
    wanted = _identity(source, config, frozen)
    if (folder / "index.json").is_file():
        found = json.loads((folder / "index.json").read_text(encoding="utf-8"))["identity"]
        if found != wanted:
            raise ValueError(
                f"{folder} was computed from other data, other models or another size. Delete it, or give another `cache` folder."
            )
    else:
        _build(folder, source, config, frozen, shape, wanted)
    return CachedReader(folder, source, config, shape)


def _identity(source: Records, config: TrainingConfig, frozen: Frozen) -> str:
    """Changes with the records, the frozen weights, the size and the layers that are read."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (config.size, config.flip > 0, frozen.vision_layers, frozen.fingerprint):
        digest.update(repr(part).encode())
    for record in source.records:
        digest.update(json.dumps(asdict(record)).encode())
    return digest.hexdigest()


def _build(folder: Path, source: Records, config: TrainingConfig, frozen: Frozen, shape: VisionShape, identity: str) -> None:
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    targets = [record.name for record in source.records]
    references = sorted({subject.reference or record.name for record in source.records for subject in record.subjects})
    texts = {text for record in source.records for text in record.texts}
    texts |= {words for record in source.records for subject in record.subjects for words in subject.queries}
    texts_in_order = sorted(texts | {""})

    latents = None
    for start in tqdm(range(0, len(targets), BATCH), desc="latents", mininterval=5):
        pixels = torch.stack([target_pixels(source.open(name), config.size, False) for name in targets[start : start + BATCH]])
        sides = [pixels, pixels.flip(-1)] if config.flip > 0 else [pixels]
        found = torch.stack([torch.stack(frozen.latents(side), dim=1) for side in sides], dim=1)  # [b, sides, 2, 4, h, w]
        latents = _rows(part / "latents.npy", latents, found, len(targets), np.float32)
        latents[start : start + len(found)] = found.cpu().numpy()
    features = None
    for start in tqdm(range(0, len(references) + 1, BATCH), desc="features", mininterval=5):
        names = [*references, ZERO][start : start + BATCH]
        zero = torch.zeros(3, shape.size, shape.size)
        pixels = torch.stack([reference_pixels(source.open(name), shape) if name else zero for name in names])
        found = frozen.features(pixels)
        features = _rows(part / "features.npy", features, found, len(references) + 1, np.float16)
        features[start : start + len(found)] = found.cpu().numpy()
    embeds = [frozen.embed(texts_in_order[start : start + 64]) for start in range(0, len(texts_in_order), 64)]
    tensor_files.write({"embeds": torch.cat(embeds)}, part / "texts.safetensors")
    index = {"identity": identity, "targets": targets, "references": [*references, ZERO], "texts": texts_in_order}
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")
    for file in (latents, features):
        if file is not None:
            file.flush()
    part.replace(folder)


def _rows(path: Path, array: Any, first: Tensor, count: int, dtype: Any) -> Any:
    return np.lib.format.open_memmap(path, "w+", dtype, (count, *first.shape[1:])) if array is None else array
