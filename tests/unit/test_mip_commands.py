"""`ssr-encoder generate`, `evaluate` and `convert` with an MIP-Adapter, on a tiny Stable Diffusion XL."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import golden_mip, sdxl_folder

from ssr_core import checkpoints, cli
from ssr_core.cli import benchmarks, drawing_mip
from ssr_core.evaluation import harness, scorers
from ssr_core.hosts.diffusers import mip
from ssr_core.hosts.diffusers.load import load_base
from ssr_core.layout import SD15
from ssr_core.methods.mip import formats
from ssr_core.methods.mip.adapter import AdapterConfig, MIPAdapter, fingerprint


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xl")
    sdxl_folder.scenes(folder / "data", 3)
    sdxl_folder.adapter_file(folder / "adapter.safetensors")
    return folder, sdxl_folder.folders(folder)


def given(world, *more):
    folder, xl = world
    return [
        "--model",
        str(xl.model),
        "--vision-encoder",
        str(xl.vision),
        "--encoder",
        str(folder / "adapter.safetensors"),
        *more,
    ]


def generate(world, out, *more):
    pictures = [str(world[0] / "data" / f"{number}.png") for number in range(3)]
    quick = ["--steps", "1", "--size", "128x128", "--out", str(out), "--prompt", "a cat sitting on a chair"]
    return cli.main(["generate", "--reference", *pictures, *given(world), *quick, *more])


def pixels(path):
    return np.asarray(Image.open(path))


def test_a_folder_of_sdxl_loads_as_it_was_saved(world):
    loaded, made = load_base(str(world[1].model), str(world[1].vision)), golden_mip.base(sdxl_folder.CASE)
    assert loaded.is_xl
    for own, theirs in zip(loaded.texts(["a cat"]), made.texts(["a cat"]), strict=True):
        torch.testing.assert_close(own, theirs)


def test_a_half_precision_sdxl_keeps_an_autoencoder_that_overflows_in_full(world, tmp_path):
    import shutil

    from diffusers import AutoencoderKL

    shutil.copytree(world[1].model, tmp_path / "model")
    for overflows, dtype in ((True, torch.float32), (False, torch.float16)):
        shutil.rmtree(tmp_path / "model" / "vae")
        AutoencoderKL(block_out_channels=(32,), force_upcast=overflows).save_pretrained(tmp_path / "model" / "vae")
        base = load_base(str(tmp_path / "model"), str(world[1].vision), torch.float16)
        assert (base.vae.dtype, base.unet.dtype) == (dtype, torch.float16)


def test_an_sdxl_folder_that_lacks_a_part_is_refused_by_name(world, tmp_path):
    import shutil

    shutil.copytree(world[1].model, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "tokenizer_2")
    with pytest.raises(ValueError, match=r"has no folder tokenizer_2\. Give the whole diffusers folder of Stable Diffusion XL"):
        load_base(str(tmp_path / "model"), str(world[1].vision))
    with pytest.raises(ValueError, match=r"give a folder of CLIP ViT-bigG/14 .h94/IP-Adapter"):
        load_base(str(world[1].model), vision_named=mip.vision_named(AdapterConfig()))


def test_pictures_of_one_name_are_one_object_and_the_file_tells_the_method(world, tmp_path, monkeypatch):
    seen = []
    sample = mip.sample

    def spy(pipe, adapter, objects, prompts, latents, **more):
        seen.append((objects, more))
        return sample(pipe, adapter, objects, prompts, latents, **more)

    monkeypatch.setattr(drawing_mip.mip, "sample", spy)
    masks = ["--mask", *(str(world[0] / "data" / f"{number}_cat.png") for number in range(3))]
    more = ["--name", "cat", "cat", "chair", "--scale", "1", "0.5", "--maps", *masks]
    assert generate(world, tmp_path / "one", *more) == 0
    ((objects, how),) = seen
    assert [(one.name, one.count, one.strength) for one in objects] == [("cat", 2, 1.0), ("chair", 1, 0.5)]
    assert (how["manner"].strength, how["negative"], how["steps"], how["guidance"]) == (0.75, mip.NEGATIVE, 1, 5.0)
    assert bool((objects[0].pictures[0, 0, 0] == 255).all())  # cut out on white
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["map_1.png", "map_2.png", "picture_00000.png"]
    reference, shown = (pixels(path).astype(int) for path in (world[0] / "data" / "0.png", tmp_path / "one" / "map_1.png"))
    marked = pixels(world[0] / "data" / "0_cat.png") > 127
    assert shown.shape == reference.shape
    assert (shown[~marked].mean() / reference[~marked].mean()) < 0.4 < 0.8 < shown[marked].mean() / reference[marked].mean()
    assert generate(world, tmp_path / "weak", *more, "--strength", "0.1", "--method", "mip") == 0
    assert not np.array_equal(*(pixels(tmp_path / name / "picture_00000.png") for name in ("one", "weak")))


def test_a_map_of_an_unmarked_object_is_dark_outside_the_square_that_is_seen():
    wide = Image.new("RGB", (300, 100), (200, 100, 50))
    shown = np.asarray(drawing_mip._seen(wide, None, 32, "center crop"))
    assert shown.shape == (100, 300, 3)
    assert shown[50, 150].tolist() == [200, 100, 50]
    assert shown[50, 20].max() < 60
    assert np.array_equal(
        np.asarray(drawing_mip._seen(wide, None, 32, "stretch"))[20:80, 20:280], np.asarray(wide)[20:80, 20:280]
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--name", "cat"], "3 references, but 1 of --name"),
        (["--name", "cat", "", "chair"], "The object has no name"),
        (["--name", "cat", "cat", "chair", "--scale", "1", "1", "1"], "2 objects (cat, chair), but 3 of --scale"),
        (["--query", "cat", "cat", "chair"], "--query is not for MIP-Adapters; leave it out. An object has a --name instead"),
        (["--motion-adapter", "x"], "--motion-adapter is not for MIP-Adapters"),
        (["--method", "ssr", "--query", "a", "b", "c"], "not an SSR-Encoder"),
    ],
)
def test_the_user_reads_what_is_wrong(world, tmp_path, more, message, capsys):
    assert generate(world, tmp_path, *more) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def pairs(tmp_path):
    """One pair of CustomConcept101, both of one name, in the layout that the authors publish."""
    folder = tmp_path / "benchmark"
    for concept in ("a", "b"):
        for part in ("benchmark_dataset", "json_data"):
            (folder / part / concept).mkdir(parents=True)
        for number in range(2):
            noise = np.random.default_rng(number).integers(0, 256, (80, 90, 3), np.uint8)
            Image.fromarray(noise).save(folder / "benchmark_dataset" / concept / f"{number}.png")
            told = {"mask": [{"value": 0}, {"value": 1, "box": [10, 20, 400, 700]}]}
            (folder / "json_data" / concept / f"{number}.json").write_text(json.dumps(told))
    (folder / "prompts.txt").write_text("{0} on a {1}.\n")
    pair = [{"class_prompt": "cat", "instance_data_dir": f"./benchmark_dataset/{name}"} for name in ("a", "b")]
    listed = [[*pair, {"prompt_filename_compose": "prompts.txt"}]]
    (folder / "dataset_multiconcept.json").write_text(json.dumps(listed))
    return folder


class Scorer:
    """Stands for CLIP and DINO."""

    def pictures(self, pictures):
        found = torch.stack([torch.from_numpy(np.array(one.resize((4, 4)))).float().flatten() for one in pictures])
        return torch.nn.functional.normalize(found, dim=-1)

    pictures_as_clip = pictures

    def texts(self, texts):
        return torch.nn.functional.normalize(torch.ones(len(texts), 48), dim=-1)


def test_the_benchmark_of_pairs_is_run_as_the_authors_run_it(world, pairs, tmp_path, monkeypatch, capsys):
    for name in ("load_clip", "load_dino"):
        monkeypatch.setattr(scorers, name, lambda folder, device: Scorer())
    shown = []
    select = benchmarks.MIPDrawer.select
    monkeypatch.setattr(benchmarks.MIPDrawer, "select", lambda self, one: shown.append(one) or select(self, one))
    own = [
        "--data",
        str(pairs),
        "--out",
        str(tmp_path / "out"),
        "--clip",
        "c",
        "--dino",
        "d",
        "--size",
        "128",
        "--steps",
        "1",
    ]
    assert cli.main(["evaluate", "customconcept101-multi", "--method", "mip", *given(world), *own]) == 0
    said = capsys.readouterr().out
    assert "as the benchmark's authors score: CLIP-T" in said
    assert [(one.words, len(one.more), one.picture.size) for one in shown] == [("cat", 1, (224, 224))] * 2
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    expected = {"per_prompt": 1, "steps": 1, "guidance": 5.0, "strength": 0.75, "size": 128, "seed": 420, "sampler": "euler"}
    assert run["protocol"] == {**expected, "negative": mip.NEGATIVE}
    assert {"references", "scoring", "scores"} <= run.keys()
    assert set(run["scores"]) == {"clip_t", "clip_i", "dino", "authors"}


def test_other_benchmarks_keep_the_plain_scheme_and_what_cannot_be_measured_is_told(world, tmp_path, capsys):
    assert harness.Protocol().strength == 0.65
    assert cli.main(["evaluate", "dreambench", "--method", "mip", "--data", "x", "--draw-only", "--out", str(tmp_path)]) == 2
    assert "needs an MIP-Adapter" in capsys.readouterr().err


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A narrow adapter of 16 layers as the authors publish theirs: a pickle of two folders of half precision."""
    config = AdapterConfig(SD15, text_width=8, vision_width=6, tokens=2)
    torch.manual_seed(0)
    state = {name: torch.randn_like(value).half() for name, value in MIPAdapter(config).state_dict().items()}
    parts = {"image_proj": {}, "ip_adapter": {}}
    for name, value in state.items():
        part, _, key = formats.official_name(name, config).partition(".")
        parts[part][key] = value[None] if name.endswith("gate") else value
    path = tmp_path_factory.mktemp("published") / "model_sdxl.bin"
    torch.save(parts, path)
    return path, state, fingerprint(state, config)


