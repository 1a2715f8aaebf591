"""ELITE's weight files: the published pair, our single file, and back; what is swapped, doubled or another's is told."""

import json
import logging
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.elite import FIVE, SMALL, weights

from ssr_core.layout import SD15
from ssr_core.methods.elite import formats, layers
from ssr_core.methods.elite.mapper import EliteConfig, GlobalMapper


def same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def pickles(folder, made=None):
    """As the authors' training saves them."""
    made = made or weights(FIVE)
    paths = [folder / "global_mapper.pt", folder / "local_mapper.pt"]
    for path, stage in zip(paths, ("global", "local"), strict=True):
        torch.save(made.states[stage], path)
    return paths


def stages(folder, made, suffix=".safetensors", **options):
    paths = [folder / f"{stage}{suffix}" for stage in made.states]
    for path, stage in zip(paths, made.states, strict=True):
        formats.write_stage(made, stage, path, **options)
    return paths


def metadata(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def refused(paths, *parts, config=None):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        formats.read(paths, config)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    return message


def test_the_published_pair_tells_its_own_shapes(tmp_path):
    found = formats.read(pickles(tmp_path))
    assert found.config == FIVE
    assert found.fingerprint == weights(FIVE).fingerprint
    for stage in ("global", "local"):
        same(found.states[stage], weights(FIVE).states[stage])


def test_stable_diffusions_shapes_are_read_off_the_names():
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in GlobalMapper(EliteConfig()).state_dict().items()}
    assert layers.config_of(shapes) == EliteConfig(layout=SD15)


def test_there_and_back_through_every_format(tmp_path):
    made = weights()
    formats.write(made, tmp_path / "elite.safetensors")
    found = formats.read([tmp_path / "elite.safetensors"])
    assert (found.config, found.fingerprint) == (SMALL, made.fingerprint)
    again = formats.read(stages(tmp_path, found))
    assert (again.config, again.fingerprint) == (SMALL, made.fingerprint)
    same(again.state, made.state)
    official = formats.read(stages(tmp_path, made, ".pt"), SMALL)
    assert official.fingerprint == made.fingerprint
    assert torch.load(tmp_path / "global.pt", weights_only=True).keys() == made.states["global"].keys()


def test_our_file_says_what_it_is(tmp_path):
    formats.write(weights(), tmp_path / "elite.safetensors", extra={"trained": "yes", "format": "ignored"})
    said = metadata(tmp_path / "elite.safetensors")
    assert (said["format"], said["format_version"], said["stage"], said["trained"]) == ("ssr_elite", "1", "both", "yes")
    assert {name.partition(".")[0] for name in load_file(tmp_path / "elite.safetensors")} == {"global_mapper", "local_mapper"}


def test_the_module_is_built_of_either(tmp_path):
    elite = formats.load(pickles(tmp_path))
    assert elite.fingerprint == weights(FIVE).fingerprint
    assert not any(parameter.requires_grad for parameter in elite.parameters())
    same(elite.state_dict(), weights(FIVE).state)
    assert (
        formats.load(pickles(tmp_path), dtype=torch.float16).global_mapper.get_parameter("mapping_0.0.weight").dtype
        == torch.float16
    )


def test_metadata_decides_whatever_order_and_names_say(tmp_path):
    made = weights()
    paths = [tmp_path / "global.safetensors", tmp_path / "local.safetensors"]
    formats.write_stage(made, "local", paths[0])
    formats.write_stage(made, "global", paths[1])
    same(formats.read(paths).state, made.state)


def test_crossed_names_are_warned_about(tmp_path, caplog):
    paths = pickles(tmp_path)
    with caplog.at_level(logging.WARNING):
        formats.read(paths)
        assert not caplog.records
        swapped = formats.read(paths[::-1])
    assert "local_mapper.pt is used as ELITE's global mapper, but its name says local" in caplog.text
    assert "global_mapper.pt is used as ELITE's local mapper, but its name says global" in caplog.text
    same(swapped.states["global"], weights(FIVE).states["local"])


def test_which_file_is_which_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        formats.read(pickles(tmp_path))
    assert "ELITE's global mapper is that of" in caplog.text
    assert "global_mapper.pt" in caplog.text


