"""Which chunk of a batch gets the subject's tokens and which the null tokens, whatever the graph does to the batch."""

import pytest
import torch
from support import comfy_host, tiny
from support.golden import relative_error

NULL, SUBJECT = 0, 1


@pytest.fixture
def rows(monkeypatch):
    """Rows that the chunks of every UNet call attended to, in the order of the calls."""
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    seen, original = [], sampling.Call.add

    def add(self, layer):
        if layer.site.block == ("middle", 0, 0):
            seen.append(self.sides(layer.labels))
        return original(self, layer)

    monkeypatch.setattr(sampling.Call, "add", add)
    return seen


@pytest.fixture
def patched(model, encoder, subject):
    return tiny.apply(model, encoder, subject, 0.65)


def test_ksampler_runs_the_negative_first(patched, rows):
    tiny.sample(patched, steps=2)
    assert rows == [[NULL, SUBJECT]] * 2


def test_cfg_one_runs_the_positive_alone(patched, rows):
    tiny.sample(patched, steps=1, cfg=1.0)
    assert rows == [[SUBJECT]]


def test_several_positives(patched, rows):
    half = torch.zeros(1, 128, 128)
    half[..., :64] = 1.0
    positive = tiny.cond(11, mask=half, mask_strength=1.0) + tiny.cond(12, mask=1 - half, mask_strength=1.0)
    tiny.sample(patched, steps=1, positive=positive)
    (chunks,) = rows
    assert sorted(chunks) == [NULL, SUBJECT, SUBJECT]


def test_split_batches_give_the_same_picture(patched, rows, monkeypatch):
    together = tiny.sample(patched, steps=2)
    rows.clear()
    monkeypatch.setattr(type(patched.model), "memory_required", lambda self, *args, **kwargs: 1e18)
    split = tiny.sample(patched, steps=2)
    assert sorted(rows) == [[NULL], [NULL], [SUBJECT], [SUBJECT]]
    assert relative_error(split, together) <= 1e-5


def test_self_attention_guidance_gives_its_negative_pass_the_null_tokens(patched, rows):
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    model = SelfAttentionGuidance().execute(patched, 0.5, 2.0).args[0]
    tiny.sample(model, steps=1)
    # The host labels SAG's extra pass 0 although it runs on the negative.
    assert rows == [[NULL, SUBJECT], [NULL]]


def test_perturbed_attention_guidance_gives_its_pass_the_subject(patched, rows):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    model = PerturbedAttentionGuidance().execute(patched, 3.0).args[0]
    tiny.sample(model, steps=1)
    assert rows == [[NULL, SUBJECT], [SUBJECT]]


def test_dual_cfg_knows_its_negative(patched, rows):
    """DualCFG labels its negative 0 and its positives 1 and 2."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    guider = Guider_DualCFG(patched)
    guider.set_conds(tiny.cond(11), tiny.cond(13), tiny.cond(12))
    guider.set_cfg(5.0, 3.0)
    sigmas = torch.tensor([5.0, 0.0])
    with torch.inference_mode():
        guider.sample(
            torch.randn(1, 4, 16, 16), torch.zeros(1, 4, 16, 16), comfy.samplers.sampler_object("euler"), sigmas, seed=0,
            disable_pbar=True,
        )  # fmt: skip
    assert rows == [[SUBJECT, SUBJECT, NULL]]


def test_perp_neg_subtracts_its_empty_prompt(patched, rows):
    import comfy.samplers
    from comfy_extras.nodes_perpneg import Guider_PerpNeg

    guider = Guider_PerpNeg(patched)
    guider.set_conds(tiny.cond(11), tiny.cond(12), tiny.cond(13))  # positive, negative, empty
    guider.set_cfg(5.0, 1.0)
    with torch.inference_mode():
        guider.sample(
            torch.randn(1, 4, 16, 16), torch.zeros(1, 4, 16, 16), comfy.samplers.sampler_object("euler"),
            torch.tensor([5.0, 0.0]), seed=0, disable_pbar=True,
        )  # fmt: skip
    assert rows == [[NULL, NULL, SUBJECT]]


def test_a_list_that_a_node_made_for_itself_is_on_the_null_side(patched, rows):
    """Core's Perp-Neg node draws an empty prompt of its own, which its guider does not know, and the host labels it 0."""
    from comfy_extras.nodes_perpneg import PerpNeg

    tiny.sample(PerpNeg.execute(patched, tiny.cond(13), 1.0).args[0], steps=1)
    assert rows == [[NULL, SUBJECT], [NULL]]


