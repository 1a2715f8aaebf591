"""Where the MIP-Adapter's nodes look for files, and what they refuse at the door."""

import shutil

import pytest
import torch
from support import comfy_host, tiny, tiny_sdxl
from support.tiny_sdxl import CHOICES

# Files


def test_adapters_are_found_where_ip_adapters_lie_too(nodes, tmp_path, monkeypatch):
    import folder_paths

    folders = comfy_host.part("ssr_core.hosts.comfyui.folders")
    own, theirs = tmp_path / "ssr_mip", tmp_path / "elsewhere"
    for folder, name in ((own, "model_sdxl.bin"), (theirs, "ip-adapter_sdxl.safetensors"), (theirs, "model_sdxl.bin")):
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
    suffixes = {".bin", ".safetensors"}
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ssr_mip", ([str(own)], suffixes))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ipadapter", ([str(theirs)], suffixes))
    assert folders.adapter_files() == ["model_sdxl.bin", "ip-adapter_sdxl.safetensors"]
    assert folders.adapter_path("model_sdxl.bin") == str(own / "model_sdxl.bin")
    assert folders.adapter_path("ip-adapter_sdxl.safetensors") == str(theirs / "ip-adapter_sdxl.safetensors")
    assert nodes["SSR_LoadMIPAdapter"].fingerprint_inputs("ip-adapter_sdxl.safetensors")[0] == "ip-adapter_sdxl.safetensors"
    assert nodes["SSR_LoadMIPAdapter"].fingerprint_inputs(None) is None
    assert nodes["SSR_LoadObjectsMIP"].fingerprint_inputs(None) is None
    with pytest.raises(FileNotFoundError, match=r"no MIP-Adapter file .*gone.*install\.py --download --only mip"):
        folders.adapter_path("gone.bin")


