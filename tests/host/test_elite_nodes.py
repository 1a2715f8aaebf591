"""What a MODEL with ELITE's subjects draws, beside whom, and what is refused in words; its nodes as a user has them."""

import json

import pytest
import torch
from support import comfy_host, golden, tiny, tiny_elite
from support.templates import path_of

CHOICES = {"start": 0.0, "end": 1.0, "curve": "constant", "layers": "all"}


@pytest.fixture(scope="module")
def host():
    return comfy_host.part("ssr_core.hosts.comfyui.elite")


@pytest.fixture(scope="module")
def elite(host, tmp_path_factory):
    return host.load_elite([str(tiny_elite.file(tmp_path_factory.mktemp("elite") / "tiny.safetensors", tiny_elite.small()))])


@pytest.fixture(scope="module")
def other(host, tmp_path_factory):
    return host.load_elite([str(tiny_elite.file(tmp_path_factory.mktemp("elite") / "other.safetensors", tiny_elite.small(9)))])


@pytest.fixture(scope="module")
def subject(elite):
    return (tiny_elite.subject(elite.fingerprint),)


@pytest.fixture(scope="module")
def two(elite):
    return tuple(tiny_elite.subject(elite.fingerprint, seed) for seed in (0, 1))


@pytest.fixture(scope="module")
def say(nodes, clip):
    """A function that runs Prompt with Subject (ELITE)."""

    def prompt(subjects, text="a photo of a S", placeholder="S", **inputs):
        with torch.inference_mode():
            return nodes["SSR_PromptWithSubjectELITE"].execute(clip, subjects, text, placeholder, **inputs).args[0]

    return prompt


@pytest.fixture(scope="module")
def applied(nodes, elite, model):
    """A function that runs Apply Subject (ELITE)."""

    def apply(subjects, strength=0.8, onto=model, own=elite, **inputs):
        with torch.inference_mode():
            given = {**CHOICES, **inputs}
            return nodes["SSR_ApplySubjectELITE"].execute(onto, own, subjects, strength, **given).args[0]

    return apply


@pytest.fixture(scope="module")
def drawn(applied, say, subject):
    """What the subject alone draws."""
    return tiny.sample(applied(subject), positive=say(subject))


def weights(patched):
    """The MODEL's text projections as they act, by name."""
    import comfy.lora

    own = patched.model.state_dict()
    return {
        key: comfy.lora.calculate_weight(patches, own[key].clone(), key)
        for key, patches in patched.patches.items()
        if ".attn2.to_" in key
    }


def test_the_subject_changes_the_picture_and_upstream_stays_as_it_was(applied, say, subject, model, plain, drawn):
    assert bool(drawn.isfinite().all())
    word_alone = tiny.sample(applied(subject, 0.0), positive=say(subject))
    assert golden.relative_error(drawn, word_alone) > 1e-3
    assert golden.relative_error(word_alone, tiny.sample(model, positive=say(subject))) > 1e-3
    assert torch.equal(tiny.sample(applied(subject), positive=say(subject)), drawn)
    assert torch.equal(tiny.sample(model), plain)


def test_a_plain_pair_stays_one_call_a_step(applied, say, subject):
    patched, seen = applied(subject).clone(), []

    def spy(apply_model, arguments):
        seen.append(arguments["cond_or_uncond"])
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    patched.set_model_unet_function_wrapper(spy)
    tiny.sample(patched, positive=say(subject), steps=3)
    assert seen == [[1, 0]] * 3


