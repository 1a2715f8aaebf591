"""`ssr-encoder learn` on SSR Mini: files that it writes, goes on from and refuses."""

import random
import signal

import pytest
import torch
from safetensors.torch import load_file

from ssr_core import cli
from ssr_core.methods.lasr import learning, subject_file, views
from ssr_core.mini.scene import instances, random_scene


@pytest.fixture(autouse=True)
def few_views(monkeypatch):
    monkeypatch.setattr(views, "SCALES", ())


@pytest.fixture
def folder(tmp_path):
    chance, place = random.Random(4), tmp_path / "pictures"
    place.mkdir()
    for number in range(2):
        random_scene(chance, [instances(True)[5]]).drawn.picture.save(place / f"{number}.png")
    return place


@pytest.fixture
def learn(folder, tmp_path):
    def run(*options, out="z.safetensors"):
        # Mini's older text encoders know no placeholder: a word of its world stands for the subject.
        given = [
            "learn",
            folder,
            "--words",
            "star",
            "--placeholder",
            "moon",
            "--device",
            "cpu",
            "--out",
            tmp_path / out,
            *options,
        ]
        return cli.main([str(one) for one in given])

    return run


def test_a_folder_of_pictures_becomes_a_subject_with_a_curve_and_a_preview(learn, tmp_path, capsys):
    assert learn("--steps", 2, "--preview-every", 2) == 0
    told = capsys.readouterr()
    assert "beside the models" in told.err
    assert set(told.out.splitlines()) == {str(tmp_path / name) for name in ("z.safetensors", "z_000002.png", "z_loss.png")}
    subject = subject_file.load(tmp_path / "z.safetensors")
    assert (subject.placeholder, subject.learning.words, subject.learning.step) == ("moon", (("star", 1.0),), 2)
    assert subject.base.name == "mini"


def test_a_run_goes_on_from_its_file(learn, tmp_path, capsys):
    assert learn("--steps", 1) == 0
    assert learn("--steps", 2) == 2
    assert "already there" in capsys.readouterr().err
    assert learn("--steps", 2, "--resume") == 0
    assert subject_file.load(tmp_path / "z.safetensors").learning.step == 2
    assert learn("--steps", 3, "--resume", "--weights", 2) == 2
    assert "Give the same words, weights" in capsys.readouterr().err
    assert learn("--steps", 1, "--force", "--resume") == 2
    assert "Give one of them" in capsys.readouterr().err
    assert learn("--steps", 1, "--force") == 0
    assert subject_file.load(tmp_path / "z.safetensors").learning.step == 1


def test_a_run_goes_on_with_its_own_pictures_and_settings_only(learn, folder, tmp_path, capsys):
    assert learn("--steps", 1) == 0
    for other in (("--seed", 4), ("--fit", "stretch"), ("--phrases", 1)):
        assert learn("--steps", 2, "--resume", *other) == 2
        assert "z.safetensors was learned otherwise" in capsys.readouterr().err
    random_scene(random.Random(9), [instances(True)[7]]).drawn.picture.save(folder / "1.png")
    assert learn("--steps", 2, "--resume") == 2
    assert "from other pictures" in capsys.readouterr().err
    assert subject_file.load(tmp_path / "z.safetensors").learning.step == 1


def test_a_base_in_a_folder_is_called_by_its_last_name_in_files(tmp_path):
    from ssr_core.hosts.diffusers.learning import BaseModels
    from ssr_core.hosts.diffusers.load import load_base

    deep = tmp_path.joinpath(*(["deep" * 20] * 4), "sd15")
    deep.mkdir(parents=True)
    base, device = load_base("mini", vision_named=None), torch.device("cpu")
    assert BaseModels(base, str(deep), device).base == "sd15"
    assert BaseModels(base, "someone/model" + "s" * 300, device).base == ("someone/model" + "s" * 300)[:200]


def test_ctrl_c_ends_a_run_after_its_step_and_keeps_it(learn, tmp_path, monkeypatch, capsys):
    advance = learning.Learning.advance

    def pressed(self):
        if self.step == 1:
            signal.raise_signal(signal.SIGINT)
        return advance(self)

    monkeypatch.setattr(learning.Learning, "advance", pressed)
    before = signal.getsignal(signal.SIGINT)
    assert learn("--steps", 5) == 130
    assert subject_file.load(tmp_path / "z.safetensors").learning.step == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_textual_inversion_writes_an_embedding_of_one_token(learn, tmp_path):
    assert learn("--steps", 1, "--method", "textual-inversion") == 0
    (vector,) = load_file(tmp_path / "z.safetensors").values()
    assert vector.shape == (1, 128)
    assert torch.isfinite(vector).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--weights", 1, 2), "2 weights for 1 words"),
        (("--captions",), "There is no file"),
        (("--size", 96, "--resume"), "z.safetensors"),
        (("--size", 1024), "SSR Mini does not know pictures of 1024x1024"),
        (("--method", "textual-inversion", "--resume"), "--resume goes on with a subject of LASR"),
        (("--out", "z.pt"), "ends in .safetensors"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(learn, capsys, options, expected):
    assert learn(*options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_masks_have_their_pictures_names_and_sizes(learn, folder, tmp_path, capsys):
    from PIL import Image

    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (128, 128), 255).save(masks / "0.png")
    assert learn("--masks", masks) == 2
    assert "has no mask for 1.png" in capsys.readouterr().err
    Image.new("L", (64, 64), 255).save(masks / "1.png")
    assert learn("--masks", masks) == 2
    assert "is 64 x 64, its picture 128 x 128" in capsys.readouterr().err


def test_a_folder_without_pictures_is_refused(learn, folder, capsys):
    for path in folder.iterdir():
        path.unlink()
    assert learn() == 2
    assert "has no pictures" in capsys.readouterr().err