def test_a_file_of_another_method_is_refused_by_what_it_is(host, tmp_path):
    encoder = tiny.encoder_file(tmp_path / "encoder.safetensors")
    with pytest.raises(ValueError, match=r'file of format "ssr_encoder", not an MIP-Adapter'):
        host.load_adapter(str(encoder))
    lora = tmp_path / "lora.safetensors"
    comfy_host.part("ssr_core.tensor_files").write({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, lora)
    with pytest.raises(ValueError, match="not an MIP-Adapter but a LoRA"):
        host.load_adapter(str(lora))


def test_an_adapter_is_refused_as_an_ssr_encoder_and_its_objects_as_subjects(host, encoded, encoders, tmp_path):
    path = tiny_sdxl.adapter_file(tmp_path / "mip.safetensors")
    with pytest.raises(ValueError, match="ssr_mip_adapter"):
        encoders.load_encoder([str(path)])
    objects = tmp_path / "objects.safetensors"
    comfy_host.part("ssr_core.methods.mip.object_file").save(encoded("cat").args[0], objects)
    with pytest.raises(ValueError, match="ssr_mip_objects"):
        comfy_host.part("ssr_core.methods.ssr.subject_file").load(objects)
    shutil.copy(path, tmp_path / "adapter.safetensors")
    with pytest.raises(ValueError, match="not a file of objects"):
        comfy_host.part("ssr_core.methods.mip.object_file").load(tmp_path / "adapter.safetensors")


# Wrong pairings


@pytest.mark.parametrize(
    ("plus", "width", "message"),
    [
        (False, 1280, r"embedding of width 32 .* takes a picture's embedding, of width 1280 \(CLIP ViT-bigG/14\)"),
        (False, 1024, r"takes a picture's embedding, of width 1024 \(CLIP ViT-H/14\)"),
        (True, 1280, r"hidden states of width 64 .* takes a picture's hidden states, of width 1280 \(CLIP ViT-H/14\)"),
    ],
)
def test_a_tower_of_another_kind_is_refused_by_its_widths(host, encoded, tmp_path, plus, width, message):
    other = host.load_adapter(str(tiny_sdxl.adapter_file(tmp_path / "other.safetensors", width, plus)))
    with pytest.raises(ValueError, match=message):
        encoded("cat", mip_adapter=other)


@pytest.mark.parametrize(
    ("widths", "pooled", "wanted", "named"),
    [((1280, 1024), True, 1280, "CLIP ViT-H/14"), ((1664, 1280), False, 1280, "CLIP ViT-bigG/14")],
    ids=["ViT-H for the adapter of bigG", "bigG for the adapter of ViT-H"],
)
def test_the_two_published_towers_are_not_taken_for_each_other(widths, pooled, wanted, named):
    """Both have a width of 1280: one its hidden states, the other its embedding."""
    core = comfy_host.part("ssr_core.methods.mip.adapter")
    shape = None if pooled else core.ResamplerShape()
    config = core.AdapterConfig(vision_width=wanted, resampler=shape)
    tower = comfy_host.part("ssr_core.vision_model").VisionModel(
        lambda pixels: (), 224, widths[0], 257, 32, embedding_width=widths[1]
    )
    with pytest.raises(ValueError, match=rf"\({named}\); the adapter takes .*Load CLIP ViT.* in Load CLIP Vision"):
        comfy_host.part("ssr_core.methods.mip.encode").check_vision_model(tower, config)


def test_the_plus_variant_takes_hidden_states_and_draws(host, encoded, nodes, sdxl, tmp_path):
    plus = host.load_adapter(str(tiny_sdxl.adapter_file(tmp_path / "plus.safetensors", 64, plus=True)))
    cat = encoded("cat", mip_adapter=plus).args[0]
    assert cat[0].tokens.shape == (6, 2048)
    with torch.inference_mode():
        patched = nodes["SSR_ApplyObjectsMIP"].execute(sdxl, plus, cat, 0.65, **CHOICES).args[0]
    assert torch.isfinite(tiny_sdxl.sample(patched, steps=1)).all()


def test_a_tower_without_an_embedding_is_refused(encoded, clip_vision):
    clip_vision.model.visual_projection = torch.nn.Identity()  # as newer hosts load such files
    with pytest.raises(ValueError, match="hidden states of width 64 and no embedding"):
        encoded("cat", clip_vision=clip_vision)


def test_the_clip_of_sd15_or_of_the_refiner_is_refused(encoded, clip):
    for other, names in ((clip, "l"), (tiny_sdxl.clip(refiner=True), "g")):
        with pytest.raises(ValueError, match=rf"text encoders {names}; the MIP-Adapter needs SDXL's CLIP-L and CLIP-bigG"):
            encoded("cat", clip=other)
    with pytest.raises(ValueError, match="CLIP is missing"):
        encoded("cat", clip=None)


def test_a_model_of_sd15_or_of_the_refiner_is_refused(encoded, applied, model):
    cat = encoded("cat").args[0]
    with pytest.raises(ValueError, match=r"text width 768 \(SD1.x\); the MIP-Adapter needs 2048.*Stable Diffusion XL"):
        applied(cat, model=model)
    refiner = tiny_sdxl.model({**tiny_sdxl.UNET_CONFIG, "context_dim": 1280})
    with pytest.raises(ValueError, match=r"text width 1280 \(SDXL refiner\); the MIP-Adapter needs 2048"):
        applied(cat, model=refiner)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (" ", "object has no name"),
        ("a cat " * 12, r"has 24 tokens; expected 1 to 20"),
        ("cat " * 100, "longer than 75 tokens"),
        ("x" * 1_000_000, "has 1,000,000 characters"),
        (None, "name is a NoneType"),
        ("\x1b[2J" * 30, "The name"),
    ],
    ids=["blank", "too many tokens", "a paragraph", "a megabyte", "none", "control characters"],
)
def test_names_that_say_nothing_or_too_much_are_refused(encoded, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        encoded(name)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_objects_of_another_adapter_are_refused(encoded, applied, host, tmp_path):
    other = host.load_adapter(str(tiny_sdxl.adapter_file(tmp_path / "other.safetensors", seed=9)))
    with pytest.raises(ValueError, match=r'object "cat" was made by another adapter .*Encode it again'):
        applied(encoded("cat").args[0], mip_adapter=other)


def test_masks_regions_and_choices_that_cannot_be_are_refused(encoded, applied):
    for inputs, message in (
        ({"mask": torch.zeros(1, 48, 64)}, "mask of the reference marks nothing"),
        ({"mask": torch.ones(2, 48, 64)}, "2 masks for 1 pictures"),
        ({"region": torch.zeros(1, 8, 8)}, "region of the object is empty"),
        ({"region": torch.ones(2, 8, 8)}, "region of the object has 2 masks"),
        ({"points": "9000, 5"}, "None of the 1 points lies in the part"),
        ({"fit": "zzz"}, "fit is"),
        ({"strength": float("nan")}, "strength"),
        ({"image": torch.zeros(0, 8, 8, 3)}, "batch of at least one picture"),
        ({"image": torch.rand(65, 8, 8, 3)}, "got 65 pictures; expected 1 to 64"),
    ):
        with pytest.raises(ValueError, match=message):
            encoded(**{"name": "cat", **inputs})
    cat = encoded("cat", region=torch.ones(1, 8, 8)).args[0]
    for inputs, message in (
        ({"combine": "zzz"}, "by word, gated"),
        ({"layers": "structure"}, "expected one of: all, encoder only"),
        ({"layer_strengths": "1, 2"}, "expected 1, 3 .* or 28"),
        ({"curve": "zzz"}, "fade in"),
    ):
        with pytest.raises(ValueError, match=message):
            applied(cat, **inputs)
    with pytest.raises(ValueError, match='cannot be merged "joint"'):
        applied(cat + cat, combine="joint")
    other_half = torch.zeros(1, 8, 8)
    other_half[..., :4] = 1.0
    cornered = encoded("cat", region=1 - other_half).args[0]
    with pytest.raises(ValueError, match="do not meet"):
        applied(cornered, region=other_half)


def test_presets_measured_on_sd15_are_not_offered_for_sdxl(nodes):
    (layers,) = (slot for slot in nodes["SSR_ApplyObjectsMIP"].GET_SCHEMA().inputs if slot.id == "layers")
    assert layers.options == ["all", "encoder only", "middle only", "decoder only", "no encoder", "no decoder"]