@pytest.mark.parametrize("kind", ["diff", "lora"])
def test_loras_before_and_after_are_added_to_elites_matrices(applied, say, subject, model, elite, kind):
    import comfy.weight_adapter

    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    generator = torch.Generator().manual_seed(5)
    up, down = torch.randn(32, 4, generator=generator), torch.randn(4, 768, generator=generator) / 20
    patch = ("diff", (up @ down,))
    if kind == "lora":
        patch = comfy.weight_adapter.LoRAAdapter(set(), (up, down, 4.0, None, None, None))
    before, after = model.clone(), applied(subject).clone()
    for patched in (before, after):
        assert patched.add_patches({key: patch}, 0.5) == [key]
    before = applied(subject, onto=before)
    found = [weights(patched) for patched in (before, after)]
    assert len(found[0]) == len(found[1]) == 32
    torch.testing.assert_close(found[0][key], elite.text[0][0] + 0.5 * (up @ down))
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]), name
    assert torch.equal(*(tiny.sample(patched, positive=say(subject)) for patched in (before, after)))


def test_a_merge_before_leaves_nothing_under_elites_matrices(applied, subject, model, elite):
    merged = model.clone()
    other = tiny.model(seed=4)
    merged.add_patches(other.get_key_patches("diffusion_model."), 0.5, 0.5)
    found = weights(applied(subject, onto=merged))
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    middle = next(layer.index for layer in elite.config.layout.layers if layer.block[0] == "middle")
    torch.testing.assert_close(found[key], elite.text[middle][1])


def test_offloaded_weights_are_patched_too(applied, say, subject, drawn):
    patched = applied(subject, onto=tiny.model())
    patched.patch_model(torch.device("cpu"), lowvram_model_memory=1000, load_weights=True)
    try:
        assert golden.relative_error(tiny.sample(patched, positive=say(subject)), drawn) <= 1e-5
    finally:
        patched.unpatch_model()


def test_what_is_saved_has_elites_matrices(applied, subject, elite):
    patched = applied(subject, onto=tiny.model())
    patched.patch_model(torch.device("cpu"))
    try:
        state = patched.model_state_dict()
        name = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v.weight"
        torch.testing.assert_close(state[name], elite.text[0][1])
    finally:
        patched.unpatch_model()


def test_two_subjects_act_each_by_its_own_word(applied, say, two):
    text, names = "a S beside a T", "S, T"
    both = tiny.sample(applied(two), positive=say(two, text, names))
    turned = tiny.sample(applied(two[::-1]), positive=say(two[::-1], text, "T S"))
    assert golden.relative_error(turned, both) <= 1e-5
    swapped = tiny.sample(applied(two), positive=say(two, text, "T, S"))
    assert golden.relative_error(swapped, both) > 1e-4
    first = tiny.sample(applied((two[0], two[1].scaled(0))), positive=say(two, text, names))
    apart = tiny.sample(applied(two[1:], onto=applied(two[:1])), positive=say(two, text, names))
    assert golden.relative_error(first, both) > 1e-4
    assert golden.relative_error(apart, both) <= 1e-5


def test_every_occurrence_of_the_word_counts_across_chunks(applied, say, subject):
    riders = comfy_host.part("ssr_core.hosts.comfyui.riders")
    positive = say(subject, "a S, " + "very " * 80 + "big (S:1.2)")
    ((places,),) = [rider.content.places.values() for rider in [riders.rider_of(positive[0][1], "elite")]]
    assert len(places) == 2
    assert places[0] == 2
    assert places[1] > 77
    assert positive[0][0].shape[1] == 154
    assert bool(tiny.sample(applied(subject), positive=positive).isfinite().all())


@pytest.mark.parametrize("lengths", [(1, 2), (2, 1)], ids=["longer negative", "longer positive"])
def test_texts_of_other_lengths_may_share_a_batch(applied, say, subject, lengths, monkeypatch):
    import comfy.conds

    positive = say(subject, "a S" + " and snow" * (60 * (lengths[0] - 1)))
    negative = tiny.cond(12)
    negative[0][0] = negative[0][0].repeat(1, lengths[1], 1) + torch.linspace(0, 1, 77 * lengths[1])[None, :, None]
    together = tiny.sample(applied(subject), positive=positive, negative=negative)
    monkeypatch.setattr(comfy.conds.CONDCrossAttn, "can_concat", lambda self, other: False)
    apart = tiny.sample(applied(subject), positive=positive, negative=negative)
    assert golden.relative_error(together, apart) <= 1e-4


