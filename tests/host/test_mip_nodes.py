"""The MIP-Adapter's nodes as a user has them: what goes in, what is shown, and what is refused at the door, on a tiny SDXL."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from support import comfy_host, golden, tiny, tiny_sdxl
from support.templates import path_of

CHOICES = {"start": 0.0, "end": 1.0, "curve": "constant", "layers": "all", "combine": "by word, gated"}


@pytest.fixture(scope="module")
def sdxl():
    """An unpatched MODEL. Tests must leave it as it is."""
    return tiny_sdxl.model()


@pytest.fixture(scope="module")
def sdxl_clip():
    return tiny_sdxl.clip()


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    return tiny_sdxl.clip_vision(tmp_path_factory.mktemp("vision"))


@pytest.fixture(scope="module")
def host():
    return comfy_host.part("ssr_core.hosts.comfyui.mip")


@pytest.fixture(scope="module")
def adapter(host, tmp_path_factory):
    return host.load_adapter(str(tiny_sdxl.adapter_file(tmp_path_factory.mktemp("mip") / "tiny.safetensors")))


@pytest.fixture
def encoded(nodes, adapter, sdxl_clip, tower):
    """A function that runs Encode Object (MIP) and gives all it gives."""

    def encode(name="cat", image=None, **inputs):
        image = golden.picture(64, 48, 0) if image is None else image
        given = {"mip_adapter": adapter, "clip": sdxl_clip, "clip_vision": tower, **inputs}
        with torch.inference_mode():
            return nodes["SSR_EncodeObjectMIP"].execute(image=image, name=name, **given)

    return encode


@pytest.fixture
def applied(nodes, adapter, sdxl):
    """A function that runs Apply Objects (MIP)."""

    def apply(objects, strength=0.75, **inputs):
        given = {"model": sdxl, "mip_adapter": adapter, **CHOICES, **inputs}
        with torch.inference_mode():
            return nodes["SSR_ApplyObjectsMIP"].execute(objects=objects, strength=strength, **given).args[0]

    return apply


def test_two_objects_with_names_are_drawn_into_a_picture(encoded, applied, sdxl):
    cat = encoded("cat").args[0]
    both = encoded("red jacket", golden.picture(48, 64, 1), previous=cat).args[0]
    assert [one.name for one in both] == ["cat", "red jacket"]
    plain = tiny_sdxl.sample(sdxl)
    drawn = tiny_sdxl.sample(applied(both))
    assert torch.isfinite(drawn).all()
    assert golden.relative_error(drawn, plain) > 1e-3
    assert torch.equal(tiny_sdxl.sample(sdxl), plain)
    turned = tiny_sdxl.sample(applied(tuple(reversed(both))))
    assert golden.relative_error(turned, drawn) <= 1e-4


@pytest.mark.parametrize("combine", ["by word", "separate", "joint"])
def test_every_merge_draws_another_picture(encoded, applied, combine):
    both = encoded("jacket", golden.picture(48, 64, 1), previous=encoded("cat").args[0]).args[0]
    gated, other = tiny_sdxl.sample(applied(both)), tiny_sdxl.sample(applied(both, combine=combine))
    assert golden.relative_error(other, gated) > 1e-4


def test_a_batch_is_one_object_of_several_pictures(encoded):
    images = torch.cat([golden.picture(64, 48, variant) for variant in range(3)])
    answer = encoded("cat", images)
    (cat,) = answer.args[0]
    alone = [encoded("cat", image[None]).args[0][0].tokens for image in images]
    assert cat.count == 3
    assert golden.relative_error(cat.tokens, torch.stack(alone).mean(dim=0)) <= 1e-5
    assert len(answer.ui["ssr_subject"]) == 1 + 3


def test_strength_zero_leaves_the_model_as_it_is(encoded, applied, sdxl, nodes):
    cat = encoded("cat").args[0]
    assert applied(cat, 0.0) is sdxl
    off = nodes["SSR_CombineObjectsMIP"].execute(cat, strength_1=0.0).args[0]
    assert applied(off) is sdxl


def test_combine_multiplies_strengths_keeps_order_and_stops_at_the_limit(nodes, encoded):
    cat, jacket = encoded("cat").args[0], encoded("jacket", strength=0.5).args[0]
    combine = nodes["SSR_CombineObjectsMIP"].execute
    both = combine(jacket, None, cat, strength_1=0.5, strength_3=0.8).args[0]
    assert [(one.name, one.strength) for one in both] == [("jacket", 0.25), ("cat", 0.8)]
    with pytest.raises(ValueError, match="got no object"):
        combine()
    with pytest.raises(ValueError, match="are too many for one set"):
        combine(cat * 32, cat * 32, cat)


def test_names_do_not_depend_on_clip_set_last_layer(host, sdxl_clip):
    expected = host.encode_name(sdxl_clip, "red jacket", 2048)
    skipped = sdxl_clip.clone()
    skipped.clip_layer(-1)
    assert torch.equal(host.encode_name(skipped, "red jacket", 2048).embeds, expected.embeds)
    assert skipped.layer_idx == -1
    assert expected.embeds.shape == (2, 2048)


# What the node shows


def test_the_view_shows_the_reference_with_what_was_marked_and_the_square_that_is_seen(encoded):
    import folder_paths
    from PIL import Image

    mask = torch.zeros(1, 64, 48)
    mask[:, 10:30, 5:25] = 1.0
    answer = encoded("cat", golden.picture(48, 64, 0), mask=mask)
    reference, seen = json.loads(json.dumps(answer.ui["ssr_subject"]))
    assert (reference["width"], reference["height"], reference["framed"]) == (48, 64, False)
    assert "editable" not in reference
    assert reference["grid"] == 16
    picture = Image.open(f"{folder_paths.get_temp_directory()}/{reference['picture']['filename']}")
    shown = torch.tensor(list(picture.convert("RGB").tobytes())).view(64, 48, 3) / 255
    original = golden.picture(48, 64, 0)[0]
    assert torch.allclose(shown[10:30, 5:25], original[10:30, 5:25], atol=0.01)
    assert torch.allclose(shown[40:, 30:], original[40:, 30:] * 0.3, atol=0.02)
    assert (seen["editable"], seen["box"]) == (False, [0, 0, 1, 1])
    square = Image.open(f"{folder_paths.get_temp_directory()}/{seen['picture']['filename']}")
    assert torch.equal(torch.tensor(list(square.convert("RGB").tobytes())), answer.args[0][0].pictures[0].flatten().long())


def test_an_unmarked_reference_is_shown_as_it_is_with_its_frame(encoded):
    (entry,) = encoded("cat", fit="center crop").ui["ssr_subject"]
    assert entry["framed"]
    left, top, right, bottom = entry["box"]
    assert (right - left) * entry["width"] == pytest.approx((bottom - top) * entry["height"], abs=0.5)


def test_points_cut_out_what_a_mask_of_the_same_patches_cuts_out(nodes, encoded, tower):
    image = golden.picture(64, 48, 0)
    with torch.inference_mode():
        mask = nodes["SSR_SelectByPoints"].execute(tower, image, "20, 20").args[0]
    (clicked,), (masked,) = encoded("cat", points="20, 20").args[0], encoded("cat", mask=mask).args[0]
    assert torch.equal(clicked.pictures, masked.pictures)
    assert not torch.equal(clicked.pictures, encoded("cat").args[0][0].pictures)


def test_saved_objects_come_back_and_tell_where_they_are_from(nodes, encoded, applied, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    folder = tmp_path / "ssr_mip_objects"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ssr_mip_objects", ([str(folder)], {".safetensors"}))
    both = encoded("jacket", region=torch.ones(1, 8, 8), previous=encoded("cat").args[0]).args[0]
    saved = nodes["SSR_SaveObjectsMIP"].execute(both, "pair")
    assert saved.ui["text"] == ["Saved ssr_mip_objects/pair_00001_.safetensors"]
    answer = nodes["SSR_LoadObjectsMIP"].execute("pair_00001_.safetensors")
    (text,) = answer.ui["text"]
    first, second, at, by = text.splitlines()
    assert first == f'1. "cat", of 1 picture, strength 1, adapter {both[0].adapter[:12]}'
    assert second.startswith('2. "jacket", of 1 picture, with a region of its own, strength 1')
    assert (by, at[:11]) == ("made by: ComfyUI-SSR-Encoder", "made at: 20")
    assert [entry["editable"] for entry in answer.ui["ssr_subject"]] == [False, False]
    assert torch.equal(tiny_sdxl.sample(applied(answer.args[0])), tiny_sdxl.sample(applied(both)))


# Footprint and report


def test_every_object_has_a_footprint_under_its_name(nodes, encoded, applied):
    left, right = torch.zeros(1, 16, 16), torch.zeros(1, 16, 16)
    left[..., :8], right[..., 8:] = 1.0, 1.0
    cat = encoded("cat", region=left).args[0]
    both = encoded("jacket", golden.picture(48, 64, 1), region=right, previous=cat).args[0]
    model, recorder = nodes["SSR_RecordFootprint"].execute(applied(both)).args
    tiny_sdxl.sample(model, steps=1)
    picture = torch.zeros(1, 128, 128, 3)
    maps = [nodes["SSR_SubjectFootprint"].execute(recorder, picture, index=index).args[1] for index in (1, 2)]
    assert maps[0][..., :56].mean() > 10 * maps[0][..., 72:].mean()
    assert maps[1][..., 72:].mean() > 10 * maps[1][..., :56].mean()
    with pytest.raises(ValueError, match='1 "cat", 2 "jacket"'):
        nodes["SSR_SubjectFootprint"].execute(recorder, picture, index=3)


def test_the_report_names_objects_their_merge_and_their_regions(nodes, encoded, applied):
    cat = encoded("cat", region=torch.ones(1, 8, 16)).args[0]
    both = encoded("jacket", previous=cat).args[0]

    def report(**inputs):
        return nodes["SSR_InspectModel"].execute(applied(both, **inputs)).args[0]

    said = report(layers="decoder only")
    assert '1. "cat", "jacket", by word, gated' in said
    assert "strength 0.75, in 15 of 28 cross-attentions: output 0 0.1 0.2" in said
    assert 'region "cat" 16 x 8 (100% of it), "jacket" everywhere' in said
    assert "K and V: 4 + 4 tokens" in said
    assert '1. "cat", "jacket", separate\n' in report(combine="separate")


def test_a_plain_ip_adapter_says_in_the_node_that_it_has_no_gates(nodes, adapter, host, monkeypatch):
    mip = comfy_host.part("nodes.mip")
    monkeypatch.setattr(mip.folders, "adapter_path", lambda name: name)
    for gated in (True, False):
        monkeypatch.setattr(mip, "load_adapter", lambda path, gated=gated: replace(adapter, gated=gated))
        (text,) = nodes["SSR_LoadMIPAdapter"].execute("some.bin").ui["text"]
        assert text.startswith("4 tokens for each object, from the embedding of a picture, 32 wide; 28 layers")
        assert ("A plain IP-Adapter: it has no learned gates" in text) is not gated


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


# Templates


@pytest.mark.parametrize("name", ["ssr_mip_two_objects", "ssr_mip_two_objects_controlnet"])
def test_a_template_names_inputs_and_values_that_its_nodes_have(nodes, name):
    workflow = json.loads(path_of(name).read_text(encoding="utf-8"))
    links = {link[0]: link for link in workflow["links"]}
    places = {node["id"]: node for node in workflow["nodes"]}
    ours = [node for node in workflow["nodes"] if node["type"] in nodes]
    assert {node["type"] for node in ours} == {
        "SSR_LoadMIPAdapter",
        "SSR_EncodeObjectMIP",
        "SSR_ApplyObjectsMIP",
        "SSR_ExamplePicture",
    }
    for node in ours:
        slots = nodes[node["type"]].GET_SCHEMA().inputs
        assert [slot["name"] for slot in node["inputs"]] == [slot.id for slot in slots]
        widgets = [slot for slot in slots if "widget" in next(one for one in node["inputs"] if one["name"] == slot.id)]
        for slot, value in zip(widgets, node["widgets_values"], strict=True):
            if slot.id != "adapter_file":
                assert value in (getattr(slot, "options", None) or [value])
        for slot, described in zip(slots, node["inputs"], strict=True):
            assert slot.optional or "widget" in described or described["link"] in links
    for _, source, _, target, _, _ in workflow["links"]:
        assert places[source]["pos"][0] < places[target]["pos"][0] + 1, "links run from left to right"
