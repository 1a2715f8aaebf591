"""MIP-Adapter in the real host: the authors' numbers through its UNet, and what a MODEL with objects draws."""

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from support import comfy_host, tiny
from support import golden_mip as golden
from support.golden import relative_error

from ssr_core.methods.mip import formats
from ssr_core.methods.mip.adapter import fingerprint

NAMES = golden.names("unet")


@pytest.fixture(scope="module")
def host():
    return comfy_host.part("ssr_core.hosts.comfyui.mip")


@pytest.fixture(scope="module")
def schedule():
    return comfy_host.part("ssr_core.schedule")


def unet_config():
    return {**tiny.UNET_CONFIG, "num_heads": -1, "num_res_blocks": [2, 2, 2], **golden.listing()["comfy_tiny"]}


def model(name):
    """The case's tiny SDXL as a MODEL of the host."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models
    import comfy.utils

    config = unet_config()
    described = comfy.supported_models.SDXL(dict(config))
    described.unet_config.update(num_head_channels=config["num_head_channels"])  # SDXL sets its own 64
    described.set_inference_dtype(torch.float32, None)
    base = comfy.model_base.SDXL(described, device="cpu")
    base.embedder = openaimodel.Timestep(8)  # six of them beside a pooled text of 64: 112 numbers
    told = ("num_res_blocks", "channel_mult", "transformer_depth", "transformer_depth_output", "transformer_depth_middle")
    names = comfy.utils.unet_to_diffusers({key: config[key] for key in told})
    names |= {
        f"add_embedding.linear_{n}.{part}": f"label_emb.0.{2 * n - 2}.{part}" for n in (1, 2) for part in ("weight", "bias")
    }
    with torch.device("meta"):
        theirs = UNet2DConditionModel(**golden.case(name)["params"]["diffusers_config"]).state_dict()
    state = {names[key]: golden.weight(name, f"unet.{key}", value.shape) for key, value in theirs.items()}
    base.diffusion_model.load_state_dict(state, strict=True)
    base.eval()
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)


@pytest.fixture(scope="module")
def unets():
    made = {}

    def of(name):
        if name not in made:
            made[name] = model(name)
        return made[name]

    return of


@pytest.fixture
def made(tmp_path, host):
    """A case's adapter as the host loads it from our own file, and its objects."""

    def of(name):
        module = golden.adapter(name)
        state = module.state_dict()
        formats.write(
            formats.Weights(module.config, state, fingerprint(state, module.config)), tmp_path / f"{name}.safetensors"
        )
        loaded = host.load_adapter(str(tmp_path / f"{name}.safetensors"))
        core = comfy_host.part("ssr_core.methods.mip.objects")
        found = [core.MIPObject(**{**vars(one), "adapter": loaded.fingerprint}) for one in golden.objects(name)]
        return loaded, tuple(found)

    return of


class Executor:
    """Stands for the rest of the host's APPLY_MODEL chain: the UNet at given timesteps instead of sigmas."""

    def __init__(self, base, name):
        told = golden.case(name)["params"]
        self.class_obj, self.text, self.y = base, golden.given(name, "text", (2, 77, 96)), golden.outputs(name)["y"]
        self.steps = torch.full((2,), told["timestep"])

    def __call__(self, latent, sigmas, c_concat, c_crossattn, control, options):
        return self.class_obj.diffusion_model(latent, self.steps, context=self.text, y=self.y, transformer_options=options)


@pytest.mark.parametrize("name", NAMES)
def test_the_authors_unet(name, unets, made, host, schedule):
    sampling = comfy_host.part("ssr_core.hosts.comfyui.sampling")
    patcher = unets(name)
    loaded, objects = made(name)
    patched = host.apply_objects(patcher, loaded, objects, schedule.Manner(golden.case(name)["params"]["scale"]))
    latents = golden.given(name, "latent", (2, 4, 16, 16))
    executor = Executor(patcher.model, name)
    golden.check(name, "noise_pred_no_adapter", executor(latents, None, None, None, None, {}))
    bind = sampling.bind(comfy_host.part("ssr_core.hosts.comfyui.apply").applied_to(patched))
    with torch.no_grad():
        found = bind(executor, latents, torch.ones(2), None, None, None, {"cond_or_uncond": [1, 0], "sigmas": torch.ones(2)})
    golden.check(name, "noise_pred", found)