def test_perp_neg_as_a_node_and_as_a_guider_give_the_same_picture(patched):
    import comfy.samplers
    from comfy_extras.nodes_perpneg import Guider_PerpNeg, PerpNeg

    guider = Guider_PerpNeg(patched)
    guider.set_conds(tiny.cond(11), tiny.cond(12), tiny.cond(13))
    guider.set_cfg(5.0, 1.0)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    sampling = patched.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 2)
    with torch.inference_mode():
        expected = guider.sample(
            noise, torch.zeros(1, 4, 16, 16), comfy.samplers.sampler_object("euler"), sigmas, seed=3, disable_pbar=True
        )
    drawn = tiny.sample(PerpNeg.execute(patched, tiny.cond(13), 1.0).args[0], steps=2, cfg=5.0)
    assert relative_error(drawn, expected) <= 1e-3


def test_area_conditions_crop_the_region(model, encoder, subject, plain):
    """A subject allowed on the left half only must not touch an area pass on the right half."""
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1.0
    area = {"area": (16, 8, 0, 8), "strength": 1.0}  # the right half, in latent cells
    positive = tiny.cond(11, **area)
    without = tiny.sample(model, steps=1, positive=positive, cfg=1.0)
    patched = tiny.apply(model, encoder, subject, 1.0, region=left)
    assert torch.equal(tiny.sample(patched, steps=1, positive=positive, cfg=1.0), without)
    everywhere = tiny.apply(model, encoder, subject, 1.0)
    assert not torch.allclose(tiny.sample(everywhere, steps=1, positive=positive, cfg=1.0), without)


LEFT = torch.zeros(1, 64, 64)
LEFT[..., :32] = 1.0


@pytest.mark.parametrize(
    "halves",
    [
        [{"area": (16, 8, 0, 0)}, {"area": (16, 8, 0, 8)}],
        [{"area": (32, 8, 0, 0)}, {"area": (32, 8, 0, 8)}],
        [{"area": ("percentage", 1.0, 0.5, 0.0, 0.0)}, {"area": ("percentage", 1.0, 0.5, 0.0, 0.5)}],
        [{"mask": mask, "set_area_to_bounds": True, "mask_strength": 1.0} for mask in (LEFT, 1 - LEFT)],
    ],
    ids=["within the picture", "overhanging it, as the host allows", "in shares of the picture", "bounds of masks"],
)
def test_region_over_both_halves_of_two_area_conditions_follows_each_crop(model, encoder, subject, halves):
    left = LEFT
    positive = [entry for seed, half in zip((11, 13), halves, strict=True) for entry in tiny.cond(seed, strength=1.0, **half)]
    without = tiny.sample(model, steps=1, positive=positive, cfg=1.0)
    patched = tiny.apply(model, encoder, subject, 1.0, region=left)
    difference = (tiny.sample(patched, steps=1, positive=positive, cfg=1.0) - without).abs().amax(dim=(0, 1, 2))
    assert difference[:8].min() > 1e-3
    assert difference[8:].max() == 0.0


@pytest.fixture(params=[True, False], ids=["with the frame before", "without"])
def windows(request):
    """Gives a MODEL core context windows of two frames of four, as Context Windows (Manual) does; by default each window gets the
    frame before it as well."""
    import comfyui_version
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    older = comfyui_version.__version__ == "0.3.64"
    newer_inputs = {} if older else {"freenoise": False, "causal_window_fix": request.param}

    def give(model):
        return ContextWindowsManualNode.execute(model, 2, 1, "standard_static", 1, False, "pyramid", 0, **newer_inputs).args[0]

    if older:
        with pytest.raises(RuntimeError, match="must match the size of tensor"):
            tiny.sample(give(tiny.model()), steps=1, batch=FRAMES)
        pytest.skip("ComfyUI 0.3.64 fails by itself on context windows over an image batch")
    return give


FRAMES = 4


def test_context_windows_along_the_width_leave_regions_out_and_say_so(model, encoder, subject, windows, caplog):
    left = torch.zeros(1, 16, 16)
    left[..., :8] = 1.0

    def sample(**region):
        patched = windows(tiny.apply(model, encoder, subject, 1.0, **region))
        handler = patched.model_options["context_handler"]
        handler.dim, handler.context_length = 3, 8
        return tiny.sample(patched, steps=1)

    assert torch.equal(sample(region=left), sample())
    assert caplog.text.count("context windows along the picture's height or width") == 1


def test_a_tile_that_could_lie_in_several_places_lies_in_none():
    window_of = comfy_host.part("ssr_core.hosts.comfyui.conditions").window_of
    whole = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    assert window_of(whole[..., 1:4, 2:7], whole) == (3, 5, 1, 2)
    assert window_of(torch.zeros(1, 4, 3, 5), torch.zeros(1, 4, 6, 8)) is None
    assert window_of(whole[..., 1:4, 2:7] + 1, whole) is None


