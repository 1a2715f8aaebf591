"""What Encode Subject and Load Subject send to their view in the browser (web/ssr_subject.js)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from ...methods.ssr.subject import Subject, SubjectSet

KEY = "ssr_subject"
LONGEST = 640
"""Longer side of the picture that is shown, in pixels."""
MOST = 16
"""How many subjects of a set are shown: each costs a file at every run."""


def view(subjects: SubjectSet, pictures: Sequence[Image.Image] | None = None) -> dict[str, Any]:
    """A node's `ui`: one entry for each of the first MOST subjects.

    pictures: the references; None shows the square that the encoder saw. Maps are bytes in base64, one for each patch, row by row,
    255 where the query looks most; box is in shares of the picture.
    """
    return {KEY: [_entry(subject, pictures[index] if pictures else None) for index, subject in enumerate(subjects[:MOST])]}


def _entry(subject: Subject, picture: Image.Image | None) -> dict[str, Any]:
    height, width = subject.source_size
    left, top, right, bottom = subject.box
    shown = (picture or Image.fromarray(subject.picture.numpy())).copy()
    shown.thumbnail((LONGEST, LONGEST))
    pixels = torch.from_numpy(np.asarray(shown).astype(np.float32) / 255)
    # Named by its content: after a restart the host counts from 1 again, and a browser would show the older picture of that name.
    # Without a node class the host writes no workflow into the file.
    name = f"{KEY}_{hashlib.blake2b(shown.tobytes(), digest_size=6).hexdigest()}"
    (file,) = ui.ImageSaveHelper.save_images([pixels], name, io.FolderType.temp, None)
    return {
        "picture": dict(file),
        "width": width if picture else subject.picture.shape[1],
        "height": height if picture else subject.picture.shape[0],
        "box": [left / width, top / height, right / width, bottom / height] if picture else [0, 0, 1, 1],
        "map": _bytes(subject.heat()),
        "words": [{"text": word.text, "map": _bytes(subject.heat(word.text))} for word in subject.words],
        "marked": None if subject.marked is None else _bytes(subject.marked),
    }


def _bytes(patches: Tensor) -> str:
    values = patches.flatten().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return base64.b64encode(values.numpy().tobytes()).decode("ascii")