def test_convert_makes_our_file_of_the_published_one_and_back(published, tmp_path, capsys):
    path, state, identity = published
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.safetensors"
    assert cli.main(["convert", str(path), "--out", str(ours)]) == 0
    assert f"adapter {identity[:12]}" in capsys.readouterr().out
    assert formats.read(ours).fingerprint == identity
    assert cli.main(["convert", str(ours), "--out", str(back), "--official"]) == 0
    again = formats.read(back)
    assert again.fingerprint == identity
    assert all(torch.equal(again.state[name], value) for name, value in state.items())
    assert "ip_adapter.1.text_to_weight.weight" in load_file(back)
    assert isinstance(checkpoints.load([back]), MIPAdapter)


def test_a_files_method_is_told_by_itself(published, tmp_path):
    torch.save({"1.to_k_SSR.weight": torch.zeros(2, 2)}, tmp_path / "pytorch_model_1.bin")
    torch.save({"lora_up.weight": torch.zeros(2, 2)}, tmp_path / "lora.bin")
    assert checkpoints.kind([published[0]]) == "mip"
    assert checkpoints.kind([tmp_path / "pytorch_model_1.bin"]) == "ssr"
    with pytest.raises(ValueError, match=r"lora\.bin is a LoRA by its names"):
        checkpoints.kind([tmp_path / "lora.bin"])
    with pytest.raises(ValueError, match=r"Expected the files of one method, got .*an MIP-Adapter.*an SSR-Encoder"):
        checkpoints.kind([published[0], tmp_path / "pytorch_model_1.bin"])


def test_official_names_are_for_adapters_alone(tmp_path, capsys):
    torch.save({"1.to_k_SSR.weight": torch.zeros(2, 2)}, tmp_path / "pytorch_model_1.bin")
    assert (
        cli.main(["convert", str(tmp_path / "pytorch_model_1.bin"), "--official", "--out", str(tmp_path / "x.safetensors")])
        == 2
    )
    assert "--official is for MIP-Adapters; these files are of an SSR-Encoder" in capsys.readouterr().err
