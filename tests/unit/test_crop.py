"""The framed part of a reference: one rule in Python and in the browser; methods see what they would see of a picture that ends there."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.elite import encoder as elite_encoder
from support.elite import vision_model as elite_eyes
from support.encoding import CONFIG, DOG, GRID, NULL, SIZE, WIDTH, CountingAligner, FakeVision
from support.encoding import LAYERS as DEPTH

from ssr_core import vision
from ssr_core.crop import check_crop, parse_crop, pixels_of
from ssr_core.methods.elite.encode import Selection as EliteSelection
from ssr_core.methods.elite.encode import encode_subjects as encode_elite
from ssr_core.methods.mip.encode import References
from ssr_core.methods.ssr import subject_file
from ssr_core.methods.ssr.encode import Encoder, Selection, encode_subjects
from ssr_core.select import masks_around
from ssr_core.vision import FITS
from ssr_core.vision_model import VisionModel

WEB = Path(__file__).parents[2] / "web" / "lib"
TEXTS = [
    "", "  ", "40, 20, 300, 280", "40 20 300 280", "[40, 20, 300, 280]", " [ 40,20,300,280 ] ", "40,,20,300,280", "4.5, 2.9, 7.99, 8",
    "-5, -5, 9999, 9999", "[]", "[", "]", "[]]", "40, 20, 300", "1, 2, 3, 4, 5", "a, b, c, d", "nan, 1, 2, 3", "inf, 1, 2, 3",
    "1e2 0 2e2 9",    "65536 0 65537 9", "0 0 65536 9", "[[1, 2, 3, 4]]", "(1, 2, 3, 4)", "1; 2; 3; 4", "\u30005 6 7 8", "\uff11 2 3 4",
    "1_0, 2, 30, 4",    "0x1 2 3 4", "5, 6, 5, 9", "9, 6, 5, 9", "0, 0, 0.5, 9", "1, 2, 3, 4" + " " * 390, "1, 2, 3, 4" + " " * 391,
    "\n1\t2\r3\x0b4\n", "[1 2 3 4",
]  # fmt: skip
SIZES = [(48, 40), (300, 30), (1, 1)]


def model():
    return VisionModel(FakeVision(), SIZE, WIDTH, GRID * GRID + 1, DEPTH)


def noise(width=60, height=40, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def in_python(text):
    """As the browser writes it: null where the node refuses, [] for the whole picture, else the numbers and their pixels of each size."""
    try:
        crop = parse_crop(text)
    except ValueError:
        return None
    if crop is None:
        return []
    pixels = []
    for size in SIZES:
        try:
            pixels.append(list(pixels_of(crop, size)))
        except ValueError:
            pixels.append(None)
    return [list(crop), pixels]


def test_the_browser_reads_a_crop_exactly_as_the_node_does():
    if (node := shutil.which("node")) is None:
        pytest.skip("no node found: install Node.js to compare the two readers of crops")
    points, crop = ((WEB / name).read_text(encoding="utf-8") for name in ("points.js", "crop.js"))
    script = f"""
        const address = (source) => "data:text/javascript;charset=utf-8," + encodeURIComponent(source);
        const points = address({json.dumps(points)});
        const {{ parseCrop, pixelsOf }} = await import(address({json.dumps(crop)}.replace('"./points.js"', JSON.stringify(points))));
        const found = {json.dumps(TEXTS)}.map((text) => {{
            const crop = parseCrop(text);
            return crop?.length ? [crop, {json.dumps(SIZES)}.map((size) => pixelsOf(crop, ...size))] : crop;
        }});
        console.log(JSON.stringify(found));
    """
    ran = subprocess.run([node, "--input-type=module"], input=script, capture_output=True, text=True, timeout=60, check=True)
    assert dict(zip(TEXTS, json.loads(ran.stdout), strict=True)) == {text: in_python(text) for text in TEXTS}
    assert [in_python(text) for text in TEXTS].count(None) > 10


@pytest.mark.parametrize("given", ["1, 2, 3", (1, 2, 3), (1, 2, 3, float("nan")), "1234", [1, 2, 3, 1 << 17], 5])
def test_what_is_no_crop_is_refused_in_words(given):
    read = parse_crop if given == "1, 2, 3" else check_crop
    with pytest.raises(ValueError, match="expected left, top, right and bottom in pixels"):
        read(given)


def test_a_crop_without_a_pixel_of_the_picture_is_refused():
    with pytest.raises(ValueError, match="The crop 50, 0, 60, 9 holds no pixel of a picture of 48 x 40"):
        vision.frame(noise(48, 40), SIZE, "pad", (50.0, 0.0, 60.0, 9.0))


@pytest.mark.parametrize("fit", FITS)
def test_what_is_seen_is_what_is_seen_of_a_picture_that_ends_there(fit):
    picture, box = noise(), (7, 3, 51, 30)
    cut = picture.crop(box)
    assert vision.frame(picture, SIZE, fit, box).tobytes() == vision.frame(cut, SIZE, fit).tobytes()
    left, top, right, bottom = vision.seen_box(*cut.size, SIZE, fit)
    assert vision.seen_box(*picture.size, SIZE, fit, box) == (7 + left, 3 + top, 7 + right, 3 + bottom)
    mask = torch.zeros(40, 60)
    mask[5:20, 20:45] = 1
    of_cut = vision.mask_to_patches(mask[3:30, 7:51], GRID, SIZE, fit)
    assert torch.equal(vision.mask_to_patches(mask, GRID, SIZE, fit, box), of_cut)
    outside = torch.zeros(40, 60)
    outside[34:] = 1
    with pytest.raises(ValueError, match="only pixels outside the part that the encoder sees"):
        vision.mask_to_patches(outside, GRID, SIZE, fit, box)


@pytest.mark.parametrize("fit", FITS)
def test_a_crop_of_all_changes_no_bit(fit):
    picture = noise(61, 40)
    whole = (0.0, 0.0, 61.0, 40.0)
    assert vision.frame(picture, SIZE, fit, whole).tobytes() == vision.frame(picture, SIZE, fit).tobytes()
    assert vision.seen_box(61, 40, SIZE, fit, whole) == vision.seen_box(61, 40, SIZE, fit)
    for points in ((), ((20.0, 20.0),)):
        plain, framed = (_encoded(picture, points=points, fit=fit, crop=crop) for crop in (None, whole))
        for name in ("tokens", "null_tokens", "attention", "picture", "marked"):
            one, other = getattr(plain, name), getattr(framed, name)
            assert (one is other is None) or torch.equal(one, other), name
        assert plain.box == framed.box


def _encoded(picture, **selection):
    encoder = Encoder(CONFIG, "some encoder", CountingAligner())
    (subject,) = encode_subjects(encoder, model(), [picture], Selection(DOG, NULL, **selection))
    return subject


def test_masks_and_points_follow_the_crop():
    """They are told in the whole picture; the subject is that of the cut picture with its own mask and points."""
    picture, box = noise(), (12, 4, 52, 36)
    mask = torch.zeros(1, 40, 60)
    mask[:, 6:18, 20:40] = 1
    whole = _encoded(picture, masks=mask, points=((30.0, 25.0),), crop=box)
    cut = _encoded(picture.crop(box), masks=mask[:, 4:36, 12:52], points=((18.0, 21.0),))
    for name in ("tokens", "null_tokens", "attention", "picture", "marked"):
        assert torch.equal(getattr(whole, name), getattr(cut, name)), name
    assert (whole.source_size, whole.crop) == ((40, 60), box)
    assert whole.box == tuple(side + (12, 4)[place % 2] for place, side in enumerate(cut.box))
    with pytest.raises(ValueError, match=r"None of the 1 points lies in the part .* x 16 to 48 and y 4 to 36"):
        _encoded(picture, points=((2.0, 2.0),), crop=box)


def test_a_subject_file_keeps_its_crop_and_is_what_it_was_without(tmp_path):
    framed = _encoded(noise(), crop=(12, 4, 52, 36))
    subject_file.save((framed,), tmp_path / "framed.safetensors")
    (loaded,) = subject_file.load(tmp_path / "framed.safetensors")
    assert (loaded.crop, loaded.box) == (framed.crop, framed.box)
    subject_file.save((replace(framed, crop=None),), tmp_path / "plain.safetensors")
    assert b'\\"crop\\"' not in (tmp_path / "plain.safetensors").read_bytes()
    with pytest.raises(ValueError, match="could not be read again: crop"):
        subject_file.save((replace(framed, crop=(12, 4, 90, 36)),), tmp_path / "wrong.safetensors")


def test_the_mask_of_selected_patches_lies_within_the_crop():
    (mask,) = masks_around(model(), [noise()], ((30.0, 20.0),), "stretch", (10.0, 5.0, 50.0, 35.0))
    assert mask.shape == (40, 60)
    assert mask[5:35, 10:50].max() > 0.5
    outside = mask.clone()
    outside[5:35, 10:50] = 0
    assert not outside.any()


def test_an_object_of_mip_is_cut_out_within_the_crop():
    picture, eyes = noise(), model()
    mask = torch.zeros(1, 40, 60)
    mask[:, 10:30, 10:50] = 1
    halved = torch.zeros_like(mask)
    halved[:, 10:30, 10:30] = 1
    (seen,) = References([picture], mask, crop=(0, 0, 30, 40)).prepared(eyes)
    (wanted,) = References([picture], halved).prepared(eyes)
    assert seen.tobytes() == wanted.tobytes()
    (seen,) = References([picture], crop=(0, 0, 30, 40)).prepared(eyes)
    (wanted,) = References([picture.crop((0, 0, 30, 40))]).prepared(eyes)
    assert seen.tobytes() == wanted.tobytes()
    with pytest.raises(ValueError, match="marks nothing within the crop"):
        References([picture], halved, crop=(40, 0, 60, 40)).prepared(eyes)


def test_elite_sees_the_crop_in_place_of_its_framing():
    picture = noise(40, 30)
    mask = torch.zeros(1, 30, 40)
    mask[:, 5:25, 10:25] = 1.0
    box = (8, 4, 32, 28)

    def encoded(picture, mask, framing, crop=None):
        (subject,) = encode_elite(elite_encoder(), elite_eyes(), [picture], EliteSelection(mask, framing, crop=crop))
        return subject

    for framing in ("crop to mask", "stretch"):
        framed = encoded(picture, mask, framing, box)
        cut = encoded(picture.crop(box), mask[:, 4:28, 8:32], "stretch")
        for name in ("words", "tokens", "patches", "picture"):
            assert torch.equal(getattr(framed, name), getattr(cut, name)), name
        assert (framed.box, framed.source_size) == ((8.0, 4.0, 32.0, 28.0), (30, 40))
    with pytest.raises(ValueError, match="marks nothing within the crop 30, 0, 40, 30"):
        encoded(picture, mask, "stretch", (30, 0, 40, 30))
