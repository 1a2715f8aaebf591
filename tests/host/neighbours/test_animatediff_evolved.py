"""ComfyUI-AnimateDiff-Evolved: frames, context windows, motion."""

import pytest
import torch
from support import comfy_host, learned, methods, motion, neighbours, tiny
from support.golden import relative_error

PACK = "ComfyUI-AnimateDiff-Evolved"
pytestmark = neighbours.needs(PACK)

FRAMES = 16


@pytest.fixture(scope="module")
def ade():
    return neighbours.nodes(PACK)


@pytest.fixture
def evolved(ade):
    """A MODEL under their sampling, in windows of eight of sixteen frames unless told otherwise."""

    def evolve(model, windows=True, motion=None):
        context = neighbours.run(
            ade["ADE_StandardStaticContextOptions"], context_length=8, context_overlap=2, fuse_method="flat"
        )[0] if windows else None  # fmt: skip
        return neighbours.run(
            ade["ADE_UseEvolvedSampling"], model=model, beta_schedule="use existing", m_models=motion, context_options=context
        )[0]

    return evolve


@pytest.fixture
def kept(monkeypatch):
    """How many tensors of a kind the last sampling held, and their bytes."""
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    runs, original = [], sampling.Run.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        runs.append(self)

    monkeypatch.setattr(sampling.Run, "__init__", init)

    def measure(kind="kv"):
        stored = [entry for key, entry in runs[-1]._kept.items() if key[0] == kind]
        tensors = [tensor for entry in stored for tensor in (entry if kind == "kv" else (entry,))]
        return len(stored), sum(tensor.nbytes for tensor in tensors)

    return measure


def changed_frames(one, other):
    return [frame for frame in range(len(one)) if not torch.equal(one[frame], other[frame])]


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_every_frame_keeps_its_strength_in_context_windows(model, encoder, subject, evolved, order):
    """Without a motion module frames do not see each other, so a frame of strength 0 keeps its bits."""
    strengths = [1.0 if frame in (0, 5, 9, 15) else 0.0 for frame in range(FRAMES)]
    without = tiny.sample(evolved(model), batch=FRAMES, steps=1)
    if order == "ours first":
        patched = evolved(tiny.apply(model, encoder, subject, strengths))
    else:
        patched = tiny.apply(evolved(model), encoder, subject, strengths)
    assert changed_frames(tiny.sample(patched, batch=FRAMES, steps=1), without) == [0, 5, 9, 15]


def test_every_frame_keeps_its_region_in_context_windows(model, encoder, subject, evolved):
    region = torch.zeros(FRAMES, 16, 16)
    region[[3, 12]] = 1.0
    without = tiny.sample(evolved(model), batch=FRAMES, steps=1)
    patched = evolved(tiny.apply(model, encoder, subject, 1.0, region=region))
    assert changed_frames(tiny.sample(patched, batch=FRAMES, steps=1), without) == [3, 12]


def test_the_footprint_knows_the_frames_of_the_whole_animation(model, encoder, subject, evolved):
    recording = comfy_host.part("ssr_core.hosts.comfyui.recording").recording
    strengths = [0.0] * 10 + [1.0] * 6
    patched, recorder = recording(evolved(tiny.apply(model, encoder, subject, strengths)))
    tiny.sample(patched, batch=FRAMES, steps=1)
    (frames,) = recorder.footprint.maps()  # [frames, H, W]
    assert frames.shape == (FRAMES, 16, 16)
    assert [bool(frame.max() > 0) for frame in frames] == [strength > 0 for strength in strengths]


def test_an_animation_holds_the_keys_and_values_of_one_picture(model, encoder, subject, evolved, kept):
    patched = tiny.apply(model, encoder, subject, 0.65)
    tiny.sample(patched, steps=1)
    one = kept()
    tiny.sample(evolved(patched), batch=FRAMES, steps=2)
    assert kept() == one
    assert one[0] == 16


def test_context_windows_share_the_weights_of_a_region(model, encoder, subject, evolved, kept):
    patched = tiny.apply(model, encoder, subject, 0.65, region=torch.rand(FRAMES, 16, 16))
    tiny.sample(evolved(patched, windows=False), batch=FRAMES, steps=1)
    whole = kept("region")
    tiny.sample(evolved(patched), batch=FRAMES, steps=2)
    assert kept("region") == whole
    assert whole[0] == 4  # one for each size of the layers' grids