def test_the_same_file_twice_is_refused(tmp_path):
    paths = pickles(tmp_path)
    refused([paths[0], paths[0]], "is given twice", "global_mapper.pt and local_mapper.pt")
    copy = tmp_path / "copy.pt"
    copy.write_bytes(paths[0].read_bytes())
    refused([paths[0], copy], "hold the same weights: the same file twice")
    half = tmp_path / "half.pt"
    torch.save({name: tensor.half() for name, tensor in weights(FIVE).states["global"].items()}, half)
    refused([paths[0], half], "hold the same weights")
    made = weights()
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    formats.write_stage(made, "local", one)
    formats.write_stage(made, "local", other)
    refused([one, other], "are both the local mapper")


def test_the_global_mapper_alone_gives_words_alone(tmp_path):
    paths = pickles(tmp_path)
    found = formats.read(paths[:1])
    assert found.states.keys() == {"global"}
    assert formats.load(paths[:1]).local_mapper is None
    formats.write(found, tmp_path / "words.safetensors")
    assert formats.read([tmp_path / "words.safetensors"]).fingerprint == found.fingerprint != weights(FIVE).fingerprint
    with pytest.raises(ValueError, match="There is no local mapper to write"):
        formats.write_stage(found, "local", tmp_path / "none.pt")


def test_the_local_mapper_alone_is_refused(tmp_path):
    refused(pickles(tmp_path)[1:], "the local mapper alone by its name")
    refused(stages(tmp_path, weights())[1:], "is the local mapper alone, which has no words")


def test_files_of_two_trainings_are_refused(tmp_path):
    first, _ = stages(tmp_path, weights())
    other = tmp_path / "wide"
    other.mkdir()
    _, second = stages(other, weights(replace(SMALL, hidden_width=16)))
    refused([first, second], "do not belong together")


@pytest.mark.parametrize("count", [0, 3])
def test_other_numbers_of_files_are_refused(tmp_path, count):
    refused([tmp_path / "x.pt"] * count, "one file or two")


FOREIGN = {
    "an SSR-Encoder": ["aligner.to_q.weight", "1.to_k_SSR.weight"],
    "an MIP-Adapter": ["image_proj.latents", "ip_adapter.1.text_to_weight.weight"],
    "an IP-Adapter": ["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"],
    "a subject of LASR": ["static.basis"],
    "a LoRA": ["lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight"],
    "a Stable Diffusion checkpoint": ["model.diffusion_model.input_blocks.0.0.weight"],
    "a CLIP vision model": ["vision_model.embeddings.class_embedding"],
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_another_methods_file_is_called_what_it_is(tmp_path, kind, suffix):
    path, content = tmp_path / f"foreign{suffix}", {key: torch.zeros(2) for key in FOREIGN[kind]}
    torch.save(content, path) if suffix == ".pt" else save_file(content, path)
    refused([path], f"not a mapper of ELITE but {kind}")


def test_pickles_with_objects_are_called_what_they_are(tmp_path):
    content = b"\x80\x02}X\x01\x00\x00\x00acldm.modules.embedding_manager\nLASREmbedding\n)\x81s."
    (tmp_path / "lasr.pt").write_bytes(content)
    refused([tmp_path / "lasr.pt"], "cannot be read")
    torch.save({"a": json.JSONDecoder}, tmp_path / "objects.pt")
    refused([tmp_path / "objects.pt"], "Python objects", "JSONDecoder")


def test_subject_files_and_other_formats_are_named(tmp_path):
    for form, says in (("ssr_elite_subject", "Load Subject (ELITE) reads it"), ("ssr_encoder", "not ELITE's weights")):
        save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"format": form})
        refused([tmp_path / "x.safetensors"], form, says)
    formats.write(weights(), tmp_path / "elite.safetensors")
    state, said = load_file(tmp_path / "elite.safetensors"), metadata(tmp_path / "elite.safetensors")
    changes = (
        ({"format_version": "2"}, "Update the pack"),
        ({"stage": "third"}, 'stage is "third"'),
        ({"config": "{"}, "configuration"),
    )
    for change, says in changes:
        save_file(state, tmp_path / "x.safetensors", metadata={**said, **change})
        refused([tmp_path / "x.safetensors"], says)
    save_file({**state, "more": torch.zeros(2)}, tmp_path / "x.safetensors", metadata=said)
    refused([tmp_path / "x.safetensors"], "unknown keys more")
    save_file(weights().states["global"], tmp_path / "x.safetensors", metadata=said)
    refused([tmp_path / "x.safetensors"], "says it holds both")


