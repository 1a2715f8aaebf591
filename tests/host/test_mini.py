"""SSR Mini inside the host: the same models as in diffusers, usable by every node, and templates that run as they are shipped."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import comfy_host, golden, tiny
from support.server import running
from support.templates import FORMERLY, path_of
from support.workflow import to_prompt

OTHERS = ("mip", "elite", "lasr")
TEMPLATES = {
    name: path_of(name) for name in FORMERLY if name.startswith("ssr_mini") and not any(method in name for method in OTHERS)
}
"""Those of the SSR-Encoder; test_mini_twins.py runs the others."""
REGIONS = "ssr_mini_regions"
"""diffusers has no regions to compare this template with."""
SCALE = 0.18215


@pytest.fixture(scope="module")
def mini():
    comfy_host.start()
    return comfy_host.part("ssr_core.hosts.comfyui.mini").load()


@pytest.fixture(scope="module")
def base():
    from ssr_core.hosts.diffusers.load import load_base

    return load_base("mini")


NUMBERS = """
class Numbers:
    RETURN_TYPES, FUNCTION, CATEGORY = ("FLOAT",), "give", "tests"
    INPUT_TYPES = classmethod(lambda cls: {})

    def give(self):
        return ([1.0, 0.0, 0.5],)


NODE_CLASS_MAPPINGS = {"Numbers": Numbers}
"""
"""A pack whose FLOAT output gives a list, as schedulers of other packs do."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("mini")
    numbers = base / "custom_nodes" / "numbers"
    numbers.mkdir(parents=True)
    (numbers / "__init__.py").write_text(NUMBERS)
    with running(base, "--fp32-text-enc") as server:
        yield server


def conditioning(mini, text):
    return mini.clip.encode_from_tokens_scheduled(mini.clip.tokenize(text))


def test_every_part_computes_what_it_does_in_diffusers(mini, base):
    import comfy.model_management

    generator = torch.Generator().manual_seed(0)
    latent, pixels = torch.randn(1, 4, 16, 16, generator=generator), torch.rand(1, 128, 128, 3, generator=generator)
    text = "a star and a fish on a green meadow"
    embeds = base.embed([text])
    with torch.inference_mode():
        torch.testing.assert_close(conditioning(mini, text)[0][0], embeds)
        encoded = mini.vae.encode(pixels) * SCALE
        torch.testing.assert_close(encoded, base.latents(pixels.movedim(-1, 1) * 2 - 1)[0], rtol=1e-5, atol=1e-5)
        decoded = base.vae.decode(latent).sample.clamp(-1, 1).movedim(1, -1) / 2 + 0.5
        torch.testing.assert_close(mini.vae.decode(latent / SCALE), decoded, rtol=1e-5, atol=1e-5)
        comfy.model_management.load_models_gpu([mini.model, mini.clip_vision.patcher])
        at = torch.tensor([500])
        own = mini.model.model.diffusion_model(latent, at, context=embeds)
        torch.testing.assert_close(own, base.unet(latent, at, embeds).sample, rtol=1e-4, atol=1e-5)
        seen = torch.randn(1, 3, 128, 128, generator=generator)
        states = mini.clip_vision.model(pixel_values=seen, intermediate_output="all")[1]  # [B, layers, P, C]
        expected = base.vision_encoder(pixel_values=seen, output_hidden_states=True).hidden_states[1:]
        torch.testing.assert_close(states, torch.stack(expected, dim=1), rtol=1e-4, atol=1e-4)


def test_the_hosts_tokenizer_and_ours_agree_on_every_word_of_the_world(mini):
    from ssr_core.mini import vocabulary

    words = " ".join(vocabulary.WORDS[:60])
    theirs = [token for token, _ in mini.clip.tokenize(words)["l"][0]]
    ours = vocabulary.tokenizer()(words, padding="max_length", max_length=77).input_ids
    assert theirs == ours


@pytest.mark.parametrize(
    ("text", "unknown"), [("a dog on a beach", "'dog'"), ("a (kitten:1.2), very cute", "'kitten', 'very', 'cute'")]
)
def test_words_that_it_never_learned_are_refused_in_prompts_and_queries(mini, text, unknown):
    with pytest.raises(ValueError, match=f"SSR Mini does not know {unknown}. Its world's words are: a, an, and, banded"):
        conditioning(mini, text)
    assert conditioning(mini, "")


