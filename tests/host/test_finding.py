"""Load SSR Models: files named, files found by themselves, and what is said where there are none or too many."""

import json
import struct

import pytest
import torch
from support import comfy_host

from ssr_core.methods.ssr import formats
from ssr_core.methods.ssr.encoder import EncoderConfig, SSREncoder

ENCODER, LAYERS, VISION = "ssr_aligner.safetensors", "ssr_layers.safetensors", "clip-vit-large-patch14.safetensors"


def hollow(path, shapes, metadata=None):
    """A safetensors file with a true header and nothing but a hole behind it."""
    header, end = {"__metadata__": metadata} if metadata else {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * torch.Size(shape).numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def released(part):
    """Names and shapes of one half as they are published."""
    with torch.device("meta"):
        state = SSREncoder(EncoderConfig()).state_dict()
    own = {name: tuple(tensor.shape) for name, tensor in state.items() if name.startswith(part)}
    if part == "":
        return own
    published = {}
    for name, shape in own.items():
        _, *rest = name.split(".")
        if part == "layers":
            published[f"{2 * int(rest[0]) + 1}.{rest[1]}_SSR.weight"] = shape
        elif rest[0] == "norm":
            published[".".join(rest)] = shape
        else:
            published[".".join(("aligner", *(() if rest[0] in ("to_q", "to_k") else ("processor",)), *rest))] = shape
    return published


def vision(positions=257, width=1024):
    return {
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": (positions, width),
        "vision_model.encoder.layers.23.layer_norm1.weight": (width,),
    }


@pytest.fixture
def models(nodes, tmp_path, monkeypatch):
    """A models folder of its own, and nothing else that the host would look into."""
    import folder_paths

    folders = {name: tmp_path / name for name in ("ssr_encoder", "clip_vision", "checkpoints", "loras")}
    for folder in folders.values():
        folder.mkdir()
    known = {name: ([str(folder)], {".safetensors", ".bin"}) for name, folder in folders.items()}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


@pytest.fixture
def finding(nodes):
    return comfy_host.part("ssr_core.hosts.comfyui.finding")


def test_presets_are_the_manifests_names_and_auto_stands_beside_them(nodes):
    slots = {slot.id: slot for slot in nodes["SSR_LoadModels"].GET_SCHEMA().inputs}
    assert {name: slot.default for name, slot in slots.items()} == {
        "encoder_file": ENCODER, "layers_file": LAYERS, "clip_vision_file": VISION
    }  # fmt: skip
    assert all(slot.options[0] == "auto" for slot in slots.values())


def test_published_names_are_found_in_any_model_folder(models, finding):
    hollow(models / "loras" / "below" / ENCODER, released("aligner"))
    hollow(models / "checkpoints" / LAYERS, released("layers"))
    hollow(models / "loras" / VISION, vision())
    assert finding.encoder_files() == [str(models / "loras" / "below" / ENCODER), str(models / "checkpoints" / LAYERS)]
    assert finding.vision_file() == str(models / "loras" / VISION)


def test_other_names_are_found_by_the_tensors(models, finding):
    hollow(models / "loras" / "a lora.safetensors", {"lora_unet_x.lora_up.weight": (4, 8)})
    hollow(models / "loras" / "half.safetensors", released("aligner"))
    hollow(models / "ssr_encoder" / "other half.safetensors", released("layers"))
    hollow(models / "clip_vision" / "bigG.safetensors", vision(width=1664))
    hollow(models / "clip_vision" / "336.safetensors", vision(positions=577))
    hollow(models / "checkpoints" / "eyes.safetensors", vision())
    assert finding.encoder_files() == [
        str(models / "loras" / "half.safetensors"),
        str(models / "ssr_encoder" / "other half.safetensors"),
    ]
    assert finding.vision_file() == str(models / "checkpoints" / "eyes.safetensors")


def test_an_encoder_in_one_file_needs_no_other(models, finding):
    path = hollow(models / "ssr_encoder" / "mine.safetensors", released(""), {"format": formats.FORMAT})
    assert finding.encoder_files() == [str(path)]
    assert finding.layers_beside(str(path)) is None


def test_a_half_finds_the_other(models, finding):
    half = hollow(models / "ssr_encoder" / ENCODER, released("aligner"))
    with pytest.raises(FileNotFoundError, match="holds only the aligner of an SSR-Encoder, and no file"):
        finding.layers_beside(str(half))
    elsewhere = hollow(models / "loras" / "layers of it.safetensors", released("layers"))
    assert finding.layers_beside(str(half)) == str(elsewhere)
    beside = hollow(models / "ssr_encoder" / LAYERS, released("layers"))
    assert finding.layers_beside(str(half)) == str(beside)


def test_between_two_encoders_nobody_chooses(models, finding):
    for name in ("one", "two"):
        hollow(models / "ssr_encoder" / f"{name}.safetensors", released(""), {"format": formats.FORMAT})
        hollow(models / "clip_vision" / f"{name}.safetensors", vision())
    with pytest.raises(
        ValueError, match=r"Several files could be meant: .*one.*two.* Choose one in encoder_file in place of auto"
    ):
        finding.encoder_files()
    with pytest.raises(ValueError, match=r"Several files could be meant: .* Choose one in clip_vision_file"):
        finding.vision_file()


def test_a_whole_encoder_beside_a_pair_is_a_choice_too(models, finding):
    hollow(models / "ssr_encoder" / "mine.safetensors", released(""), {"format": formats.FORMAT})
    hollow(models / "ssr_encoder" / "first.safetensors", released("aligner"))
    hollow(models / "ssr_encoder" / "second.safetensors", released("layers"))
    with pytest.raises(ValueError, match="Several files could be meant"):
        finding.encoder_files()


def test_what_is_missing_is_told_before_anything_runs(nodes, models):
    node = nodes["SSR_LoadModels"]
    told = node.validate_inputs(encoder_file=ENCODER, layers_file=LAYERS, clip_vision_file=VISION)
    assert "There is no SSR-Encoder file" in told
    assert "install.py --download" in told
    told = node.validate_inputs(encoder_file="auto", layers_file="auto", clip_vision_file="auto")
    assert told.startswith("No file in ComfyUI's model folders is an SSR-Encoder by its name or its tensors.")
    assert node.validate_inputs(encoder_file=None, layers_file=LAYERS, clip_vision_file=VISION) is True
    hollow(models / "ssr_encoder" / ENCODER, released("aligner"))
    hollow(models / "ssr_encoder" / LAYERS, released("layers"))
    told = node.validate_inputs(encoder_file=ENCODER, layers_file="auto", clip_vision_file=VISION)
    assert told.startswith('There is no CLIP vision model "clip-vit-large-patch14.safetensors"')


def test_files_that_change_make_the_node_run_again(nodes, models):
    values = {"encoder_file": "auto", "layers_file": "auto", "clip_vision_file": "auto"}
    node = nodes["SSR_LoadModels"]
    nothing = node.fingerprint_inputs(**values)
    hollow(models / "ssr_encoder" / ENCODER, released("aligner"))
    hollow(models / "ssr_encoder" / LAYERS, released("layers"))
    hollow(models / "clip_vision" / VISION, vision())
    found = node.fingerprint_inputs(**values)
    assert found != nothing
    assert [entry[0].rsplit("/", 1)[-1] for entry in found] == [ENCODER, LAYERS, VISION]


def test_a_pair_that_is_chosen_is_not_looked_for_among_others(nodes, models):
    for name, part in (("mine.safetensors", "aligner"), ("rest.safetensors", "layers"), ("another.safetensors", "layers")):
        hollow(models / "ssr_encoder" / name, released(part))
    hollow(models / "clip_vision" / VISION, vision())
    node = nodes["SSR_LoadModels"]
    chosen = {"encoder_file": "mine.safetensors", "layers_file": "rest.safetensors", "clip_vision_file": VISION}
    assert node.validate_inputs(**chosen) is True
    assert "Several files" in node.validate_inputs(**{**chosen, "layers_file": "auto"})


def test_every_file_that_is_missing_is_named_once(nodes, models):
    told = nodes["SSR_LoadModels"].validate_inputs(encoder_file=ENCODER, layers_file=LAYERS, clip_vision_file=VISION)
    assert [told.count(name) for name in (f'"{ENCODER}"', f'"{LAYERS}"', f'"{VISION}"')] == [1, 1, 1]


@pytest.mark.parametrize(
    ("node", "values", "message"),
    [
        ("SSR_LoadMIPAdapter", {"adapter_file": "model_sdxl.bin"}, 'There is no MIP-Adapter file "model_sdxl.bin"'),
        ("SSR_LoadELITE", {"elite_file": "global_mapper.pt"}, 'There is no file of ELITE "global_mapper.pt"'),
        ("SSR_LoadELITE", {"elite_file": "a.pt", "local_file": "b.pt"}, 'There is no file of ELITE "b.pt"'),
        ("SSR_LoadSubject", {"subject_file": "none saved yet"}, "Nothing was saved yet"),
        ("SSR_LoadSubject", {"subject_file": "gone.safetensors"}, 'There is no subject file "gone.safetensors"'),
        ("SSR_LoadObjectsMIP", {"objects_file": "none saved yet"}, "Save something with Save Objects (MIP), press R"),
        ("SSR_LoadSubjectELITE", {"subject_file": "../x"}, "There is no subject file of ELITE"),
    ],
)
def test_a_file_that_is_not_there_is_told_before_anything_runs(nodes, node, values, message):
    assert message in nodes[node].validate_inputs(**values)
    assert nodes[node].validate_inputs() is True, "linked: known when the node runs"


@pytest.mark.parametrize(
    "value", [5, float("nan"), True, [], {"a": 1}, "\0", "../../etc/passwd", "x" * 100_000], ids=lambda value: repr(value)[:12]
)
@pytest.mark.parametrize(
    ("node", "name"),
    [
        ("SSR_LoadMIPAdapter", "adapter_file"),
        ("SSR_LoadELITE", "elite_file"),
        ("SSR_LoadSubject", "subject_file"),
        ("SSR_LoadObjectsMIP", "objects_file"),
        ("SSR_LoadSubjectELITE", "subject_file"),
    ],
)
def test_what_is_no_name_of_a_file_is_refused_in_a_few_words(nodes, node, name, value):
    told = nodes[node].validate_inputs(**{name: value})
    assert told is not True
    assert "There is no" in told
    assert len(told) < 1000
