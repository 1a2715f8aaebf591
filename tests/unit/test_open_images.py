"""Open Images as training data of ELITE, in the layout that it is published in."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_core.mini.vocabulary import tokenizer
from ssr_core.training import open_images
from ssr_core.training.elite_config import EliteTrainingConfig
from ssr_core.training.elite_samples import EliteInputs
from ssr_core.training.examples import VisionShape, choose
from ssr_core.training.records import OutsideFolder, Unfit

BOXES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
MASKS = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"
ID, SEGMENT = "000a1249af2bc5f0", "000a1249af2bc5f0_m0138tl_f02f7a1f.png"
LEFT, TOP, RIGHT, BOTTOM = 100, 60, 260, 200
"""Of the object in the photograph, in pixels."""


@pytest.fixture
def folder(tmp_path):
    for part in ("images/test", "segs/test", "annotations"):
        (tmp_path / part).mkdir(parents=True)
    pixels = np.full((240, 400, 3), 40, np.uint8)
    pixels[TOP:BOTTOM, LEFT:RIGHT] = (200, 100, 0)
    Image.fromarray(pixels).save(tmp_path / "images" / "test" / f"{ID}.jpg", quality=100)
    mark(tmp_path, RIGHT, BOTTOM)
    annotations = tmp_path / "annotations"
    rows = [f"{ID},xclick,/m/0138tl,1,0.25,0.65,0.25,0.8333,0,0,0,0,0", f"{ID},xclick,/m/0138tl,1,0,0.1,0,0.1,0,0,0,0,0"]
    (annotations / "test-annotations-bbox.csv").write_text("\n".join([BOXES, *rows, f"{ID},x,/m/1,1,0,1,0,1,1,1,1,1,1", ""]))
    (annotations / "test-annotations-object-segmentation.csv").write_text(
        f"{MASKS}\n{SEGMENT},{ID},/m/0138tl,f02f7a1f,0.2,0.7,0.2,0.9,0.8,\n"
    )
    return tmp_path


def mark(folder, right, bottom):
    mask = np.zeros((240, 400), np.uint8)
    mask[TOP:bottom, LEFT:right] = 255
    # Masks have a size of their own.
    Image.fromarray(mask).resize((800, 480), Image.Resampling.NEAREST).save(folder / "segs" / "test" / SEGMENT)


def inputs(folder, stage, **changes):
    config = EliteTrainingConfig(
        base="x",
        data=str(folder),
        out="",
        stage=stage,
        start_from=("x",),
        **{"augment": False, "zoom": False, "size": 128, **changes},
    )
    return EliteInputs(config, VisionShape(112, 8), tokenizer(), 1, 77)


def sample(folder, stage, **changes):
    read = inputs(folder, stage, **changes)
    source = read.source()
    (record,) = source.records
    return read.read(source, record, choose(record, read, "0"))


def test_boxes_of_a_usable_size_are_cut_out_with_some_pixels_around_them(folder):
    found = sample(folder, "global")
    assert found["pixels"].shape == (3, 128, 128)
    orange = (found["pixels"][0] > 0.3).float()
    # 160 x 140 pixels of 180 x 160 are the object.
    assert orange.mean().item() == pytest.approx(160 * 140 / (180 * 160), abs=0.02)
    assert found["text"].endswith("S")
    assert found["seen"].shape == (3, 112, 112)


def test_the_local_stage_takes_masks_and_finds_their_boxes_itself(folder):
    found = sample(folder, "local")
    shown = found["patches"].view(8, 8)
    assert bool(shown[2:6, 2:6].all())
    assert not bool(shown[0].any())
    black = torch.tensor([-1.7923, -1.7521, -1.4802])
    torch.testing.assert_close(found["thing"][:, 0, 0], black, atol=1e-3, rtol=0)
    assert found["thing"][0, 56, 56] > 0.5
    assert bool((found["seen"][:, 0, 0] > black + 0.3).all())


def test_the_target_may_be_small_or_in_part_and_the_prompt_says_so(folder):
    found = [sample(folder, "local", zoom=True, augment=True, seed=seed) for seed in range(20)]
    said = {view for one in found for view in ("far away", "very small", "zoomed in", "close up") if view in one["text"]}
    assert said
    assert any(one["counts"].mean() < 1 for one in found)


def test_objects_that_are_too_small_or_too_long_are_left_out(folder):
    mark(folder, LEFT + 40, BOTTOM)
    with pytest.raises(Unfit, match="marks 80 x 280 pixels"):
        sample(folder, "local")
    mark(folder, LEFT, BOTTOM)
    with pytest.raises(Unfit, match="marks 0 x 0 pixels"):
        sample(folder, "local")


def test_lists_that_are_not_as_published_are_told_by_their_line(folder):
    path = folder / "annotations" / "test-annotations-bbox.csv"
    path.write_text(f"{BOXES}\n{ID},x,/m/1,1,0.2,much,0.2,0.8,0,0,0,0,0\n")
    with pytest.raises(ValueError, match=r"line 2: XMax is 'much'; expected a number from 0 to 1"):
        open_images.read(folder, "global")
    path.write_text(f"{BOXES}\n../../x,x,/m/1,1,0.2,0.8,0.2,0.8,0,0,0,0,0\n")
    with pytest.raises(ValueError, match=r"line 2: ImageID is '\.\./\.\./x'"):
        open_images.read(folder, "global")
    path.write_text("ImageID\n")
    with pytest.raises(ValueError, match="lists no object of a usable size"):
        open_images.read(folder, "global")
    with pytest.raises(FileNotFoundError, match=r"oidv6-train-annotations-bbox\.csv"):
        open_images.read(folder, "global", "train")
    with pytest.raises(ValueError, match="lacks a folder; expected images, annotations and segs"):
        open_images.read(folder / "images", "global")


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.jpg"
    Image.new("RGB", (9, 9)).save(outside)
    path = folder / "images" / "test" / f"{ID}.jpg"
    path.unlink()
    path.symlink_to(outside)
    with pytest.raises(OutsideFolder):
        sample(folder, "global")
