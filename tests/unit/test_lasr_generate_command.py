"""`ssr-encoder generate --method lasr`: learned subjects drawn from their files, on SSR Mini."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support import lasr_legacy, lasr_subjects

from ssr_core import cli
from ssr_core.cli import drawing_lasr
from ssr_core.evaluation.learned import PROTOCOL
from ssr_core.hosts.diffusers import generate, lasr
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.methods.lasr import contexts, subject_file
from ssr_core.methods.lasr.subject import BaseModel
from ssr_core.mini import files
from ssr_core.mini.scene import SIDE

STAR = files.FOLDER / "lasr_star.safetensors"
PROMPT = "a z in the white snow"


@pytest.fixture(scope="module")
def base():
    return load_base("mini")


@pytest.fixture
def draw(tmp_path):
    """The pictures of a command, by two steps."""

    def run(*options, prompt=PROMPT, out="out"):
        given = ["generate", "--device", "cpu", "--steps", 2, "--prompt", prompt, "--out", tmp_path / out, *options]
        assert cli.main([str(one) for one in given]) == 0
        return [np.asarray(Image.open(path)) for path in sorted((tmp_path / out).iterdir())]

    return run


@pytest.fixture
def refusal(tmp_path, capsys):
    def run(*options, prompt=PROMPT):
        given = ["generate", "--device", "cpu", "--prompt", prompt, "--out", tmp_path / "out", *options]
        assert cli.main([str(one) for one in given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


@pytest.fixture
def asked(monkeypatch):
    """What would be drawn: subjects, manner and settings of each picture. Nothing is."""
    calls, attached = [], lasr.subjects_attached

    def attach(unet, prompts, manner):
        calls.append({"subjects": prompts.subjects, "texts": prompts.texts, "manner": manner})
        return attached(unet, prompts, manner)

    def sample(pipe, prompts, latents, **settings):
        calls[-1].update(settings, scheduler=type(pipe.scheduler).__name__)
        return latents

    monkeypatch.setattr(lasr, "subjects_attached", attach)
    monkeypatch.setattr(generate, "sample", sample)
    return calls


def second(path, **changes):
    """A file with the star that Mini brings, changed."""
    subject_file.save(replace(subject_file.load(STAR), **changes), path)
    return path


def test_a_picture_is_what_the_library_draws_of_the_file(base, draw):
    (shown,) = draw("--subject", STAR, "--seed", 3, "--negative", "a red star", "--size", "160x128")
    pipe, noise = generate.pipeline(base, "ddim"), generate.noise(base, [3], 160, SIDE)
    latents = lasr.sample(pipe, (subject_file.load(STAR),), [PROMPT], noise, negative="a red star", steps=2, guidance=5.0)
    assert np.array_equal(shown, np.asarray(generate.decode(base, latents)[0]))


def test_mini_brings_a_subject_that_draws_as_its_authors_measure(asked, tmp_path):
    command = ["generate", "--method", "lasr", "--prompt", PROMPT, "--count", "2", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    how, again = asked
    (subject,) = how["subjects"]
    assert (subject.fingerprint, subject.placeholder, subject.strength) == (subject_file.load(STAR).fingerprint, "z", 1.0)
    assert (how["steps"], how["guidance"], how["manner"].strength) == (PROTOCOL.steps, PROTOCOL.guidance, PROTOCOL.strength)
    assert (how["scheduler"], drawing_lasr.LASRDrawing.sampler) == ("DDIMScheduler", PROTOCOL.sampler)
    assert torch.equal(how["prompt_embeds"], again["prompt_embeds"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture_00000.png", "picture_00001.png"]


def test_subjects_have_names_scales_and_a_share_of_the_adaptive_part(asked, draw, tmp_path):
    other = second(tmp_path / "other.safetensors", alpha=0.2, strength=0.8)
    draw("--subject", STAR, other, "--name", "y", "z", "--scale", 1, 0.5, prompt="a z and a y in the white snow")
    (how,) = asked
    assert [(one.placeholder, one.strength) for one in how["subjects"]] == [("y", 1.0), ("z", 0.4)]
    assert (how["manner"].strength, set(how["manner"].layers)) == (0.2, {1.0}), "alpha is the last one's, everywhere"
    draw("--subject", other, "--strength", 0.7, "--layers", "middle only")
    assert asked[-1]["manner"].strength == 0.7
    assert sum(asked[-1]["manner"].layers) == 1


def test_a_subject_may_be_called_by_another_word_without_another_picture(draw):
    (plain,), (renamed,) = (
        draw("--subject", STAR, out="z"),
        draw("--subject", STAR, "--name", "s", prompt="a s in the white snow", out="s"),
    )
    assert np.array_equal(plain, renamed)


def test_alpha_and_scale_matter(draw):
    pictures = [
        draw("--subject", STAR, *more, out=str(number))[0]
        for number, more in enumerate(([], ["--strength", 0], ["--strength", 1], ["--scale", 0], ["--scale", 0.5]))
    ]
    assert all(not np.array_equal(one, other) for number, one in enumerate(pictures) for other in pictures[:number])


def test_a_diffusers_folder_needs_no_image_encoder(base, draw, tmp_path):
    for name in ("unet", "vae", "text_encoder", "tokenizer"):
        getattr(base, name).save_pretrained(tmp_path / "model" / name)
    base.noise_schedule.save_pretrained(tmp_path / "model" / "scheduler")
    (shown,) = draw("--subject", STAR, "--model", tmp_path / "model", "--size", "128x128", out="folder")
    (mini,) = draw("--subject", STAR, out="mini")
    assert np.abs(shown.astype(int) - mini.astype(int)).max() <= 1


def test_what_is_doubtful_is_told_once_for_all_pictures(asked, draw, tmp_path, caplog):
    other = second(tmp_path / "other.safetensors", base=BaseModel("dreamshaper", "0" * 32))
    with caplog.at_level(logging.WARNING, "ssr_encoder"):
        draw("--subject", other, "--name", "star", "--count", 3, prompt="a star in the white snow")
    assert len(asked) == 3
    ordinary, stranger = caplog.messages
    assert 'the placeholder "star" looks like an ordinary word' in ordinary
    assert '"star" (learned on dreamshaper)' in stranger


def test_a_controlnet_steers_it(base, draw, tmp_path):
    from diffusers import ControlNetModel

    torch.manual_seed(0)
    network = ControlNetModel.from_unet(base.unet)
    for layer in (*network.controlnet_down_blocks, network.controlnet_mid_block):
        torch.nn.init.normal_(layer.weight, std=0.1)  # they start at zero and would do nothing
    network.save_pretrained(tmp_path / "controlnet")
    Image.new("RGB", (SIDE, SIDE), "white").save(tmp_path / "control.png")
    control = ["--controlnet", tmp_path / "controlnet", "--control-image", tmp_path / "control.png"]
    pictures = [
        draw("--subject", STAR, *more, out=str(number))[0]
        for number, more in enumerate(([], control, [*control, "--strength", 1]))
    ]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2]), "the subject acts beside it"


def test_a_motion_adapter_makes_an_animation_of_it(draw, tmp_path):
    from diffusers import MotionAdapter

    torch.manual_seed(0)
    MotionAdapter(
        block_out_channels=tuple(files.CHANNELS),
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=32,
        motion_max_seq_length=8,
    ).save_pretrained(tmp_path / "adapter")
    moving = ["--subject", STAR, "--motion-adapter", tmp_path / "adapter", "--frames", 3]
    frames = []
    for alpha in (0, 1):
        draw(*moving, "--strength", alpha, out=str(alpha))
        animation = Image.open(tmp_path / str(alpha) / "picture_00000.webp")
        assert (animation.n_frames, animation.size) == (3, (SIDE, SIDE))
        frames.append(np.asarray(animation.convert("RGB")))
    assert not np.array_equal(*frames)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--subject", "nowhere.safetensors"), "There is no file nowhere.safetensors"),
        (("--subject", STAR, "--reference", "a.png"), "--reference is not for LASR; leave it out. A subject was learned from pictures"),
        (("--subject", STAR, "--maps"), "--maps is not for LASR; leave it out. No picture is looked at"),
        (("--subject", STAR, "--query", "star"), "--query is not for LASR; leave it out. A subject's word in the prompt is its --name"),
        (("--subject", STAR, "--mask", "a.png"), "--mask is not for LASR"),
        (("--method", "lasr", "--encoder", STAR), "--encoder is not for LASR; leave it out. Give the subjects' files with --subject"),
        (("--subject", STAR, "--vision-encoder", "clip"), "--vision-encoder is not for LASR"),
        (("--subject", STAR, "--combine", "joint"), "--combine is not for LASR"),
        (("--subject", STAR, "--strength", 1.5), "alpha (the share of the adaptive context)"),
        (("--subject", STAR, "--name", "z", "y"), '1 subjects ("z"), but 2 of --name. Give one for each subject'),
        (("--subject", STAR, "--scale", 1, 1), '1 subjects ("z"), but 2 of --scale'),
        (("--subject", STAR, STAR), 'Two subjects have the placeholder "z". Give each a word of its own with --name'),
        (("--subject", STAR, STAR, "--name", "z", "Z"), 'Two subjects have the placeholder "z"'),
        (("--subject", STAR, "--name", "cat of"), 'The placeholder "cat of" must be one token of the text encoder, found 2'),
        (("--subject", STAR, "--name", "y"), 'The prompt "a z in the white snow" does not have the placeholder "y"'),
        (("--method", "lasr", "--model", "folder"), "--method lasr needs learned subjects: give --subject"),
        (("--method", "ssr", "--subject", STAR, "--reference", "a.png"), "--subject is for LASR; leave it out."),
        (("--method", "mip", "--subject", STAR, "--reference", "a.png"), "--subject is not for MIP-Adapters"),
        (("--method", "elite", "--subject", STAR, "--reference", "a.png"), "--subject is not for ELITE"),
        (("--query", "star"), "There is no picture of the subjects: give --reference. LASR alone goes without"),
    ],
)  # fmt: skip
def test_the_user_reads_what_is_wrong_before_anything_is_drawn(refusal, monkeypatch, options, message):
    monkeypatch.setattr(generate, "sample", lambda *_, **__: pytest.fail("drawn"))
    assert message in refusal(*options)


def test_a_subject_of_another_kind_of_model_is_refused(refusal, tmp_path):
    subject_file.save(lasr_subjects.make(), tmp_path / "cat.safetensors")
    said = refusal("--subject", tmp_path / "cat.safetensors")
    assert 'The subject "z" was learned on a tiny model, with 4 layers' in said
    assert "text of width 24; this model has" in said


def test_an_embedding_is_called_what_it_is(refusal, tmp_path):
    save_file({"emb_params": torch.zeros(1, 128)}, tmp_path / "embedding.safetensors")
    assert "is not a learned subject but a textual inversion" in refusal("--subject", tmp_path / "embedding.safetensors")


def test_a_file_of_the_authors_may_hold_several(refusal, tmp_path):
    def with_y(whole):
        whole["string_to_token"]["y"] = torch.tensor(344)
        for part in ("string_to_param", "string_to_lasr_embedder"):
            whole[part]["y"] = whole[part]["z"]

    path = lasr_legacy.write(tmp_path / "both.pt", with_y)
    assert '2 subjects ("z", "y"), but 1 of --name' in refusal("--subject", path, "--name", "z")
    assert "was learned on Stable Diffusion 1.4" in refusal("--subject", path, prompt="a z and a y")


def test_the_default_share_is_the_librarys(draw, asked, tmp_path):
    draw("--subject", second(tmp_path / "off.safetensors", alpha=0.9), STAR, "--name", "y", "z", "--scale", 1, 0, prompt="a y")
    (how,) = asked
    assert [one.placeholder for one in how["subjects"]] == ["y"], (
        "one of no strength is an ordinary word, and need not be named"
    )
    assert how["manner"].strength == 0.9 != contexts.ALPHA