@pytest.fixture(scope="module")
def motion_model(ade, tmp_path_factory):
    """MOTION_MODEL_ADE from their own loader."""
    import folder_paths

    folder = tmp_path_factory.mktemp("motion")
    motion.write(folder / "generated_v3.safetensors")
    folder_paths.add_model_folder_path("animatediff_models", str(folder))
    return neighbours.run(ade["ADE_LoadAnimateDiffModel"], model_name="generated_v3.safetensors")[0]


@pytest.mark.timeout(1200)
def test_sixteen_frames_with_a_motion_module_at_real_shape(encoders, ade, evolved, motion_model, kept, tmp_path):
    """Motion and subject both act, in either order to the bit, and the plain MODEL is as before."""
    wide = tiny.model({**tiny.UNET_CONFIG, "model_channels": 320})
    layout = {"channels": list(motion.CHANNELS), "depths": [1, 1, 1, 0], "resnets": 2, "heads": 8, "mid_depth": 1}
    encoder = encoders.load_encoder([str(tiny.encoder_file(tmp_path / "wide.safetensors", layout))])
    subject = (tiny.subject(encoder.fingerprint),)
    moving = neighbours.run(ade["ADE_ApplyAnimateDiffModelSimple"], motion_model=motion_model)[0]

    def sample(patched, batch=FRAMES):
        return tiny.sample(patched, batch=batch, steps=1, size=(8, 8))

    plain = sample(wide)
    patched = tiny.apply(wide, encoder, subject, 0.65)
    sample(patched, batch=1)
    held = kept()
    only_theirs = sample(evolved(wide, windows=False, motion=moving))
    before = sample(evolved(patched, windows=False, motion=moving))
    assert kept() == held
    after = sample(tiny.apply(evolved(wide, windows=False, motion=moving), encoder, subject, 0.65))
    assert torch.equal(before, after)
    assert torch.isfinite(before).all()
    for lacking in (plain, only_theirs, sample(patched)):
        assert relative_error(before, lacking) > 1e-3
    assert torch.equal(sample(wide), plain)


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_a_learned_subject_is_drawn_in_every_frame_of_context_windows(model, clip, evolved, order):
    """Without a motion module frames do not see each other, so windows change nothing."""
    subjects = (learned.subject(1),)
    conds = {"positive": learned.prompt(clip, subjects), "negative": learned.plain(clip), "batch": 10, "steps": 1}
    ours = learned.apply(model, clip, subjects)
    both = evolved(ours) if order == "ours first" else learned.apply(evolved(model), clip, subjects)
    assert relative_error(tiny.sample(both, **conds), tiny.sample(ours, **conds)) <= 1e-4


@pytest.mark.parametrize("order", ["ours first", "theirs first"])
@pytest.mark.parametrize("beside", ["mip", "elite"], indirect=True)
def test_what_other_methods_draw_in_every_frame_of_context_windows_is_what_they_draw_without(beside, evolved, order):
    method, model, _ = beside
    ours = method.apply(model)
    both = evolved(ours) if order == "ours first" else method.apply(evolved(model))
    windowed, whole = (method.draw(patched, batch=10) for patched in (both, ours))
    assert relative_error(windowed, whole) <= 1e-4
    assert relative_error(windowed, method.draw(method.apply(model, 0.1), batch=10)) > 1e-4


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["ssr", "elite", "lasr"])
def test_a_motion_module_and_context_windows_together_at_real_shape(name, clip, ade, motion_model, tmp_path):
    """Twelve frames in windows of eight: before and after theirs the same bits, and every frame moves and shows the subject."""
    method = methods.make(name, tmp_path, clip, width=320)
    wide = method.make()
    moving = neighbours.run(ade["ADE_ApplyAnimateDiffModelSimple"], motion_model=motion_model)[0]

    def evolve(model, motion=moving):
        context = neighbours.run(
            ade["ADE_StandardStaticContextOptions"], context_length=8, context_overlap=4, fuse_method="flat"
        )[0]  # fmt: skip
        return neighbours.run(
            ade["ADE_UseEvolvedSampling"], model=model, beta_schedule="use existing", m_models=motion, context_options=context
        )[0]

    options = {"batch": 12, "size": (8, 8), "cfg": 1.0}
    before, after = (method.draw(one, **options) for one in (evolve(method.apply(wide)), method.apply(evolve(wide))))
    assert torch.isfinite(before).all()
    assert relative_error(before, after) <= 1e-5
    still, weaker = (
        method.draw(evolve(method.apply(wide), None), **options),
        method.draw(evolve(method.apply(wide, 0.1)), **options),
    )
    for frame in range(12):
        assert relative_error(before[frame], still[frame]) > 1e-3
        assert relative_error(before[frame], weaker[frame]) > 1e-4