def test_another_size_is_drawn_with_a_warning(mini, caplog):
    positive, negative = conditioning(mini, "a star"), conditioning(mini, "")
    tiny.sample(mini.model, steps=1, positive=positive, negative=negative)
    assert not caplog.records
    tiny.sample(mini.model, steps=1, positive=positive, negative=negative, size=(32, 16))
    assert "trained on pictures of 128 x 128 pixels; one of 128 x 256 shows less than it could" in caplog.text


@pytest.mark.parametrize("size", [(64, 64), (16, 36), (4, 16), (17, 16)], ids=str)
def test_a_size_at_which_it_draws_no_picture_is_refused_as_by_the_commands(mini, size):
    height, width = (side * 8 for side in size)
    with pytest.raises(
        ValueError, match=f"SSR Mini does not know pictures of {width}x{height}. Its sides are multiples of 32 from 64"
    ):
        tiny.sample(mini.model, steps=1, positive=conditioning(mini, "a star"), negative=conditioning(mini, ""), size=size)


def test_a_larger_picture_is_drawn_in_tiles_that_it_knows(mini, caplog):
    """Packs that draw in tiles call the UNet on a part of the latent each."""

    def tiles(apply_model, args):
        parts = [apply_model(part, args["timestep"], **args["c"]) for part in args["input"].chunk(3, dim=-1)]
        return torch.cat(parts, dim=-1)

    tiled = mini.model.clone()
    tiled.set_model_unet_function_wrapper(tiles)
    drawn = tiny.sample(tiled, steps=1, positive=conditioning(mini, "a star"), negative=conditioning(mini, ""), size=(16, 48))
    assert bool(drawn.isfinite().all())
    assert "one of 384 x 128 shows less" in caplog.text


def test_loras_and_controlnets_act_on_it(mini):
    """The host's own code for both finds its layers and changes the picture."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.sd

    positive, negative = conditioning(mini, "a star on the blue sea"), conditioning(mini, "")
    plain = tiny.sample(mini.model, positive=positive, negative=negative)

    generator = torch.Generator().manual_seed(1)
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = {
        f"{name}.lora_up.weight": torch.randn(96, 4, generator=generator),
        f"{name}.lora_down.weight": torch.randn(4, 128, generator=generator),
        f"{name}.alpha": torch.tensor(4.0),
    }
    with_lora, _ = comfy.sd.load_lora_for_models(mini.model, mini.clip, lora, 1.0, 1.0)
    assert not torch.equal(tiny.sample(with_lora, positive=positive, negative=negative), plain)

    module = comfy_host.part("ssr_core.hosts.comfyui.mini")
    left_out = ("out_channels", "transformer_depth_output")
    config = {key: value for key, value in module.unet_config().items() if key not in left_out}
    network = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=torch.float32)
    tiny.fill(network)
    control = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
    control = control.copy().set_cond_hint(torch.rand(1, 3, 128, 128, generator=generator), 1.0)
    controlled = [[entry[0], {**entry[1], "control": control, "control_apply_to_uncond": True}] for entry in positive]
    assert not torch.equal(tiny.sample(mini.model, positive=controlled, negative=negative), plain)
    assert torch.equal(tiny.sample(mini.model, positive=positive, negative=negative), plain)


def test_the_host_can_make_a_second_copy_of_its_model(mini):
    """As it does for every GPU beside the first, and for LoRAs on conds where weights are streamed."""
    load, arguments = mini.model.cached_patcher_init
    copy = load(*arguments, disable_dynamic=True)
    assert copy.model is not mini.model.model
    positive, negative = conditioning(mini, "a star on the blue sea"), conditioning(mini, "")
    drawn, again = (tiny.sample(model, positive=positive, negative=negative) for model in (mini.model, copy))
    assert torch.equal(drawn, again)
    if hasattr(mini.model, "deepclone_multigpu"):
        clone = mini.model.deepclone_multigpu(torch.device("cpu"))
        assert clone.model is not mini.model.model


def diffusers_latent(base, graph):
    """What a template's prompt asks for, through hosts/diffusers."""
    from ssr_core.hosts.diffusers import generate, ssr
    from ssr_core.methods.ssr import formats
    from ssr_core.mini import files

    def nodes(kind):
        return [node["inputs"] for node in graph.values() if node["class_type"] == kind]

    encoder = formats.load([files.FOLDER / files.ENCODER], dtype=torch.float32)
    scene = comfy_host.part("ssr_core.hosts.comfyui.mini").scene
    subjects = []
    for inputs in nodes("SSR_EncodeSubject"):
        drawn = graph[inputs["image"][0]]["inputs"]
        image, mask, *_ = scene(drawn["scene"], drawn["objects"], None, drawn["marked"])
        picture = comfy_host.part("ssr_core.vision").as_pictures(image)[0]
        mask = mask[0] if "mask" in inputs else None
        subjects += ssr.encode(base, encoder, picture, inputs["query"], mask, inputs["mask_weight"])
    (sampler,) = nodes("KSampler")
    (apply,) = nodes("SSR_ApplySubject") or nodes("SSR_ApplySubjectAdvanced")
    pipe = generate.pipeline(base, "euler")
    torch.manual_seed(sampler["seed"])
    # The host starts from noise of variance sigma^2 + 1 (as added to a unit picture), diffusers from sigma^2.
    pipe.scheduler.set_timesteps(sampler["steps"])
    sigma = pipe.scheduler.init_noise_sigma
    noise = torch.randn(1, 4, 16, 16) * (sigma**2 + 1) ** 0.5 / sigma
    prompt, negative = (graph[sampler[side][0]]["inputs"]["text"] for side in ("positive", "negative"))
    return ssr.sample(
        pipe,
        encoder,
        tuple(subjects),
        [prompt],
        noise,
        negative=negative,
        steps=sampler["steps"],
        guidance=sampler["cfg"],
        manner=apply["strength"],
        combine=apply.get("combine", "joint"),
    )


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != REGIONS])
def test_a_mini_template_draws_what_diffusers_draws(server, base, name):
    compare_with_diffusers(server, base, to_prompt(json.loads(TEMPLATES[name].read_text()), server.get("/object_info")), name)