def cond(seed, rows=77, width=96):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, rows, width, generator=generator), {"pooled_output": torch.randn(1, 64, generator=generator)}]]


def draw(patched, **options):
    options = {"positive": cond(11), "negative": cond(12), **options}
    return tiny.sample(patched, **options)


@pytest.fixture
def two(unets, made):
    return unets("unet_tiny_n2"), *made("unet_tiny_n2")


def test_objects_change_the_picture_and_upstream_stays_as_it_was(two, host, schedule):
    plain_model, loaded, objects = two
    plain = draw(plain_model)
    patched = host.apply_objects(plain_model, loaded, objects, schedule.Manner(0.75))
    changed = draw(patched)
    assert relative_error(changed, plain) > 0.01
    assert torch.equal(draw(plain_model), plain)
    assert torch.equal(draw(patched), changed)
    for nothing in (
        host.apply_objects(plain_model, loaded, objects, schedule.Manner(0.0)),
        host.apply_objects(plain_model, loaded, tuple(one.scaled(0) for one in objects), schedule.Manner(1.0)),
    ):
        assert torch.equal(draw(nothing), plain)


def test_without_a_gate_two_copies_of_an_object_are_one(two, host, schedule):
    plain_model, loaded, objects = two
    one = draw(host.apply_objects(plain_model, loaded, objects[:1], schedule.Manner(0.75), "by word"))
    twice = draw(host.apply_objects(plain_model, loaded, objects[:1] * 2, schedule.Manner(0.75), "by word"))
    assert relative_error(twice, one) <= 1e-5
    assert relative_error(draw(host.apply_objects(plain_model, loaded, objects[:1], schedule.Manner(0.75))), one) > 1e-3


def test_keys_of_names_are_made_once_a_run(two, host, schedule, monkeypatch):
    plain_model, loaded, objects = two
    patched = host.apply_objects(plain_model, loaded, objects, schedule.Manner(0.75))
    seen, kept = [], comfy_host.part("ssr_core.hosts.comfyui.run").Run.kept

    def spy(run, key, make):
        def counted():
            seen.append(key[0])
            return make()

        return kept(run, key, counted)

    monkeypatch.setattr(comfy_host.part("ssr_core.hosts.comfyui.run").Run, "kept", spy)
    draw(patched, steps=3)
    layers = len(loaded.config.layout.layers)
    assert seen.count("word keys") == layers
    assert seen.count("kv") == 2 * layers
    assert seen.count("gate") == layers


def test_an_object_with_a_region_acts_there_alone_and_the_others_share_the_rest(two, host, schedule):
    """Where only one may act it has the whole position, as if it were alone."""
    plain_model, loaded, objects = two
    left = torch.zeros(16, 16, dtype=torch.uint8)
    left[:, :8] = 255
    here = replace(objects[0], region=left)
    both = host.apply_objects(
        plain_model, loaded, (here, replace(objects[1], region=255 - left)), schedule.Manner(0.75), "by word"
    )
    applied = comfy_host.part("ssr_core.hosts.comfyui.apply").applied_to(both)[0]
    assert [place.region.shape for place in applied.places] == [(1, 16, 16)] * 2
    regions = [region[None].float() / 255 for region in (left, 255 - left)]
    apart = plain_model
    for one, region in zip(objects, regions, strict=True):
        apart = host.apply_objects(apart, loaded, (one,), schedule.Manner(0.75, region=region), "by word")
    assert relative_error(draw(both), draw(apart)) <= 1e-5


@pytest.mark.parametrize("combine", ["by word, gated", "by word", "separate", "joint"])
def test_batches_of_any_size_and_shape_draw_what_single_pictures_do(two, host, schedule, combine):
    plain_model, loaded, objects = two
    patched = host.apply_objects(plain_model, loaded, objects, schedule.Manner(0.75), combine)
    batch = draw(patched, batch=2, size=(12, 20))
    assert bool(batch.isfinite().all())
    assert relative_error(batch[:1], draw(patched, batch=1, size=(12, 20))) <= 1e-4