def changed(one, other):
    return [frame for frame in range(FRAMES) if not torch.equal(one[frame], other[frame])]


def test_context_windows_find_the_positive_by_uuid(encoder, subject, rows, windows):
    """Core context windows remake the cond lists of every window, so identity is lost."""
    tiny.sample(windows(tiny.apply(tiny.model(), encoder, subject, 0.65)), steps=1, batch=FRAMES)
    assert len(rows) == 3
    assert all(chunks == [NULL, SUBJECT] for chunks in rows)


def test_every_frame_keeps_its_strength_in_context_windows(model, encoder, subject, windows):
    without = tiny.sample(windows(model), steps=1, batch=FRAMES)
    patched = windows(tiny.apply(model, encoder, subject, [0.0, 1.0, 0.0, 1.0]))
    assert changed(tiny.sample(patched, steps=1, batch=FRAMES), without) == [1, 3]


def test_every_frame_keeps_its_subject_in_context_windows(model, encoder, subject, windows):
    """Without a motion module frames do not see each other, so windows draw what one pass draws."""
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.ssr"), comfy_host.part("ssr_core.schedule").Manner(1.0)
    three = (*subject, *(tiny.subject(encoder.fingerprint, seed, query="hat") for seed in (9, 10)))
    patched = host.apply_subjects(model, encoder, three, manner, one_each=True)
    whole = tiny.sample(patched, steps=2, batch=FRAMES)
    torch.testing.assert_close(tiny.sample(windows(patched), steps=2, batch=FRAMES), whole, rtol=1e-3, atol=1e-3)


def test_every_frame_keeps_its_region_in_context_windows(model, encoder, subject, windows):
    region = torch.zeros(FRAMES, 16, 16)
    region[2] = 1.0
    without = tiny.sample(windows(model), steps=1, batch=FRAMES)
    patched = windows(tiny.apply(model, encoder, subject, 1.0, region=region))
    assert changed(tiny.sample(patched, steps=1, batch=FRAMES), without) == [2]


def test_a_footprint_knows_the_frames_of_context_windows(model, encoder, subject, windows):
    recording = comfy_host.part("ssr_core.hosts.comfyui.recording").recording
    patched, recorder = recording(windows(tiny.apply(model, encoder, subject, [0.0, 0.0, 1.0, 0.0])))
    tiny.sample(patched, steps=1, batch=FRAMES)
    (frames,) = recorder.footprint.maps()  # [frames, H, W]
    assert [bool(frame.max() > 0) for frame in frames] == [False, False, True, False]


@pytest.mark.parametrize("own_list", [False, True], ids=["in the host's list", "in a list of its own"])
def test_another_pack_may_enlarge_the_batch_in_the_middle_of_a_pass(model, encoder, subject, rows, own_list):
    """Packs with regional prompts append to cond_or_uncond while the UNet runs, or tell the new chunks in cond_or_uncond_couple."""

    def double(query, context, value, extra_options):
        labels = extra_options["cond_or_uncond"]
        if extra_options["block"] == ("middle", 0):
            if own_list:
                extra_options["cond_or_uncond_couple"] = labels * 2
            else:
                labels.extend(labels)
            query, context = torch.cat([query, query]), torch.cat([context, context])
        return query, context, context

    def halve(out, extra_options):
        labels = extra_options["cond_or_uncond"]
        if extra_options["block"] == ("middle", 0):
            if not own_list:
                del labels[len(labels) // 2 :]
            out = out[: out.shape[0] // 2]
        return out

    patched = tiny.apply(model, encoder, subject, 0.65)
    expected = tiny.sample(patched, steps=1)
    clone = patched.clone()
    clone.set_model_attn2_patch(double)
    clone.set_model_attn2_output_patch(halve)
    rows.clear()
    assert relative_error(tiny.sample(clone, steps=1), expected) <= 1e-5
    assert rows == [[NULL, SUBJECT, NULL, SUBJECT]]


def test_a_batch_that_no_list_accounts_for_is_left_alone_and_reported(model, encoder, subject, caplog):
    def double(query, context, value, extra_options):
        return torch.cat([query, query]), torch.cat([context, context]), torch.cat([value, value])

    def halve(out, extra_options):
        return out[: out.shape[0] // 2]

    clones = [model.clone(), tiny.apply(model, encoder, subject, 0.65).clone()]
    for clone in clones:
        clone.set_model_attn2_patch(double)
        clone.set_model_attn2_output_patch(halve)
    plain, patched = (tiny.sample(clone, steps=1) for clone in clones)
    assert torch.equal(plain, patched)
    assert [record for record in caplog.records if "made a batch of 4 out of 2 chunks" in record.getMessage()]