@pytest.mark.parametrize("combine", ["separate", "by word"])
def test_subjects_combine_as_in_diffusers(server, base, combine):
    path = TEMPLATES["ssr_mini_two_subjects"]
    graph = to_prompt(json.loads(path.read_text()), server.get("/object_info"))
    (apply,) = (node["inputs"] for node in graph.values() if node["class_type"] == "SSR_ApplySubjectAdvanced")
    apply["combine"] = combine
    compare_with_diffusers(server, base, graph, f"two_{combine.replace(' ', '_')}")


def test_the_regions_template_draws_each_subject_on_its_side_with_its_own_look(server):
    """Judged from pixels: of the looks of all four objects in the two references, each new object wears its own."""
    from ssr_core.evaluation.judge import choose_look, judge
    from ssr_core.mini.scene import example_scenes

    path = TEMPLATES[REGIONS]
    graph = to_prompt(json.loads(path.read_text()), server.get("/object_info"))
    images = [image for output in server.run(graph)["outputs"].values() for image in output.get("images", [])]
    (picture,) = (image for image in images if image["type"] == "output")
    seen = judge(Image.open(server.base / "output" / picture["filename"]))
    instances = [thing.instance for scene in (3, 6) for shown in example_scenes(scene, 2) for thing in shown.things]
    for kind, side in (("boat", 0), ("star", 1)):
        found = seen.of(kind)
        assert found is not None
        assert instances[choose_look(found, [instance.look for instance in instances])].kind == kind
        left, _, right, _ = found.box
        assert ((left + right) / 2 > 64) == bool(side)


