"""The MIP-Adapter's nodes as a user has them: what goes in and what is shown, on a tiny SDXL."""

import json
from dataclasses import replace

import pytest
import torch
from support import comfy_host, golden, tiny_sdxl


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
    assert 'region "cat" 16 x 8 (100 % of it), "jacket" everywhere' in said
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
