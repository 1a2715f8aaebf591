"""What a step with a learned subject costs, counted at SD1.5's shape without memory behind the weights; and what torch.compile sees."""

import pytest
import torch
from support import comfy_host, learned, tiny
from support.golden import relative_error
from torch.utils.flop_counter import FlopCounterMode

PAIR_GFLOP = 1606.54688256
"""One UNet call of SD1.5 at 64 x 64 latents, cond + uncond."""
MOST = 1.14
"""Times a pair; askerlee/AdaFace-dev, which encodes the empty prompt for every layer too, takes 1.265."""


@pytest.fixture(scope="module")
def sd15():
    """SD1.5's UNet at full size, without memory behind its weights."""
    comfy_host.pack()
    import comfy.model_base
    import comfy.supported_models

    described = comfy.supported_models.SD15({**tiny.UNET_CONFIG, "model_channels": 320})
    described.set_inference_dtype(torch.float32, None)
    return comfy.model_base.BaseModel(described, device="meta")


class Same:
    def difference(self, other):
        return None


class MetaText:
    """The host's CLIP-L at full size, as clip_text.HostText runs it."""

    identity = Same()

    def __init__(self):
        import comfy.sd1_clip

        self.model = comfy.sd1_clip.SD1ClipModel(device="meta", dtype=torch.float32).clip_l

    def encode(self, embeds):
        places = torch.zeros(embeds.shape[:2], dtype=torch.long, device="meta")
        return self.model.transformer(places, None, embeds=embeds, intermediate_output=None, dtype=torch.float32)[0]


def gflop(base, alpha):
    """Of one UNet call of a pair whose positive has a placeholder."""
    context, host = comfy_host.part("ssr_core.hosts.comfyui.context"), learned.host()
    riders, prompts = comfy_host.part("ssr_core.hosts.comfyui.riders"), comfy_host.part("ssr_core.methods.lasr.contexts")
    layout, made = comfy_host.part("ssr_core.layout").SD15, comfy_host.part("ssr_core.schedule").Manner
    shapes = comfy_host.part("ssr_core.methods.lasr.embedder").EmbedderShapes(layout, 768, 1, 3)
    core = comfy_host.part("ssr_core.methods.lasr.subject")
    embedder = comfy_host.part("ssr_core.methods.lasr.embedder").SubjectEmbedder(shapes)
    subject = core.LasrSubject(shapes, core.weights_of(embedder), "z", 345)
    ids = torch.full((1, 77), 49407)
    ids[0, 5] = 345
    content = host.SubjectPrompt(
        (subject,), None, prompts.prompts_of(ids, torch.zeros(1, 77, 768), [345]), torch.zeros(16, 77, 768)
    )
    _, options = riders.ride([torch.zeros(1, 77, 768), {}], "lasr", "", "", "a z", content)
    part = host.LasrContexts((subject,), MetaText(), made(alpha))
    number = options["model_conds"]["ssr_encoder_lasr"].cond
    text, steps = torch.empty(2, 77, 768, device="meta"), torch.ones(2, device="meta")

    class Executor:
        class_obj = base

        def __call__(self, latent, sigmas, c_concat, c_crossattn, control, options):
            return base.diffusion_model(latent, steps, context=text, transformer_options=options)

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        context.bind((part,))(
            Executor(), torch.empty(2, 4, 64, 64, device="meta"), steps, None, None, None, {"cond_or_uncond": [1, 0]},
            ssr_encoder_lasr=torch.cat([torch.zeros(1, 1, dtype=torch.int64), number]),
        )  # fmt: skip
    return counter.get_total_flops() / 1e9


def test_a_step_costs_one_text_encoding_a_layer_and_nothing_for_the_empty_prompt(sd15, monkeypatch):
    """Without the embedder's own 2 MFLOP, as its autocast knows no meta device."""
    core = comfy_host.part("ssr_core.methods.lasr.contexts")
    monkeypatch.setattr(core, "adaptive_vectors", lambda subjects, layer, pooled, time: [torch.empty(1, 768, device="meta")])
    assert gflop(sd15, 0.0) == pytest.approx(PAIR_GFLOP, abs=1e-6)
    adaptive = gflop(sd15, 0.5)
    assert 1.12 * PAIR_GFLOP < adaptive <= MOST * PAIR_GFLOP


def test_nothing_in_a_layer_waits_for_the_device_after_the_first_step(model, clip, monkeypatch):
    """No number is read from the device, and static contexts, prompts and embedders are placed once a run."""
    from torch.utils._python_dispatch import TorchDispatchMode

    calls = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append(str(func).removeprefix("aten.").split(".")[0])
            return func(*args, **(kwargs or {}))

    part, steps = learned.host().LasrContexts, []
    original = part.make

    def make(self, layer, entering):
        if layer.number == 0:
            steps.append(len(calls))
        with Recorder():
            return original(self, layer, entering)

    monkeypatch.setattr(part, "make", make)
    cat = (learned.subject(1),)
    positive = learned.prompt(clip, cat)
    tiny.sample(learned.apply(model, clip, cat), steps=3, positive=positive, negative=learned.plain(clip))
    assert len(steps) == 3
    assert not set(calls[steps[1] :]) & {"_local_scalar_dense", "item", "nonzero", "lift_fresh"}


def test_compiled_the_unet_stays_one_graph_for_all_steps_and_subjects(clip):
    import torch._dynamo
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    model, negative = tiny.model(), learned.plain(clip)
    for number in (1, 2):
        subjects = (learned.subject(number),)
        positive, patched = learned.prompt(clip, subjects), learned.apply(model, clip, subjects)
        fast = patched.clone()
        set_torch_compile_wrapper(fast, backend="eager")
        expected = tiny.sample(patched, steps=3, positive=positive, negative=negative)
        assert relative_error(tiny.sample(fast, steps=3, positive=positive, negative=negative), expected) <= 1e-5
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    torch._dynamo.reset()