def test_batches_of_any_size_and_shape_draw_what_single_pictures_do(applied, say, subject):
    patched = applied(subject)
    batch = tiny.sample(patched, batch=2, size=(12, 20), positive=say(subject))
    assert golden.relative_error(batch[:1], tiny.sample(patched, size=(12, 20), positive=say(subject))) <= 1e-4


def test_without_guidance_the_subject_acts(applied, say, subject):
    with_it, without = (tiny.sample(applied(subject, strength), cfg=1.0, positive=say(subject)) for strength in (0.8, 0.0))
    assert golden.relative_error(with_it, without) > 1e-4


def test_steps_layers_regions_and_frames_act_on_the_local_branch_alone(applied, say, subject, drawn):
    word_alone = tiny.sample(applied(subject, 0.0), positive=say(subject))
    for nothing in (
        {"start": 1.0, "end": 1.0},
        {"layer_strengths": "0"},
        {"frame_strengths": "0"},
    ):
        assert golden.relative_error(tiny.sample(applied(subject, **nothing), positive=say(subject)), word_alone) <= 1e-6
    half = tiny.sample(
        applied(subject, region=torch.cat([torch.ones(1, 16, 8), torch.zeros(1, 16, 8)], -1)), positive=say(subject)
    )
    assert golden.relative_error(half, drawn) > 1e-4
    assert golden.relative_error(half, word_alone) > 1e-4


@pytest.mark.parametrize("kind", ["combine", "area", "timesteps"])
def test_a_prompt_without_the_subject_beside_it(applied, say, subject, kind, drawn):
    """Conditioning Combine, areas and timestep ranges are the host's own; chunks that say no subject get none."""
    positive, plain = say(subject), tiny.cond(21)
    if kind == "area":
        positive[0][1].update(area=(16, 8, 0, 0), set_area_to_bounds=False, strength=1.0)
    if kind == "timesteps":
        positive[0][1].update(start_percent=0.0, end_percent=0.5)
        plain[0][1].update(start_percent=0.5, end_percent=1.0)
    found = tiny.sample(applied(subject), positive=[*positive, *plain], steps=3)
    word_alone = tiny.sample(applied(subject, 0.0), positive=[*positive, *plain], steps=3)
    assert bool(found.isfinite().all())
    assert golden.relative_error(found, word_alone) > 1e-5


def test_beside_ssr_and_another_packs_attention_in_any_order(applied, say, subject, model, encoder):
    attention_of = comfy_host.part("ssr_core.hosts.comfyui.layer").attention_of
    dog = (tiny.subject(encoder.fingerprint),)

    def replacement(query, key, value, options):
        return attention_of(options)(query, key, value, options["n_heads"]) + 0.1

    def busy(start):
        clone = start.clone()
        for block in ("input", 4), ("middle", 0):
            clone.set_model_attn2_replace(replacement, *block)
        return clone

    def by_ssr(start):
        return tiny.apply(start, encoder, dog, 0.6)

    def by_elite(start):
        return applied(subject, onto=start)

    orders = [(busy, by_ssr, by_elite), (by_elite, by_ssr, busy), (by_ssr, by_elite, busy)]
    found = []
    for order in orders:
        patched = model
        for step in order:
            patched = step(patched)
        found.append(tiny.sample(patched, positive=say(subject)))
    assert all(golden.relative_error(one, found[0]) <= 1e-5 for one in found[1:])
    assert golden.relative_error(found[0], tiny.sample(by_elite(busy(model)), positive=say(subject))) > 1e-4


