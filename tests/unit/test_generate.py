"""`ssr-encoder demo` and `ssr-encoder generate`, as their users run them, on the built-in models."""

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_core import demo
from ssr_core.cli import main
from ssr_core.hosts.diffusers import generate, ssr, subjects_attached
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.mini import files
from ssr_core.mini.scene import SIDE

QUICK = ["--steps", "2", "--guidance", "4"]


@pytest.fixture(scope="module")
def base():
    return load_base("mini")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A reference of the drawn world, and the mask of its first object."""
    folder = tmp_path_factory.mktemp("scene")
    drawn = demo.scene(0)
    drawn.drawn.picture.save(folder / "reference.png")
    Image.fromarray(drawn.drawn.masks[0]).save(folder / "mask.png")
    return folder, [thing.instance.kind for thing in drawn.things]


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory):
    """The built-in models as a diffusers folder and a CLIP vision folder, as real models come."""
    model, vision = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("vision")
    for name in ("unet", "vae", "text_encoder", "tokenizer"):
        getattr(base, name).save_pretrained(model / name)
    base.noise_schedule.save_pretrained(model / "scheduler")
    base.vision_encoder.save_pretrained(vision)
    return model, vision


def pixels(path):
    return np.asarray(Image.open(path))


def run(scene, out, *more):
    folder, kinds = scene
    arguments = ["--reference", str(folder / "reference.png"), "--prompt", f"a {kinds[0]} in the desert", "--out", str(out)]
    if "--query" not in more and "--mask" not in more:
        arguments += ["--query", kinds[0]]
    return main(["generate", *arguments, *QUICK, *more])


def test_the_demo_makes_one_row_for_every_object(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "STEPS", 2)
    assert main(["demo", "--out", str(tmp_path / "sheet.png")]) == 0
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size[0] > 4 * 192
    assert sheet.size[1] > demo.OBJECTS * 192
    assert main(["demo", "--out", str(tmp_path / "again.png")]) == 0
    assert np.array_equal(pixels(tmp_path / "sheet.png"), pixels(tmp_path / "again.png"))


def test_the_demo_reads_a_picture_and_refuses_words_it_does_not_know(scene, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "STEPS", 1)
    picture = ["--picture", str(scene[0] / "reference.png"), "--out", str(tmp_path / "sheet.png")]
    assert main(["demo", *picture, "--query", scene[1][1]]) == 0
    assert Image.open(tmp_path / "sheet.png").size[1] < 2 * 192 + 64
    assert main(["demo", *picture]) == 2
    assert "--picture needs --query" in capsys.readouterr().err
    assert main(["demo", *picture, "--query", "dog"]) == 2
    assert "does not know 'dog'" in capsys.readouterr().err


def test_pictures_follow_from_their_seeds(scene, tmp_path):
    assert run(scene, tmp_path / "three", "--count", "3", "--seed", "5", "--maps") == 0
    assert sorted(path.name for path in (tmp_path / "three").iterdir()) == [
        "map_1.png", "picture_00005.png", "picture_00006.png", "picture_00007.png",
    ]  # fmt: skip
    assert run(scene, tmp_path / "one", "--seed", "6") == 0
    assert np.array_equal(pixels(tmp_path / "three" / "picture_00006.png"), pixels(tmp_path / "one" / "picture_00006.png"))
    assert pixels(tmp_path / "one" / "picture_00006.png").shape == (SIDE, SIDE, 3)


def test_a_second_run_keeps_the_first_ones_pictures_and_says_how_its_own_are_called(scene, tmp_path, capsys):
    assert run(scene, tmp_path, "--maps") == 0
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert run(scene, tmp_path, "--maps", "--strength", "0.2") == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in ("picture_00000-2.png", "map_1-2.png")]
    assert all((tmp_path / name).read_bytes() == content for name, content in first.items())
    assert len(list(tmp_path.iterdir())) == 4


def test_a_map_lies_over_the_whole_picture_at_its_size(scene, tmp_path):
    folder, kinds = scene
    wide = Image.new("RGB", (320, 160), (90, 90, 90))
    wide.paste(Image.open(folder / "reference.png").resize((160, 160)), (80, 0))
    wide.save(tmp_path / "wide.png")
    given = ["--reference", str(tmp_path / "wide.png"), "--query", kinds[0], "--prompt", f"a {kinds[0]}", "--maps"]
    assert main(["generate", *given, "--steps", "1", "--out", str(tmp_path / "out")]) == 0
    shown = pixels(tmp_path / "out" / "map_1.png")
    assert shown.shape == (160, 320, 3)
    assert shown[:, :70].max() < 40  # outside what the encoder saw
    assert shown[:, 80:240].max() > 200


def test_query_mask_strength_and_size_matter(scene, tmp_path):
    def picture(name, *more):
        assert run(scene, tmp_path / name, *more) == 0
        return pixels(tmp_path / name / "picture_00000.png")

    plain = picture("plain")
    assert not np.array_equal(picture("mask", "--mask", str(scene[0] / "mask.png"), "--mask-weight", "3"), plain)
    assert not np.array_equal(picture("weak", "--strength", "0.2"), plain)
    assert picture("wide", "--size", "192x128").shape == (128, 192, 3)


def test_a_diffusers_folder_draws_what_the_built_in_models_draw(scene, folders, tmp_path):
    model, vision = folders
    assert run(scene, tmp_path / "mini", "--size", "128x128", "--strength", "0.8") == 0
    encoder = str(files.FOLDER / files.ENCODER)
    named = ["--model", str(model), "--vision-encoder", str(vision), "--encoder", encoder]
    assert run(scene, tmp_path / "folder", *named, "--size", "128x128", "--strength", "0.8") == 0
    one, other = (pixels(tmp_path / name / "picture_00000.png").astype(int) for name in ("mini", "folder"))
    assert np.abs(one - other).max() <= 1


def test_several_references_with_a_scale_each(scene, tmp_path):
    folder, kinds = scene
    reference = str(folder / "reference.png")
    both = [
        "generate",
        "--reference",
        reference,
        reference,
        "--query",
        kinds[0],
        kinds[1],
        "--prompt",
        "a star and a cat in the desert",
    ]
    for name, more in (("even", []), ("uneven", ["--scale", "1", "0.4"]), ("separate", ["--combine", "separate"])):
        assert main([*both, *QUICK, "--out", str(tmp_path / name), *more]) == 0
    drawn = [pixels(tmp_path / name / "picture_00000.png") for name in ("even", "uneven", "separate")]
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_controlnet_steers_and_sees_the_prompt_only_unless_asked(base, scene, tmp_path, monkeypatch):
    from diffusers import ControlNetModel

    torch.manual_seed(0)
    network = ControlNetModel.from_unet(base.unet)
    for layer in (*network.controlnet_down_blocks, network.controlnet_mid_block):
        torch.nn.init.normal_(layer.weight, std=0.1)  # they start at zero and would do nothing
    network.save_pretrained(tmp_path / "controlnet")
    seen = []
    plain_forward = ControlNetModel.forward

    def forward(self, *arguments, **named):
        seen.append(named["encoder_hidden_states"])
        return plain_forward(self, *arguments, **named)

    monkeypatch.setattr(ControlNetModel, "forward", forward)
    control = ["--controlnet", str(tmp_path / "controlnet"), "--control-image", str(scene[0] / "mask.png")]
    assert run(scene, tmp_path / "plain") == 0
    assert run(scene, tmp_path / "controlled", *control) == 0
    assert {prompt.shape for prompt in seen} == {torch.Size([2, 77, 128])}
    assert not np.array_equal(*(pixels(tmp_path / name / "picture_00000.png") for name in ("plain", "controlled")))
    seen.clear()
    assert run(scene, tmp_path / "shown", *control, "--controlnet-sees-subject") == 0
    assert {prompt.shape for prompt in seen} == {torch.Size([2, 77 + 6 * 77, 128])}
    null_tokens, tokens = seen[0][:, 77:]
    seen.clear()
    assert run(scene, tmp_path / "one_side", *control, "--controlnet-sees-subject", "--guidance", "1") == 0
    assert {prompt.shape for prompt in seen} == {torch.Size([1, 77 + 6 * 77, 128])}
    assert torch.equal(seen[0][0, 77:], tokens)
    assert not torch.equal(null_tokens, tokens)
    assert not np.array_equal(*(pixels(tmp_path / name / "picture_00000.png") for name in ("shown", "controlled")))


def test_a_motion_adapter_makes_an_animation_of_the_subject(base, scene, tmp_path):
    from diffusers import MotionAdapter

    torch.manual_seed(0)
    adapter = MotionAdapter(
        block_out_channels=tuple(files.CHANNELS),
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=32,
        motion_max_seq_length=8,
    )
    adapter.save_pretrained(tmp_path / "adapter")
    assert run(scene, tmp_path / "moving", "--motion-adapter", str(tmp_path / "adapter"), "--frames", "3") == 0
    animation = Image.open(tmp_path / "moving" / "picture_00000.webp")
    assert (animation.n_frames, animation.size) == (3, (SIDE, SIDE))


def test_one_set_for_all_pictures_and_one_for_each_are_the_same_where_they_are_alike(base, scene):
    from ssr_core.methods.ssr import formats

    encoder = formats.load([files.FOLDER / files.ENCODER], dtype=torch.float32)
    picture = Image.open(scene[0] / "reference.png")
    first, second = (ssr.encode(base, encoder, picture, kind) for kind in scene[1][:2])
    pipe, noise = generate.pipeline(base), generate.noise(base, [1, 2], SIDE, SIDE)
    prompts = ["a star in the desert", "a cat in the desert"]
    together = ssr.sample(pipe, encoder, [first, second], prompts, noise, steps=2)
    for index, subjects in enumerate((first, second)):
        alone = ssr.sample(pipe, encoder, subjects, prompts[index : index + 1], noise[index : index + 1], steps=2)
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-4)
    with (
        pytest.raises(ValueError, match="different numbers of subjects"),
        subjects_attached(base.unet, encoder, [first, (*first, *second)]),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query", "star", "cat"], "1 references, but 2 of --query"),
        (["--query", ""], "needs a query: words (--query), a mask (--mask), or both"),
        (["--query", "dog"], "does not know 'dog'"),
        (["--query", "star", "--controlnet", "x"], "--controlnet and --control-image go together"),
        (["--query", "star", "--controlnet-sees-subject"], "--controlnet-sees-subject needs a --controlnet"),
        (["--query", "star", "--model", "nowhere", "--encoder", "x"], "There is no folder nowhere"),
    ],
)
def test_the_user_reads_what_is_wrong(scene, tmp_path, arguments, message, capsys):
    assert run(scene, tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_an_encoder_or_vision_model_is_refused(scene, folders, tmp_path, capsys):
    assert run(scene, tmp_path, "--model", str(folders[0])) == 2
    assert "needs an image encoder" in capsys.readouterr().err
    assert run(scene, tmp_path, "--model", str(folders[0]), "--vision-encoder", str(folders[1])) == 2
    assert "needs an SSR-Encoder" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["mip", "elite"])
def test_mini_brings_the_other_methods_too(scene, tmp_path, method):
    folder, kinds = scene
    named = {"mip": ["--name", kinds[0]], "elite": ["--mask", str(folder / "mask.png")]}[method]
    prompt = f"a {kinds[0]} in the white snow" if method == "mip" else "a S in the white snow"
    shown = ["--reference", str(folder / "reference.png"), "--prompt", prompt, *named]
    pictures = []
    for strength in ("0", "1"):
        out = tmp_path / strength
        assert main(["generate", "--method", method, *shown, "--strength", strength, *QUICK, "--out", str(out)]) == 0
        (path,) = out.glob("picture_*.png")
        pictures.append(np.asarray(Image.open(path)))
    assert pictures[0].shape == (SIDE, SIDE, 3)
    assert not np.array_equal(*pictures), "the weights act"