def test_a_gate_reads_the_layers_own_text_attention_whatever_stands_before_us(two, host, schedule):
    """Another pack adds its picture at the layer; ours is added as if it were not there."""
    plain_model, loaded, objects = two

    def other(query, key, value, options):
        attention = comfy_host.part("ssr_core.hosts.comfyui.layer").attention_of(options)
        return attention(query, key, value, options["n_heads"]) + 5.0

    busy = plain_model.clone()
    for block in ("input", 4), ("middle", 0), ("output", 5):
        busy.set_model_attn2_replace(other, *block)
    call = comfy_host.part("ssr_core.hosts.comfyui.call")
    gates = {}

    def spied(kind):
        original = call.text_gate

        def gate(text, direction):
            gates.setdefault(kind, []).append(text.clone())
            return original(text, direction)

        return gate

    for kind, start in (("alone", plain_model), ("beside", busy)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(call, "text_gate", spied(kind))
            draw(host.apply_objects(start, loaded, objects, schedule.Manner(0.75)), steps=1)
    first = [kind[0] for kind in gates.values()]  # of the first layer, whose input is the same
    assert torch.equal(*first)


def test_the_same_latent_as_in_diffusers(two, host, schedule):
    """Guided, two pictures, not square, with the host's own sampler here and the same Euler steps around diffusers' UNet there."""
    from diffusers import EulerDiscreteScheduler

    from ssr_core.hosts.diffusers import mip

    plain_model, loaded, objects = two
    name, steps, guidance, size = "unet_tiny_n2", 3, 5.0, (12, 20)
    found = draw(
        host.apply_objects(plain_model, loaded, objects, schedule.Manner(0.75)), steps=steps, cfg=guidance, batch=2, size=size
    )

    unet = golden.fill(name, UNet2DConditionModel(**golden.case(name)["params"]["diffusers_config"]), "unet.")
    module = golden.adapter(name)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    scheduler.set_timesteps(steps)
    noise = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(7))
    latents = noise * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    (negative, told_negative), (positive, told_positive) = cond(12)[0], cond(11)[0]
    text = torch.cat([negative, negative, positive, positive])
    pooled = torch.cat([told_negative["pooled_output"]] * 2 + [told_positive["pooled_output"]] * 2)
    height, width = (side * 8 for side in size)
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[height, width, 0, 0, height, width]] * 4).float()}
    with torch.inference_mode(), mip.objects_attached(unet, module, golden.objects(name), 0.75):
        for step in scheduler.timesteps:
            scaled = scheduler.scale_model_input(torch.cat([latents, latents]), step)
            without, conditional = unet(scaled, step, text, added_cond_kwargs=added).sample.chunk(2)
            latents = scheduler.step(without + guidance * (conditional - without), step, latents).prev_sample
    scale = plain_model.model.latent_format.scale_factor
    assert relative_error(found, latents / scale) <= 1e-3


def test_with_guidance_off_only_the_names_side_is_drawn(two, host, schedule):
    plain_model, loaded, objects = two
    silent = tuple(
        replace(one, null_tokens=one.null_tokens * 0 + 9, null_name_embeds=one.null_name_embeds * 0 + 9) for one in objects
    )
    drawn = [draw(host.apply_objects(plain_model, loaded, one, schedule.Manner(0.75)), cfg=1.0) for one in (objects, silent)]
    assert torch.equal(*drawn)
    assert relative_error(drawn[0], draw(plain_model, cfg=1.0)) > 0.01


TO_K = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
"""Of the first layer that runs."""


def test_a_lora_on_one_prompt_moves_the_names_keys_of_its_pass_alone(two, host, schedule, monkeypatch):
    import comfy.hooks

    plain_model, loaded, objects = two
    call = comfy_host.part("ssr_core.hosts.comfyui.call")
    seen, original = [], call.word_shares

    def spy(query, keys, heads, covers):
        seen.append(torch.cat([key.flatten() for key in keys]))
        return original(query, keys, heads, covers)

    monkeypatch.setattr(call, "word_shares", spy)
    hook = comfy.hooks.WeightHook(1.0, 1.0)
    hook.need_weight_init = False
    hook.weights = {TO_K: ("diff", (torch.ones(64, 96),))}
    hooks = comfy.hooks.HookGroup()
    hooks.add(hook)
    (text, told), *_ = cond(11)
    patched = host.apply_objects(plain_model, loaded, objects, schedule.Manner(0.75))
    draw(patched, steps=2, positive=[[text, {**told, "hooks": hooks}]])
    layers = len(loaded.config.layout.layers)
    assert len(seen) == 4 * layers  # two passes a step, since the weights differ
    first, second, again = seen[0], seen[layers], seen[2 * layers]
    assert not torch.equal(first, second)
    assert any(torch.equal(again, one) for one in (first, second))
