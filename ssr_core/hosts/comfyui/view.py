"""What nodes that encode subjects and objects, or load them, send to their view in the browser (web/ssr_subject.js)."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from ...crop import Crop
from ...maps import light
from ...methods.elite.subject import EliteSubject, EliteSubjects
from ...methods.mip.encode import References
from ...methods.mip.objects import MIPObject, ObjectSet
from ...methods.ssr.subject import Subject, SubjectSet
from ...reference import filled, marked
from ...vision import Fit, seen_box
from ...vision_model import VisionModel

KEY = "ssr_subject"
LONGEST = 640
"""Longer side of the picture that is shown, in pixels."""
MOST = 16
"""How many entries are shown: each costs a file at every run."""
SHADE = 0.3
"""What is left of the light where a reference is not the object."""


def view(subjects: SubjectSet, pictures: Sequence[Image.Image] | None = None) -> dict[str, Any]:
    """A node's `ui`: one entry for each of the first MOST subjects.

    pictures: the references; None shows the square that the encoder saw. Maps are bytes in base64, one for each patch, row by row,
    as light (maps.light): 255 where the query looks; box is in shares of the picture.
    """
    return {KEY: [_entry(subject, pictures[index] if pictures else None) for index, subject in enumerate(subjects[:MOST])]}


def view_of_references(made: MIPObject, references: References, vision_model: VisionModel) -> dict[str, Any]:
    """A node's `ui` for an object that was just made: its first reference, in which points may be set, dark where it is not the object;
    then the squares that the vision model saw, unless the reference's frame shows that already."""
    mask = references.mask_of(0, vision_model)
    picture = references.pictures[0]
    inside = None if mask is None else filled(marked(mask, picture.size))
    first = _selected(picture, inside, vision_model, references.fit, references.crop)
    alone = mask is None and made.count == 1
    return {KEY: [first, *([] if alone else _squares(made))]}


def view_of_selected(
    picture: Image.Image, mask: np.ndarray | None, vision_model: VisionModel, fit: Fit, crop: Crop | None = None
) -> dict[str, Any]:
    """A node's `ui` for a picture in which points are set: dark where the mask, [H, W] in 0..1, is not."""
    return {KEY: [_selected(picture, None if mask is None else mask > 0.5, vision_model, fit, crop)]}


def view_of_marked(
    subjects: EliteSubjects, pictures: Sequence[Image.Image] | None = None, crop: Crop | None = None
) -> dict[str, Any]:
    """A node's `ui`: the part of each reference that was seen, dark where it is not the object. pictures: as view takes them.

    crop: what the user framed. Without it points are read over the whole picture, also beside a frame that was laid around a mask.
    """
    return {KEY: [_marked_entry(one, pictures[index] if pictures else None, crop) for index, one in enumerate(subjects[:MOST])]}


def view_of_objects(objects: ObjectSet) -> dict[str, Any]:
    """A node's `ui`: the squares that the vision model saw of each object."""
    return {KEY: [entry for one in objects[:MOST] for entry in _squares(one)][:MOST]}


def _selected(
    picture: Image.Image, inside: np.ndarray | None, vision_model: VisionModel, fit: Fit, crop: Crop | None
) -> dict[str, Any]:
    """inside: which pixels stay light, [H, W]; None where nothing is selected."""
    picture = picture.convert("RGB")
    box = seen_box(*picture.size, vision_model.size, fit, crop)
    return {
        **_shown(picture if inside is None else _shaded(picture, inside), picture.size),
        "box": [edge / side for edge, side in zip(box, (*picture.size, *picture.size), strict=True)],
        "grid": math.isqrt(vision_model.tokens - 1),
        "framed": inside is None or crop is not None,
    }


def _entry(subject: Subject, picture: Image.Image | None) -> dict[str, Any]:
    height, width = subject.source_size
    left, top, right, bottom = subject.box
    seen = picture or Image.fromarray(subject.picture.numpy())
    return {
        **_shown(seen, (width, height) if picture else seen.size),
        "box": [left / width, top / height, right / width, bottom / height] if picture else [0, 0, 1, 1],
        "map": _bytes(light(subject.heat())),
        "words": [{"text": word.text, "map": _bytes(light(subject.heat(word.text)))} for word in subject.words],
        "marked": None if subject.marked is None else _bytes(subject.marked),
    }


def _marked_entry(subject: EliteSubject, picture: Image.Image | None, crop: Crop | None) -> dict[str, Any]:
    seen, (height, width) = picture or Image.fromarray(subject.picture.numpy()), subject.source_size
    left, top, right, bottom = subject.box
    return {
        **_shown(seen, (width, height) if picture else seen.size),
        "box": [left / width, top / height, right / width, bottom / height] if picture else [0, 0, 1, 1],
        "grid": math.isqrt(subject.patches.numel()),
        "marked": _bytes(subject.patches),
        "around": picture is not None and crop is None and subject.box != (0, 0, width, height),
        "editable": picture is not None,
    }


def _squares(made: MIPObject) -> list[dict[str, Any]]:
    """No place in these squares is a place in a reference, so that no points can be set in them."""
    squares = [Image.fromarray(square.numpy()) for square in made.pictures]
    return [{**_shown(square, square.size), "box": [0, 0, 1, 1], "grid": 1, "editable": False} for square in squares]


def _shaded(picture: Image.Image, inside: np.ndarray) -> Image.Image:
    """The picture, dark where it is not the object: [H, W] of booleans."""
    pixels = np.asarray(picture)
    return Image.fromarray(np.where(inside[..., None], pixels, (pixels * SHADE).astype(np.uint8)))


def _shown(picture: Image.Image, size: tuple[int, int]) -> dict[str, Any]:
    """A file that the browser can fetch. size: (width, height) of the picture in which points are told."""
    copy = picture.copy()
    copy.thumbnail((LONGEST, LONGEST))
    pixels = torch.from_numpy(np.asarray(copy).astype(np.float32) / 255)
    # Named by its content: after a restart the host counts from 1 again, and a browser would show the older picture of that name.
    # Without a node class the host writes no workflow into the file.
    name = f"{KEY}_{hashlib.blake2b(copy.tobytes(), digest_size=6).hexdigest()}"
    (file,) = ui.ImageSaveHelper.save_images([pixels], name, io.FolderType.temp, None)
    return {"picture": dict(file), "width": size[0], "height": size[1]}


def _bytes(patches: Tensor) -> str:
    values = patches.flatten().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return base64.b64encode(values.numpy().tobytes()).decode("ascii")