def test_one_elite_for_a_model(applied, subject, other):
    stranger = (tiny_elite.subject(other.fingerprint),)
    with pytest.raises(ValueError, match="read by another ELITE already"):
        applied(stranger, onto=applied(subject), own=other)
    with pytest.raises(ValueError, match="made by another ELITE"):
        applied(stranger)


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_prompt_of_another_elite_is_refused(applied, say, subject, other, side):
    stranger = say((tiny_elite.subject(other.fingerprint),))
    with pytest.raises(ValueError, match="says a subject of another ELITE"):
        tiny.sample(applied(subject), **{"positive": say(subject), side: stranger})


def test_a_positive_without_the_subject_is_refused(applied, say, subject, two):
    with pytest.raises(ValueError, match="No positive prompt comes from Prompt with Subject"):
        tiny.sample(applied(subject), negative=say(subject))
    with pytest.raises(ValueError, match="so subject 2 of Apply Subject"):
        tiny.sample(applied(two), positive=say(two[:1]))
    tiny.sample(applied(two, 0.0), positive=say(two[:1]))  # the words alone: nothing to place


@pytest.mark.parametrize("how", ["ConditioningConcat", "ConditioningAverage", "ConditioningZeroOut"])
def test_nodes_that_change_the_prompt_are_refused_by_name(applied, say, subject, how):
    import nodes as host_nodes

    node, said, plain = getattr(host_nodes, how)(), say(subject), tiny.cond(21)
    changed = {
        "ConditioningConcat": lambda: node.concat(said, plain),
        "ConditioningAverage": lambda: node.addWeighted(said, plain, 0.5),
        "ConditioningZeroOut": lambda: node.zero_out(said),
    }[how]()[0]
    with pytest.raises(ValueError, match="does not reach the places of its subjects"):
        tiny.sample(applied(subject), positive=changed)


@pytest.mark.parametrize(
    ("text", "placeholder", "told"),
    [
        ("a photo of a dog", "S", 'does not say "S"'),
        ("a photo of a S", "doghouse xyz", "There are 2 placeholders for 1 subjects"),
        ("a photo of a sxyzzy", "sxyzzy", "tokens: "),
        ("a photo of a S", "", "There are 0 placeholders"),
    ],
)
def test_prompts_that_leave_the_subject_out(say, subject, text, placeholder, told):
    with pytest.raises(ValueError, match=told):
        say(subject, text, placeholder)


def test_two_subjects_need_two_placeholders(say, two):
    with pytest.raises(ValueError, match="are the same token"):
        say(two, "a S and a s", "S s")


def test_keys_and_values_are_made_once(applied, say, subject, elite, monkeypatch):
    calls = []
    project = type(elite.module.local_mapper).project
    monkeypatch.setattr(
        type(elite.module.local_mapper), "project", lambda self, tokens: calls.append(1) or project(self, tokens)
    )
    patched = applied(subject)
    seen, run = [], comfy_host.part("ssr_core.hosts.comfyui.run").Run
    kept = run.kept

    def spy(self, key, make):
        return kept(self, key, lambda: (seen.append(key[0]), make())[1])

    monkeypatch.setattr(run, "kept", spy)
    tiny.sample(patched, positive=say(subject), steps=3)
    layers = len(elite.config.layout.layers)
    assert calls == [1]
    assert seen.count("kv") == layers
    assert seen.count("words at") == 1


def test_the_footprint_is_where_the_word_is_attended_to(applied, say, subject, nodes):
    patched, recorder = nodes["SSR_RecordFootprint"].execute(applied(subject)).args
    tiny.sample(patched, positive=say(subject))
    found = recorder.footprint.maps()
    assert found.shape[:2] == (1, 1)
    assert bool(found.isfinite().all())
    assert found.max() > 0
    assert list(recorder.footprint.queries) == ["subject 1"]


@pytest.mark.parametrize("strength", [0.8, 0.0])
def test_inspect_says_what_reads_the_texts(applied, subject, elite, strength):
    told = comfy_host.part("ssr_core.hosts.comfyui.inspection").describe(applied(subject, strength))
    assert f"texts read by ELITE {elite.fingerprint[:12]}" in told
    assert ("256 tokens" in told) is bool(strength)


