"""A subject of its own for each picture of a batch."""

from dataclasses import replace

import pytest
import torch
from support import comfy_host, tiny


@pytest.fixture(scope="module")
def three(encoder):
    return tuple(tiny.subject(encoder.fingerprint, seed, query=name) for seed, name in ((2, "dog"), (3, "cat"), (4, "hat")))


@pytest.fixture
def advanced(nodes, model, encoder):
    """The node with everything at its default."""

    def execute(subjects, strength=1.0, **changes):
        given = {
            "start": 0.0, "end": 1.0, "curve": "constant", "layers": "all", "combine": "joint", "subject_scaling": "official", **changes,
        }  # fmt: skip
        return nodes["SSR_ApplySubjectAdvanced"].execute(model, encoder, subjects, strength, **given).args[0]

    return execute


def close(found, expected):
    """Within 1e-5 of the largest value: rows gathered where a subject acts are added up in another order."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("combine", ["joint", "separate", "by word"])
def test_each_picture_is_what_it_is_with_its_subject_alone(advanced, three, combine):
    together = tiny.sample(advanced(three, combine=combine, subject_per_picture=True), batch=3)
    for number, subject in enumerate(three):
        alone = tiny.sample(advanced((subject,)), batch=3)
        close(together[number], alone[number])
        assert not torch.allclose(together[number], tiny.sample(advanced(three, combine=combine), batch=3)[number], atol=1e-2)


def test_the_last_subject_holds_and_a_shorter_batch_leaves_subjects_out(advanced, three):
    longer = tiny.sample(advanced(three[:2], subject_per_picture=True), batch=4)
    last = tiny.sample(advanced((three[1],)), batch=4)
    close(longer[1:], last[1:])
    shorter = tiny.sample(advanced(three, subject_per_picture=True), batch=2)
    close(shorter, tiny.sample(advanced(three[:2], subject_per_picture=True), batch=2))


def test_a_subject_of_no_strength_leaves_its_picture_to_the_prompt(advanced, three, model):
    subjects = (three[0], replace(three[1], strength=0.0), three[2])
    drawn = tiny.sample(advanced(subjects, subject_per_picture=True), batch=3)
    without = tiny.sample(model, batch=3)
    assert torch.equal(drawn[1], without[1])
    close(drawn[2], tiny.sample(advanced((three[2],)), batch=3)[2])
    assert not torch.allclose(drawn[0], without[0], atol=1e-2)


def test_strengths_and_regions_of_frames_go_with_the_pictures(advanced, three):
    region = torch.zeros(3, 16, 16)
    region[0], region[1, :, :8], region[2, 8:] = 1.0, 1.0, 0.5
    given = {"frame_strengths": "1, 0.5, 0.8", "region": region}
    together = tiny.sample(advanced(three, subject_per_picture=True, **given), batch=4)
    for picture in range(4):
        alone = tiny.sample(advanced((three[min(picture, 2)],), **given), batch=4)
        close(together[picture], alone[picture])


@pytest.mark.parametrize("indices", [[1, 2], [3, 0]], ids=str)
def test_the_frames_of_a_context_window_have_their_own_subjects(encoder, three, indices):
    """AnimateDiff-Evolved tells which frames of the video a pass works on in ad_params."""
    model = tiny.model()
    model.model_options["transformer_options"]["ad_params"] = {"sub_idxs": indices, "full_length": 4, "context_length": 2}
    window = tiny.sample(apply(model, encoder, three, one_each=True), batch=2)
    del model.model_options["transformer_options"]["ad_params"]
    close(window, tiny.sample(apply(model, encoder, [three[min(index, 2)] for index in indices], one_each=True), batch=2))


def test_the_footprint_of_a_subject_is_in_its_picture(encoder, three, model):
    recording = comfy_host.part("ssr_core.hosts.comfyui.recording").recording
    patched, recorder = recording(apply(model, encoder, three, one_each=True))
    tiny.sample(patched, batch=4)
    acts = [[bool(picture.max() > 0) for picture in subject] for subject in recorder.footprint.maps()]
    assert acts == [[True, False, False, False], [False, True, False, False], [False, False, True, True]]


def test_inspect_says_it(encoder, three, model):
    describe = comfy_host.part("ssr_core.hosts.comfyui.inspection").describe
    assert '"dog", "cat", "hat", one for each picture' in describe(apply(model, encoder, three, one_each=True))


@pytest.mark.parametrize("value", ["yes", 2, None, [True], float("nan")], ids=repr)
def test_anything_but_on_and_off_is_refused(advanced, three, value):
    with pytest.raises(ValueError, match=r"subject_per_picture is .*; expected true or false"):
        advanced(three, subject_per_picture=value)


def apply(model, encoder, subjects, **options):
    host, manner = comfy_host.part("ssr_core.hosts.comfyui.ssr"), comfy_host.part("ssr_core.schedule").Manner
    return host.apply_subjects(model, encoder, tuple(subjects), manner(1.0), **options)