def test_the_footprints_of_the_regions_template_lie_on_each_subjects_side(server):
    path = TEMPLATES[REGIONS]
    graph = to_prompt(json.loads(path.read_text()), server.get("/object_info"))
    sampler = next(node["inputs"] for node in graph.values() if node["class_type"] == "KSampler")
    decoded = [next(name for name, node in graph.items() if node["class_type"] == "VAEDecode"), 0]
    graph["record"] = {"class_type": "SSR_RecordFootprint", "inputs": {"model": sampler["model"]}}
    sampler["model"] = ["record", 0]
    for index in (1, 2):
        told = {"footprint": ["record", 1], "image": decoded, "index": index}
        graph[f"footprint {index}"] = {"class_type": "SSR_SubjectFootprint", "inputs": told}
        graph[f"shown {index}"] = {"class_type": "MaskToImage", "inputs": {"mask": [f"footprint {index}", 1]}}
        for name, source in ((f"map {index}", [f"shown {index}", 0]), (f"overlay {index}", [f"footprint {index}", 0])):
            graph[name] = {"class_type": "SaveImage", "inputs": {"images": source, "filename_prefix": name}}
    graph["report"] = {"class_type": "SSR_InspectModel", "inputs": {"model": ["record", 0], "after": decoded}}

    def run(seed):
        """What the prompt saves: [H, W, 3] each, by the name of the node."""
        sampler["seed"] = seed
        outputs = server.run(graph)["outputs"]
        files = {
            name: server.base / "output" / entry["images"][0]["filename"]
            for name, entry in outputs.items()
            if name.startswith(("map", "overlay"))
        }
        return outputs["report"]["text"][0], {name: np.asarray(Image.open(file), dtype=float) for name, file in files.items()}

    report, first = run(1)
    assert "2 subjects in 2 Apply nodes" in report
    assert "The footprint is recorded." in report
    assert "batches of the last sampling: [null, subject]" in report
    left, right = first["map 1"], first["map 2"]
    assert left.shape == first["overlay 1"].shape == (128, 128, 3)
    assert left[:, :56].mean() > 5 * left[:, 72:].mean()
    assert right[:, 72:].mean() > 5 * right[:, :56].mean()
    assert not np.array_equal(first["overlay 1"], first["overlay 2"])
    _, second = run(2)
    assert not np.array_equal(second["map 1"], left), "of the last sampling"


def test_a_linked_list_is_a_strength_for_each_picture(server):
    path = TEMPLATES["ssr_mini_text_query"]
    graph = to_prompt(json.loads(path.read_text()), server.get("/object_info"))
    of = {node["class_type"]: (name, node["inputs"]) for name, node in graph.items()}
    sampler, apply = of["KSampler"], of["SSR_ApplySubject"]
    of["EmptyLatentImage"][1]["batch_size"] = 3
    graph["numbers"] = {"class_type": "Numbers", "inputs": {}}
    apply[1]["strength"] = ["numbers", 0]

    def run(name, model):
        sampler[1]["model"] = model
        graph["latent"] = {"class_type": "SaveLatent", "inputs": {"samples": [sampler[0], 0], "filename_prefix": name}}
        server.run(graph)
        return load_file(next((server.base / "output").glob(f"{name}*.latent")))["latent_tensor"]

    with_subject, without = run("numbers", [apply[0], 0]), run("no_numbers", apply[1]["model"])
    assert [torch.equal(one, other) for one, other in zip(with_subject, without, strict=True)] == [False, True, False]


def compare_with_diffusers(server, base, graph, name):
    (sampler,) = (name for name, node in graph.items() if node["class_type"] == "KSampler")
    # 28 steps fall on whole timesteps. Between those the two hosts differ: one interpolates sigma's logarithm and rounds the
    # timestep, the other interpolates sigma and does not round.
    graph[sampler]["inputs"]["steps"] = 28
    graph["latent"] = {"class_type": "SaveLatent", "inputs": {"samples": [sampler, 0], "filename_prefix": name}}
    outputs = server.run(graph)["outputs"]
    pictures = [picture["filename"] for output in outputs.values() for picture in output.get("images", [])]
    assert any(name.startswith("ssr_mini") for name in pictures)
    latent = load_file(next((server.base / "output").glob(f"{name}*.latent")))["latent_tensor"]
    assert golden.relative_error(latent, diffusers_latent(base, graph) / SCALE) <= 1e-5


def test_a_scene_is_a_picture_a_mask_a_word_and_a_caption():
    scene = comfy_host.part("ssr_core.hosts.comfyui.mini").scene
    image, mask, kind, caption = scene(3, 2, "snow", 2)
    assert image.shape == (1, 128, 128, 3)
    assert mask.shape == (1, 128, 128)
    assert 0 < float(mask.mean()) < 0.3
    assert caption.endswith("in the white snow")
    assert f"{kind} in the white snow" in caption
    assert np.allclose(scene(3, 2, "snow", 2)[0], image)
    images, masks, *told = scene(3, 2, "snow", 2, pictures=3)
    assert torch.equal(images[:1], image), "the first one is the scene"
    assert torch.equal(masks[:1], mask)
    assert told == [kind, caption]
    assert images.shape == (3, 128, 128, 3)
    assert len({tuple(one[0, 0].tolist()) for one in images}) == 3, "other backgrounds"
    assert all(0 < float(one.mean()) < 0.3 for one in masks)
    with pytest.raises(ValueError, match="2 objects; there is no object 3 to mask"):
        scene(3, 2, None, 3)