def test_a_prompt_without_apply_is_told(say, subject, model, caplog):
    tiny.sample(model, positive=say(subject))
    assert "no Apply Subject (ELITE)" in caplog.text


def test_encoding_shows_what_is_marked_and_files_hold_it(nodes, elite, clip_vision, monkeypatch, tmp_path):
    folders = comfy_host.part("ssr_core.hosts.comfyui.folders")
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths,
        folders.ELITE_SUBJECTS,
        ([str(tmp_path / folders.ELITE_SUBJECTS)], {".safetensors"}),
    )
    mask = torch.zeros(1, 48, 64)
    mask[:, 10:40, 8:30] = 1.0
    picture = golden.picture(64, 48, 0)
    with torch.inference_mode():
        made = nodes["SSR_EncodeSubjectELITE"].execute(elite, clip_vision, picture, mask)
        again = nodes["SSR_EncodeSubjectELITE"].execute(elite, clip_vision, picture, points="20, 20", previous=made.args[0])
    assert len(again.args[0]) == 2
    (entry,) = made.ui["ssr_subject"]
    assert entry["grid"] == 16
    assert entry["marked"]
    saved = nodes["SSR_SaveSubjectELITE"].execute(again.args[0], "mine")
    assert saved.ui["text"] == ["Saved ssr_elite_subjects/mine_00001_.safetensors"]
    folder_paths.filename_list_cache.clear()
    loaded = nodes["SSR_LoadSubjectELITE"].execute("mine_00001_.safetensors")
    assert [one.identity for one in loaded.args[0]] == [one.identity for one in again.args[0]]
    assert "crop to mask" in loaded.ui["text"][0]


def test_the_published_pair_finds_itself(nodes, monkeypatch, tmp_path):
    import folder_paths

    from ssr_core.methods.elite import formats

    made = tiny_elite.small()
    own = formats.of_state(made.config, {"global": made.global_mapper.state_dict(), "local": made.local_mapper.state_dict()})
    formats.write_stage(own, "global", tmp_path / "global_mapper.pt")
    formats.write_stage(own, "local", tmp_path / "local_mapper.pt")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ssr_elite", ([str(tmp_path)], {".pt"}))
    folder_paths.filename_list_cache.clear()
    with torch.inference_mode():
        (loaded,) = nodes["SSR_LoadELITE"].execute("global_mapper.pt").args
    assert loaded.module.local_mapper is not None
    with pytest.raises(FileNotFoundError, match="--only elite"):
        nodes["SSR_LoadELITE"].execute("missing.pt")


@pytest.mark.parametrize("name", ["ssr_elite_picture_and_mask", "ssr_elite_two_subjects"])
def test_a_template_names_inputs_and_values_that_its_nodes_have(nodes, name):
    workflow = json.loads(path_of(name).read_text(encoding="utf-8"))
    links = {link[0] for link in workflow["links"]}
    places = {node["id"]: node for node in workflow["nodes"]}
    ours = [node for node in workflow["nodes"] if node["type"] in nodes]
    assert len({node["type"] for node in ours}) == 5
    for node in ours:
        slots = nodes[node["type"]].GET_SCHEMA().inputs
        assert [slot["name"] for slot in node["inputs"]] == [slot.id for slot in slots]
        widgets = [slot for slot in slots if "widget" in next(one for one in node["inputs"] if one["name"] == slot.id)]
        for slot, value in zip(widgets, node["widgets_values"], strict=True):
            if slot.id not in ("elite_file", "local_file"):
                assert value in (getattr(slot, "options", None) or [value])
        for slot, described in zip(slots, node["inputs"], strict=True):
            assert slot.optional or "widget" in described or described["link"] in links
    for _, source, _, target, _, _ in workflow["links"]:
        assert places[source]["pos"][0] < places[target]["pos"][0] + 1, "links run from left to right"
