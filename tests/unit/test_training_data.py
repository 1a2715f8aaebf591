"""What training reads: configuration, records, and what is drawn by lot for a sample."""

import io
import json
import tarfile
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from PIL import Image

from ssr_core.training import config, records, shards
from ssr_core.training.examples import (
    Examples,
    PictureReader,
    StreamedExamples,
    VisionShape,
    batches,
    choose,
    collate,
    target_pixels,
)
from ssr_core.training.methods import read_config
from ssr_core.training.ssr import SSRConfig, SubjectInputs

SHAPE = VisionShape(size=32, grid=4)


def settings(**changes):
    fields = {"base": "mini", "data": "data", "out": "out", "size": 16, "batch_size": 2, "workers": 0, **changes}
    return SSRConfig(**fields)


def inputs(**changes):
    return SubjectInputs(settings(**changes), SHAPE)


def picture(seed, size=(20, 28)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Records as in Xiaojiu-z/SSR_Encoder's example_data.jsonl, and one with subjects."""
    for name in ("a", "b", "reference"):
        picture(ord(name[0])).save(tmp_path / f"{name}.png")
    mask = np.zeros((20, 28), dtype=np.uint8)
    mask[:, 8:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    lines = [
        {"file_name": "a.png", "text": ["a dog", "a small dog"]},
        {
            "file_name": "b.png",
            "text": "a cat",
            "subjects": [{"reference": "reference.png", "query": "cat", "mask": "mask.png"}],
        },
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return tmp_path


def test_a_configuration_comes_back_from_its_yaml(tmp_path):
    own = settings(lr=1e-5, vision_layers=(1, 2), validation=(config.ValidationPicture("r.png", "dog", "a dog"),))
    (tmp_path / "run.yaml").write_text(own.to_yaml())
    assert read_config(tmp_path / "run.yaml") == own


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    (tmp_path / "run.yaml").write_text("base: mini\ndata: d\nout: o\nlr: 5e-5\nclip_norm: 1\n")
    read = read_config(tmp_path / "run.yaml", {"steps": 7})
    assert (read.lr, read.clip_norm, read.steps) == (5e-5, 1.0, 7)


def test_what_people_write_otherwise_is_understood(tmp_path):
    (tmp_path / "run.yaml").write_text(
        "base: mini\ndata: 2024\nout: o\nstart_from: a.safetensors\nvalidation:\nlr: 1\nbetas: [1e-1, 0]\n"
    )
    read = read_config(tmp_path / "run.yaml")
    assert (read.data, read.start_from, read.validation) == ("2024", ("a.safetensors",), ())
    assert (type(read.lr), read.betas) == (float, (0.1, 0.0))


def test_every_fault_is_told_at_once(tmp_path):
    (tmp_path / "run.yaml").write_text("base: mini\nlern_rate: 1\nsteps: 0\n")
    with pytest.raises(
        ValueError, match=r"run\.yaml: unknown lern_rate; missing data, out; steps must be greater than 0, got 0\. Known"
    ):
        read_config(tmp_path / "run.yaml")


def test_a_configuration_does_not_change():
    with pytest.raises(FrozenInstanceError):
        settings().steps = 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lern_rate: 1", "unknown lern_rate.*Known fields: .*lr"),
        ("batch_size: 0", "batch_size must be greater than 0, got 0"),
        ("flip: 2", "flip must be at most 1, got 2"),
        ("precision: half", "precision must be 'no', 'bf16' or 'fp16', got 'half'"),
        ("steps: many", "steps must be a valid integer, .*got 'many'"),
        ("gradient_checkpointing: 1", "gradient_checkpointing must be a valid boolean, got 1"),
        ("regulariser: -1", "regulariser must be at least 0, got -1"),
        ("steps: true", "steps must be a number, got True"),
        ("workers: 1.5", "workers must be a valid integer, .*got 1.5"),
        ("out: [a, b]", "out must be a valid string"),
        ("ema: 1", "ema must be less than 1, got 1"),
        ("validation: [{reference: r, query: q}]", "missing validation.0.prompt"),
        ("validation: [{reference: r, query: q, prompt: p, maks: m}]", "unknown validation.0.maks"),
        ("vision_layers: [4, x]", "vision_layers.1 must be a valid integer, .*got 'x'"),
        ("1: 2", "holds no configuration"),
        ("lr: [1", "is no YAML"),
        ("method: sst", "method must be one of ssr, mip, elite, got 'sst'"),
        ("method: [ssr]", "method must be one of ssr, mip, elite, got"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, line, message):
    (tmp_path / "run.yaml").write_text(f"base: mini\ndata: d\nout: o\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path / "run.yaml")


def test_a_missing_field_is_named(tmp_path):
    (tmp_path / "run.yaml").write_text("base: mini\n")
    with pytest.raises(ValueError, match="missing data, out"):
        read_config(tmp_path / "run.yaml")


def test_the_learning_rate_warms_up_and_falls_to_zero():
    own = settings(lr=1.0, warmup=4, steps=104, schedule="cosine")
    assert [own.learning_rate(step) for step in (0, 3, 4, 54)] == pytest.approx([0.25, 1.0, 1.0, 0.5])
    assert own.learning_rate(103) < 0.001
    assert settings(lr=1.0).learning_rate(10**6) == 1.0


def test_official_records_are_their_own_reference_and_query(folder):
    first, second = records.read(str(folder)).records
    assert first.texts == ("a dog", "a small dog")
    assert first.subjects == (records.SubjectSource(("a dog", "a small dog")),)
    assert second.subjects == (records.SubjectSource(("cat",), "reference.png", "mask.png"),)


def test_a_folder_of_pictures_with_texts_beside_them_is_data(tmp_path):
    (tmp_path / "deep").mkdir()
    picture(1).save(tmp_path / "deep" / "one.jpg")
    (tmp_path / "deep" / "one.txt").write_text("a dog\na small dog\n")
    read = records.read(str(tmp_path))
    assert [record.name for record in read.records] == ["deep/one.jpg"]
    assert read.records[0].texts == ("a dog", "a small dog")
    (tmp_path / "deep" / "one.txt").unlink()
    with pytest.raises(ValueError, match=r"one\.jpg has no text beside it"):
        records.read(str(tmp_path))


@pytest.mark.parametrize("line", ["{", '{"text": "a"}', '{"file_name": "a.png"}', '["a"]', '{"file_name": "a", "text": []}'])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "a.png", "text": "a"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"metadata\.jsonl, line 2"):
        records.read(str(tmp_path))


def test_missing_data_says_what_to_give(tmp_path):
    with pytest.raises(ValueError, match=r"There is no .*nowhere"):
        records.read(str(tmp_path / "nowhere"))


def test_the_target_is_resized_by_its_shorter_side_and_cropped_around_the_middle():
    pixels = target_pixels(Image.new("RGB", (40, 20), (255, 0, 0)), 16, flip=False)
    assert pixels.shape == (3, 16, 16)
    assert torch.equal(pixels[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]))
    drawn = picture(3)
    assert torch.equal(target_pixels(drawn, 16, flip=True), target_pixels(drawn, 16, flip=False).flip(-1))


def test_a_choice_follows_from_seed_and_position_alone(folder):
    record = records.read(str(folder)).records[1]
    own = inputs(drop_prompt=0.5, flip=0.5, mask_query=0.5, drop_subject=0.3)
    drawn = [choose(record, own, str(position)) for position in range(200)]
    assert drawn == [choose(record, own, str(position)) for position in range(200)]
    assert drawn != [choose(record, inputs(seed=1, drop_prompt=0.5), str(position)) for position in range(200)]
    assert 0.35 < np.mean([choice.prompt == "" for choice in drawn]) < 0.65
    assert 0.35 < np.mean([choice.flip for choice in drawn]) < 0.65
    assert 0.2 < np.mean([choice.chosen[0].source is None for choice in drawn]) < 0.4


def test_masks_alone_lose_their_words_and_dropped_subjects_everything(folder):
    record = records.read(str(folder)).records[1]
    for position in range(50):
        subject = choose(record, inputs(mask_query=1.0, mask_alone=1.0), str(position)).chosen[0]
        assert (subject.masked, subject.words) == (True, "")
        subject = choose(record, inputs(mask_query=1.0, mask_alone=0.0), str(position)).chosen[0]
        assert (subject.masked, subject.words) == (True, "cat")
        subject = choose(record, inputs(drop_subject=1.0, mask_query=1.0), str(position)).chosen[0]
        assert (subject.source, subject.masked, subject.words) == (None, False, "")
    unmasked = records.read(str(folder)).records[0]
    assert not choose(unmasked, inputs(mask_query=1.0), "0").chosen[0].masked


def test_an_unmasked_sample_of_a_masked_batch_is_queried_as_without_a_mask(folder):
    """All ones with weight 1 shifts all logits alike, CLS and patches: by 1."""
    from ssr_core.methods.ssr.aligner import mask_bias

    source = records.read(str(folder))
    example = PictureReader(source, inputs())(source.records[0], choose(source.records[0], inputs(), "0"))
    bias = mask_bias(example["masks"], example["mask_weights"])
    assert torch.equal(bias, torch.ones_like(bias))


def test_epochs_are_shuffles_and_positions_do_not_depend_on_processes(folder):
    own = settings(batch_size=3)
    source = records.read(str(folder))
    dataset = Examples(source, inputs(batch_size=3), PictureReader(source, inputs(batch_size=3)))
    for epoch in range(5):
        prompts = {dataset[2 * epoch + i]["queries"][0].split()[-1] for i in range(2)}
        assert prompts == {"dog", "cat"}
    alone = settings(batch_size=6)
    one = [next(batches(alone, number, 0, 1)) for number in range(4)]
    two = [[next(batches(own, number, process, 2)) for process in range(2)] for number in range(4)]
    assert [first + second for first, second in two] == one


def write_shard(path, first, count):
    with tarfile.open(path, "w") as tar:
        for number in range(first, first + count):
            content = io.BytesIO()
            picture(number).save(content, "PNG")
            record = {"text": f"a thing {number}", "subjects": [{"query": "thing", "reference": "png"}]}
            for extension, data in (("png", content.getvalue()), ("json", json.dumps(record).encode())):
                entry = tarfile.TarInfo(f"{number:04}.{extension}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def test_shards_are_streamed_shared_out_and_resumed_where_they_stood(tmp_path):
    for shard in range(4):
        write_shard(tmp_path / f"shard-{shard}.tar", 10 * shard, 3)
    own = inputs(data=str(tmp_path / "shard-{0..3}.tar"), drop_prompt=0.0)
    assert shards.is_shards(own.config.data)

    def prompts(process, processes, start, count):
        stream = iter(StreamedExamples(own, process, processes, start))
        return [next(stream)["prompt"] for _ in range(count)]

    whole = prompts(0, 1, 0, 12)
    assert sorted(whole) == sorted(f"a thing {10 * shard + i}" for shard in range(4) for i in range(3))
    assert prompts(0, 1, 3, 6) == whole[6:12]  # three batches of two were consumed
    assert not set(prompts(0, 2, 0, 6)) & set(prompts(1, 2, 0, 6))
    with pytest.raises(ValueError, match="4 shards for 5 readers"):
        prompts(4, 5, 0, 1)


def test_a_batch_is_collated_by_name(folder):
    source = records.read(str(folder))
    reader = PictureReader(source, inputs(subjects=2))
    batch = collate([reader(record, choose(record, inputs(subjects=2), "0")) for record in source.records])
    assert batch["pixels"].shape == (2, 3, 16, 16)
    assert batch["references"].shape == (2, 2, 3, 32, 32)
    assert batch["masks"].shape == (2, 2, 16)
    assert [len(queries) for queries in batch["queries"]] == [2, 2]
    assert batch["there"].tolist() == [[True, False]] * 2
    assert [queries[1] for queries in batch["queries"]] == ["", ""]
