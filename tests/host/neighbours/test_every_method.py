"""All methods beside the same neighbours, on tiny MODELs: both act, in either order, and row by row what they are one by one."""

import pytest
import torch
from support import methods, model_nodes, neighbours, tiny
from support.golden import relative_error

EXACT = 1e-4
"""Relative: batches of another size round otherwise."""


@pytest.fixture
def apart(monkeypatch):
    """Makes the host run every cond in a call of its own, as for want of memory: then nothing can be taken for another's."""

    def draw(method, patched, drawn):
        with monkeypatch.context() as patch:
            patch.setattr(type(patched.model), "memory_required", lambda self, *args, **kwargs: 1e30)
            return drawn()

    return draw


@pytest.mark.parametrize("neighbour", model_nodes.ALL, ids=lambda neighbour: neighbour.__name__)
@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_model_nodes_act_beside_it_in_either_order(beside, neighbour):
    method, model, alone = beside
    if method.is_xl and neighbour is model_nodes.token_merging:
        pytest.skip("it acts at a UNet's finest level alone, where SDXL has no attention")
    options = {}
    if neighbour is model_nodes.hypertile and method.is_xl:
        options["size"] = (32, 32)  # smaller pictures are one tile
    if neighbour is model_nodes.lcm_sampling:
        options["steps"] = 2  # the first is as ever
    before, after = (method.draw(one, **options) for one in (method.apply(neighbour(model)), neighbour(method.apply(model))))
    assert torch.isfinite(before).all()
    assert relative_error(before, after) <= EXACT
    assert relative_error(before, method.draw(method.apply(model), **options) if options else alone) > 1e-4
    assert relative_error(before, method.draw(neighbour(method.apply(model, 0.1)), **options)) > 1e-4
    assert torch.equal(method.draw(method.apply(model)), alone)


def guided(guider, sampler="euler", steps=2):
    import comfy.samplers

    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(7))
    sigmas = comfy.samplers.calculate_sigmas(guider.model_patcher.get_model_object("model_sampling"), "normal", steps)
    with torch.inference_mode():
        return guider.sample(
            noise, torch.zeros_like(noise), comfy.samplers.sampler_object(sampler), sigmas, seed=3, disable_pbar=True
        )


def dual_cfg(method, patched):
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    guider = Guider_DualCFG(patched)
    guider.set_conds(method.positive, method.other, method.negative)
    guider.set_cfg(5.0, 3.0)
    return guided(guider)


def perp_neg(method, patched):
    from comfy_extras.nodes_perpneg import Guider_PerpNeg

    guider = Guider_PerpNeg(patched)
    guider.set_conds(method.positive, method.negative, method.other)
    guider.set_cfg(5.0, 1.0)
    return guided(guider)


def perp_neg_as_a_node(method, patched):
    from comfy_extras.nodes_perpneg import PerpNeg

    return method.draw(PerpNeg.execute(patched, method.other, 1.0).args[0], steps=2)


def self_attention_guidance(method, patched):
    return method.draw(model_nodes.self_attention_guidance(patched), steps=2)


def perturbed_attention_guidance(method, patched):
    return method.draw(model_nodes.perturbed_attention_guidance(patched), steps=2)


def areas_and_masks(method, patched):
    """The subject's prompt on the left, another all over: chunks of two sizes and sides."""
    half = torch.zeros(1, 128, 128)
    half[..., :64] = 1.0
    left = [[method.positive[0][0], {**method.positive[0][1], "mask": half, "mask_strength": 1.0, "set_area_to_bounds": True}]]
    return method.draw(patched, positive=[*left, *method.other], steps=2)


GUIDERS = [dual_cfg, perp_neg, perp_neg_as_a_node, self_attention_guidance, perturbed_attention_guidance, areas_and_masks]


@pytest.mark.parametrize("guider", GUIDERS, ids=lambda guider: guider.__name__)
def test_in_batches_of_several_prompts_each_row_is_what_it_is_alone(beside, guider, apart):
    method, model, _ = beside
    patched, weaker = method.apply(model), method.apply(model, 0.1)
    together = guider(method, patched)
    assert torch.isfinite(together).all()
    assert relative_error(together, apart(method, patched, lambda: guider(method, patched))) <= EXACT
    assert relative_error(together, guider(method, weaker)) > 1e-4