def damaged(change):
    made = weights(FIVE)
    change(made.states["global"])
    return made


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("mapping_3.1.bias"), "missing mapping_3.1.bias"),
        (lambda state: state.pop("mapping_4.0.weight"), "mapping networks are 4, those of the published files 5"),
        (lambda state: state.update({"mapping_0.9.bias": torch.zeros(2)}), "not expected mapping_0.9.bias"),
        (lambda state: state.update({"mapping_1.3.weight": torch.zeros(3, 3)}), "mapping_1.3.weight has shape (3, 3)"),
        (lambda state: state.update({"mapping_1.3.bias": torch.zeros(12, dtype=torch.int64)}), "has type torch.int64"),
        (lambda state: state["mapping_2.1.weight"].fill_(float("nan")), "mapping_2.1.weight holds numbers that are not finite"),
        (lambda state: state.update({"mapping_0.6.weight": torch.zeros(6)}), "not a mapper of ELITE"),
        (lambda state: [state.pop(name) for name in list(state) if "down_blocks" in name], "UNet's way down"),
    ],
)
def test_damage_is_told_by_name(tmp_path, change, says):
    refused(pickles(tmp_path, damaged(change)), says, "global_mapper.pt")


def test_wrapped_pickles_are_the_same(tmp_path):
    made = weights(FIVE)
    paths = [tmp_path / "g.pt", tmp_path / "l.pt"]
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in made.states["global"].items()}, "step": 3}, paths[0]
    )
    torch.save({**made.states["local"], "steps": torch.tensor(7)}, paths[1])
    assert formats.read(paths).fingerprint == made.fingerprint


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_copies_keep_the_originals_identity(tmp_path, dtype):
    made = weights()
    formats.write(made, tmp_path / "half.safetensors", dtype)
    found = formats.read([tmp_path / "half.safetensors"])
    assert found.fingerprint == made.fingerprint
    assert formats.read(stages(tmp_path, made, dtype=dtype)).fingerprint == made.fingerprint
    state, said = load_file(tmp_path / "half.safetensors"), metadata(tmp_path / "half.safetensors")
    state["local_mapper.mapping_0.0.bias"] += 1.0
    save_file(state, tmp_path / "changed.safetensors", metadata=said)
    refused([tmp_path / "changed.safetensors"], "not those that its fingerprint was written for")
    save_file(
        load_file(tmp_path / "half.safetensors"), tmp_path / "odd.safetensors", metadata={**said, "fingerprint_local": "?"}
    )
    refused([tmp_path / "odd.safetensors"], 'fingerprint is "?"')


def test_what_read_would_refuse_is_not_written(tmp_path):
    made = weights()
    made.states["local"]["mapping_0.0.bias"][0] = float("inf")
    with pytest.raises(ValueError, match=r"local mapper to write: mapping_0\.0\.bias holds"):
        formats.write(made, tmp_path / "elite.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"grid": 65},
        {"vision_layers": list(range(1, 500))},
        {"hidden_width": 1 << 20},
        {"text_width": 0},
        {"layout": {"channels": [8] * 17, "depths": [1] * 17, "resnets": 1, "heads": 2}},
        {"layout": {"channels": [8, 16], "depths": [1, 1], "resnets": 65, "heads": 2}},
        {"layout": {"channels": [8, 16], "depths": [1, 1 << 30], "resnets": 1, "heads": 2}},
        {"layout": {"channels": [8, 16], "depths": [1, 1], "resnets": 1, "heads": 3}},
        {"hidden_width": "wide"},
    ],
    ids=str,
)
def test_descriptions_that_the_tensors_do_not_bear_out_are_refused(tmp_path, change):
    formats.write(weights(), tmp_path / "elite.safetensors")
    state, said = load_file(tmp_path / "elite.safetensors"), metadata(tmp_path / "elite.safetensors")
    config = json.dumps({**json.loads(said["config"]), **change})
    save_file(state, tmp_path / "x.safetensors", metadata={**said, "config": config})
    refused([tmp_path / "x.safetensors"], "x.safetensors")


def test_two_precisions_in_one_file_become_the_wider(tmp_path, caplog):
    made = weights(FIVE)
    made.states["global"]["mapping_0.0.bias"] = made.states["global"]["mapping_0.0.bias"].half()
    with caplog.at_level(logging.WARNING):
        found = formats.read(pickles(tmp_path, made))
    assert {tensor.dtype for tensor in found.states["global"].values()} == {torch.float32}
    assert "torch.float16 and torch.float32" in caplog.text