@pytest.mark.parametrize("beside", ["mip", "elite"], indirect=True)
def test_another_pack_may_enlarge_the_batch_in_the_middle_of_a_pass(beside, caplog):
    """As packs with regional prompts do, which exchange the text there: an object acts as ever, a word has no place in another's text, and
    the log says so. LASR's is in test_lasr.py."""

    def double(query, context, value, options):
        labels = options["cond_or_uncond"]
        if options["block"] == ("middle", 0):
            labels.extend(labels)
            query, context = torch.cat([query, query]), torch.cat([context, context])
        return query, context, context

    def halve(out, options):
        labels = options["cond_or_uncond"]
        if options["block"] == ("middle", 0):
            del labels[len(labels) // 2 :]
            out = out[: out.shape[0] // 2]
        return out

    method, model, alone = beside
    patched = method.apply(model).clone()
    patched.set_model_attn2_patch(double)
    patched.set_model_attn2_output_patch(halve)
    drawn = method.draw(patched)
    told = "the places of subjects' words are not known" in caplog.text
    if method.name == "mip":
        assert relative_error(drawn, alone) <= EXACT
        assert not told
    else:
        assert torch.isfinite(drawn).all()
        assert relative_error(drawn, method.draw(method.apply(model, 0.1))) > 1e-4  # elsewhere it acts
        assert told


@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_perp_neg_as_a_node_and_as_a_guider_are_the_same_picture(beside):
    method, model, _ = beside
    patched = method.apply(model)
    assert relative_error(perp_neg_as_a_node(method, patched), perp_neg(method, patched)) <= EXACT


@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_a_second_larger_pass_and_an_inpainted_one(beside):
    """Img2img at another size and shape, from the method's own first pass; then with a noise mask."""
    method, model, alone = beside
    patched = method.apply(model)
    large = torch.nn.functional.interpolate(alone, size=(24, 40), mode="bicubic")
    options = {"size": (24, 40), "latent": large, "denoise": 0.5, "steps": 2}
    second = method.draw(patched, **options)
    assert torch.isfinite(second).all()
    assert relative_error(second, method.draw(method.apply(model, 0.1), **options)) > 1e-4
    mask = torch.zeros(1, 1, 24, 40)
    mask[..., 20:] = 1.0
    inpainted = method.draw(patched, **options, noise_mask=mask)
    torch.testing.assert_close(inpainted[..., :20], large[..., :20], rtol=1e-3, atol=1e-3)
    assert relative_error(inpainted[..., 20:], large[..., 20:]) > 1e-3
    assert torch.equal(method.draw(patched), alone)


@pytest.mark.parametrize(("weights", "cast"), [(torch.float8_e4m3fn, torch.float32), (torch.bfloat16, None)], ids=str)
@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_weights_of_other_types(beside, weights, cast):
    """Near what full precision draws: eight bits keep less of ELITE's matrices than of a UNet that was made for them, but the picture."""
    method, _, alone = beside
    patched = method.apply(method.make(dtype=weights, cast=cast))
    drawn = method.draw(patched)
    assert torch.isfinite(drawn).all()
    assert relative_error(drawn, alone) < 0.3
    assert relative_error(drawn, method.draw(method.apply(method.make(dtype=weights, cast=cast), 0.1))) > 1e-3


@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_low_vram_draws_the_same_picture(beside):
    import comfy.model_management as management

    method, _, alone = beside
    patched = method.apply(method.make())
    management.unload_all_models()
    patched.load(torch.device("cpu"), lowvram_model_memory=64)
    assert relative_error(method.draw(patched), alone) <= EXACT
    management.unload_all_models()


@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_a_lora_on_one_prompt_alone(beside, apart):
    """The host exchanges weights between the conds of a step: each must meet the method with its own."""
    import comfy.hooks
    import comfy.lora

    method, model, alone = beside
    hooks = comfy.hooks.create_hook_lora(_lora_state(), 1.0, 0.0)
    positive = comfy.hooks.set_hooks_for_conditioning(method.positive, hooks, append_hooks=True)
    patched = method.apply(model)
    hooked = method.draw(patched, positive=positive, steps=2)
    assert relative_error(hooked, method.draw(patched, steps=2)) > 1e-4
    for one in (*positive, *method.negative):
        one[1].pop("hooks", None)
    assert torch.equal(method.draw(patched), alone)


def _lora_state():
    generator = torch.Generator().manual_seed(1)
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
    return {
        f"{name}.lora_up.weight": torch.randn(128, 4, generator=generator) / 2,
        f"{name}.lora_down.weight": torch.randn(4, 128, generator=generator) / 2,
        f"{name}.alpha": torch.tensor(4.0),
    }


@pytest.mark.parametrize("beside", [name for name in methods.OTHERS if name != "lasr"], indirect=True)
def test_compiled_the_unet_stays_one_graph_for_all_steps(beside):
    """LASR's is in test_lasr_counts.py."""
    import torch._dynamo
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from torch._dynamo.utils import counters

    method, _, _ = beside
    torch._dynamo.reset()
    counters.clear()
    patched = method.apply(method.make())
    fast = patched.clone()
    set_torch_compile_wrapper(fast, backend="eager")
    assert relative_error(method.draw(fast, steps=3), method.draw(patched, steps=3)) <= 1e-5
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    torch._dynamo.reset()


@pytest.mark.parametrize("beside", [name for name in methods.OTHERS if name != "lasr"], indirect=True)
def test_frames_of_context_windows_are_what_they_are_without(beside):
    """The host's own windows, newer hosts alone draw them. LASR's is in test_lasr.py."""
    windows = pytest.importorskip("comfy_extras.nodes_context_windows")
    import comfyui_version

    if comfyui_version.__version__.startswith("0.3."):
        pytest.skip("this host fails by itself on context windows over a batch of pictures")
    method, model, _ = beside
    patched = method.apply(model)
    windowed = neighbours.run(
        windows.ContextWindowsManualNode, model=patched, context_length=4, context_overlap=1,
        context_schedule="standard_static", context_stride=1, closed_loop=False, fuse_method="flat", dim=0, freenoise=False,
    )[0]  # fmt: skip
    assert relative_error(method.draw(windowed, batch=6), method.draw(patched, batch=6)) <= EXACT


@pytest.mark.parametrize("beside", methods.OTHERS, indirect=True)
def test_a_controlnet_acts_and_reads_no_subject(beside, hint):
    from nodes import ControlNetApplyAdvanced

    method, model, alone = beside
    control_net = _control_net(method)
    sides = neighbours.run(
        ControlNetApplyAdvanced, positive=method.positive, negative=method.negative, control_net=control_net, image=hint,
        strength=0.8, start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    controlled = dict(zip(("positive", "negative"), sides, strict=True))
    patched = method.apply(model)
    both = method.draw(patched, **controlled)
    assert torch.isfinite(both).all()
    assert relative_error(both, alone) > 1e-3
    assert relative_error(both, method.draw(method.apply(model, 0.1), **controlled)) > 1e-4
    seen = control_net.control_model.seen
    assert seen
    for context in seen:  # [negative, positive]
        torch.testing.assert_close(context, torch.cat([method.negative[0][0], method.positive[0][0]]))


def _control_net(method):
    """CONTROL_NET for the method's tiny UNet."""
    import comfy.cldm.cldm
    import comfy.controlnet
    from support import tiny_sdxl

    unused = ("out_channels", "transformer_depth_output", "use_temporal_attention")
    shapes = {**tiny.UNET_CONFIG, "num_heads": -1, **tiny_sdxl.UNET_CONFIG} if method.is_xl else tiny.UNET_CONFIG
    network = comfy.cldm.cldm.ControlNet(
        **{key: value for key, value in shapes.items() if key not in unused}, hint_channels=3, dtype=torch.float32
    )
    tiny.fill(network, 6)
    network.seen = []
    network.register_forward_pre_hook(lambda module, args, named: module.seen.append(named["context"]), with_kwargs=True)
    return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
