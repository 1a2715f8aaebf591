"""The main job, as a user runs it: photograph and query in, picture out, over ComfyUI's HTTP API at SD1.5's real shapes.

Weights are generated, so the picture is noise; what counts is that every file loads, every node runs, and the sampled latent is the
one that diffusers samples with the same files.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support import comfy_host, golden, sd15
from support.server import running
from support.templates import FOLDER, former_name
from support.workflow import to_prompt
from try_workflow import with_generated_weights

SEED, STEPS, CFG, SIDE, STRENGTH = 5, 4, 5.0, 256, 0.65
TEMPLATES = [
    path
    for path in sorted(FOLDER.glob("[0-9]*.json"))
    if not former_name(path).startswith(("ssr_mini", "ssr_mip", "ssr_elite", "ssr_lasr"))
]
"""Those for real weights of SD1.5; test_mini.py and test_mini_twins.py run Mini's, lasr/test_templates.py LASR's, and
test_template_graphs.py checks all of them."""
LATENT_SCALE = 0.18215
"""SD1.5's; the host saves latents divided by it."""
QUERY, POSITIVE, NEGATIVE = "dog", "a dog on a beach", "bad quality"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    sd15.write(base / "models")
    encoders = base / "models" / "ssr_encoder"
    (encoders / "half.bin").hardlink_to(encoders / sd15.ALIGNER)  # under a name that no pair is published under
    older = base / "models" / "ssr"  # the older port's folder, with its conversions of the pair
    older.mkdir()
    for released, name in ((sd15.ALIGNER, "ssr_aligner"), (sd15.LAYERS, "ssr_layers")):
        save_file(torch.load(encoders / released, weights_only=True), older / f"{name}.safetensors")
    (base / "input").mkdir()
    Image.fromarray(golden.golden_inputs.image(640, 480, 0)).save(base / "input" / "reference.png")
    with running(base, "--fp32-text-enc") as server:
        yield server
    shutil.rmtree(base / "models")  # 2.8 GB


def prompt() -> dict:
    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=sd15.CHECKPOINT),
        "vision": node("CLIPVisionLoader", clip_name=sd15.CLIP_VISION),
        "encoder": node("SSR_LoadEncoder", encoder_file=sd15.ALIGNER, layers_file=sd15.LAYERS),
        "reference": node("LoadImage", image="reference.png"),
        "last_layer": node("CLIPSetLastLayer", clip=["checkpoint", 1], stop_at_clip_layer=-3),
        "subject": node(
            "SSR_EncodeSubject", ssr_encoder=["encoder", 0], clip=["last_layer", 0], clip_vision=["vision", 0],
            image=["reference", 0], query=QUERY,
        ),
        "apply": node(
            "SSR_ApplySubject", model=["checkpoint", 0], ssr_encoder=["encoder", 0], subject=["subject", 0], strength=STRENGTH
        ),
        "positive": node("CLIPTextEncode", clip=["checkpoint", 1], text=POSITIVE),
        "negative": node("CLIPTextEncode", clip=["checkpoint", 1], text=NEGATIVE),
        "latent": node("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1),
        "sampler": node(
            "KSampler", model=["apply", 0], positive=["positive", 0], negative=["negative", 0], latent_image=["latent", 0],
            seed=SEED, steps=STEPS, cfg=CFG, sampler_name="euler", scheduler="normal", denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="picture"),
        "save_latent": node("SaveLatent", samples=["sampler", 0], filename_prefix="latent"),
        "save_subject": node("SSR_SaveSubject", subject=["subject", 0], filename_prefix="dog"),
        "map": node("SSR_SubjectAttentionMap", subject=["subject", 0], image=["reference", 0], word=QUERY),
        "save_map": node("SaveImage", images=["map", 0], filename_prefix="map"),
    }  # fmt: skip


@torch.inference_mode()
def diffusers_latent(base) -> torch.Tensor:
    """The same run through hosts/diffusers, from the same files."""
    import diffusers
    import transformers
    from diffusers.loaders import single_file_utils as single

    from ssr_core import vision
    from ssr_core.hosts import diffusers as host
    from ssr_core.methods.ssr import encode, formats

    models = base / "models"
    raw = {name: tensor.float() for name, tensor in load_file(models / "checkpoints" / sd15.CHECKPOINT).items()}
    with torch.device("meta"):  # no memory and no random numbers for weights that come from the file
        unet = diffusers.UNet2DConditionModel(**sd15.UNET)
    unet.load_state_dict(single.convert_ldm_unet_checkpoint(raw, dict(unet.config)), assign=True)
    prefix = "cond_stage_model.transformer.text_model."
    text_encoder = transformers.CLIPTextModel(transformers.CLIPTextConfig(**sd15.TEXT))
    names = text_encoder.state_dict().keys()
    text_state = {name.removeprefix(prefix): tensor for name, tensor in raw.items() if name.startswith(prefix)}
    text_encoder.load_state_dict(
        {name: text_state[name.removeprefix("text_model.")] for name in names if "position_ids" not in name}
    )
    tokenizer = transformers.CLIPTokenizer.from_pretrained(comfy_host.find() / "comfy" / "sd1_tokenizer")
    tower = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**sd15.VISION))
    tower.load_state_dict({k: v.float() for k, v in load_file(models / "clip_vision" / sd15.CLIP_VISION).items()})
    encoder = formats.load([models / "ssr_encoder" / sd15.ALIGNER, models / "ssr_encoder" / sd15.LAYERS])

    reference = vision.as_pictures(torch.from_numpy(golden.golden_inputs.image(640, 480, 0)).float()[None] / 255)
    queries = [host.encode_query(tokenizer, text_encoder, text) for text in (QUERY, "")]
    subjects = encode.encode_subjects(
        host.for_encoding(encoder), host.vision_model(tower), reference, encode.Selection(*queries)
    )

    text = torch.cat([host.encode_query(tokenizer, text_encoder, words).embeds for words in (NEGATIVE, POSITIVE)])
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    scheduler.set_timesteps(STEPS)
    torch.manual_seed(SEED)
    latent = torch.randn(1, 4, SIDE // 8, SIDE // 8) * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    with host.subjects_attached(unet, encoder, subjects, STRENGTH):
        for step in scheduler.timesteps:
            scaled = scheduler.scale_model_input(torch.cat([latent, latent]), step)
            without, conditional = unet(scaled, step, text).sample.chunk(2)
            latent = scheduler.step(without + CFG * (conditional - without), step, latent).prev_sample
    return latent


def test_photograph_and_query_become_the_same_latent_as_in_diffusers(server):
    outputs = server.run(prompt())["outputs"]
    picture = np.asarray(Image.open(server.base / "output" / outputs["save"]["images"][0]["filename"]))
    assert picture.shape == (SIDE, SIDE, 3)
    overlay = Image.open(server.base / "output" / outputs["save_map"]["images"][0]["filename"])
    assert overlay.size == (640, 480)

    (latent_file,) = (server.base / "output").glob("latent*.latent")
    latent = load_file(latent_file)["latent_tensor"]
    expected = diffusers_latent(server.base) / LATENT_SCALE
    assert golden.relative_error(latent, expected) <= 1e-3


def test_a_saved_subject_draws_the_same_latent_without_its_picture(server):
    """Load Subject instead of LoadImage, Load CLIP Vision and Encode Subject."""
    first = load_file(next((server.base / "output").glob("latent*.latent")))["latent_tensor"]
    (saved,) = (server.base / "output" / "ssr_subjects").glob("dog*.safetensors")
    graph = prompt()
    for name in ("vision", "reference", "last_layer", "map", "save_map", "save", "decode", "save_subject"):
        del graph[name]
    graph["subject"] = {"class_type": "SSR_LoadSubject", "inputs": {"subject_file": saved.name}}
    graph["save_latent"]["inputs"]["filename_prefix"] = "again"
    server.run(graph)
    again = load_file(next((server.base / "output").glob("again*.latent")))["latent_tensor"]
    assert torch.equal(again, first)


def test_a_graph_whose_apply_node_was_removed_draws_as_if_it_never_was_there(server):
    def latent(name, with_subject):
        graph = prompt()
        for unused in ("decode", "save", "map", "save_map", "save_subject"):
            del graph[unused]
        if not with_subject:
            for gone in ("apply", "subject", "last_layer", "reference", "encoder", "vision"):
                del graph[gone]
            graph["sampler"]["inputs"]["model"] = ["checkpoint", 0]
        graph["sampler"]["inputs"].update(steps=1, seed=SEED + 1)
        graph["save_latent"]["inputs"]["filename_prefix"] = name
        server.run(graph)
        return load_file(next((server.base / "output").glob(f"{name}*.latent")))["latent_tensor"]

    never = latent("never", with_subject=False)
    assert not torch.equal(latent("with", with_subject=True), never)
    server.forget()
    assert torch.equal(latent("removed", with_subject=False), never)


def test_either_half_of_a_pair_finds_the_other(server):
    def latent(name, **files):
        graph = prompt()
        for unused in ("decode", "save", "map", "save_map", "save_subject"):
            del graph[unused]
        graph["encoder"]["inputs"] = files
        graph["sampler"]["inputs"].update(steps=1)
        graph["save_latent"]["inputs"]["filename_prefix"] = name
        server.run(graph)
        return load_file(next((server.base / "output").glob(f"{name}*.latent")))["latent_tensor"]

    both = latent("pair", encoder_file=sd15.ALIGNER, layers_file=sd15.LAYERS)
    assert torch.equal(latent("first", encoder_file=sd15.ALIGNER), both)
    assert torch.equal(latent("second", encoder_file=sd15.LAYERS, layers_file="(in the same file)"), both)


def older_prompt() -> dict:
    """The older port's published example as its frontend exports it for the API: two queries in a chain, a picture for each."""

    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}

    shared = {"clip": ["4", 1], "clip_vision": ["13", 0], "ssr_aligner": ["15", 0], "negative_scale": 0, "negative": ""}
    return {
        "3": node(
            "KSampler", seed=100, steps=2, cfg=6.5, sampler_name="dpmpp_2m", scheduler="karras", denoise=1, model=["14", 0],
            positive=["6", 0], negative=["7", 0], latent_image=["5", 0],
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name=sd15.CHECKPOINT),
        "5": node("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1),
        "6": node("CLIPTextEncode", text="woman, fur, photo, 4k uhd, masterpiece", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="text, watermark, nsfw", clip=["4", 1]),
        "9": node("SaveLatent", samples=["3", 0], filename_prefix="older"),
        "10": node("LoadImage", image="reference.png"),
        "12": node("ImageScale", upscale_method="nearest-exact", width=512, height=512, crop="center", image=["10", 0]),
        "13": node("CLIPVisionLoader", clip_name=sd15.CLIP_VISION),
        "14": node("ApplySSR", model=["4", 0], ssr_attentions=["16", 0], ssr_embeds=["19", 0]),
        "15": node("LoadSSRAligner", checkpoint="ssr_aligner.safetensors"),
        "16": node("LoadSSRAttention", checkpoint="ssr_layers.safetensors"),
        "17": node("EncodeSSRQuery", positive_scale=0.5, positive="wolf, fur", image=["12", 0], **shared),
        "19": node(
            "EncodeSSRQuery", positive_scale=0.4, positive="woman", image=["21", 0], prev_ssr_embeds=["17", 0], **shared
        ),
        "20": node("LoadImage", image="reference.png"),
        "21": node("ImageScale", upscale_method="nearest-exact", width=512, height=512, crop="disabled", image=["20", 0]),
    }  # fmt: skip


def test_a_prompt_of_the_older_port_is_drawn_by_ours_with_its_own_files(server):
    def latent(graph, name):
        graph["9"]["inputs"]["filename_prefix"] = name
        server.run(graph)
        return load_file(next((server.base / "output").glob(f"{name}*.latent")))["latent_tensor"]

    older, ours = older_prompt(), older_prompt()
    clip = {"clip": ["4", 1], "clip_vision": ["13", 0], "ssr_encoder": ["15", 0]}
    ours["15"] = {"class_type": "SSR_LoadEncoder", "inputs": {"encoder_file": sd15.ALIGNER, "layers_file": sd15.LAYERS}}
    ours["17"] = {
        "class_type": "SSR_EncodeSubject", "inputs": {**clip, "image": ["12", 0], "query": "wolf, fur", "strength": 0.5}
    }  # fmt: skip
    ours["19"] = {
        "class_type": "SSR_EncodeSubject",
        "inputs": {**clip, "image": ["21", 0], "query": "woman", "strength": 0.4, "previous": ["17", 0]},
    }
    apply = {"model": ["4", 0], "ssr_encoder": ["15", 0], "subject": ["19", 0], "strength": 1.0}
    ours["14"] = {"class_type": "SSR_ApplySubject", "inputs": apply}
    del ours["16"]
    expected = latent(ours, "ours")
    for node in older.values():
        del node["_meta"]  # scripts leave it out
    assert torch.equal(latent(older, "older"), expected)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_an_example_workflow_runs(server, path):
    """As shipped, but with generated weights, one step and a small picture."""
    workflow = to_prompt(json.loads(path.read_text()), server.get("/object_info"))
    graph = with_generated_weights(workflow, steps=1, side=SIDE)
    outputs = server.run(graph)["outputs"]
    names = [picture["filename"] for output in outputs.values() for picture in output.get("images", [])]
    assert any(name.startswith("ssr_") for name in names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": {"query": "  "}}, "query is empty and there is no mask"),
        ({"subject": {"mask": ["reference", 1]}}, "mask query marks nothing"),
        ({"subject": {"fit": "zzz"}}, "fit"),
        ({"encoder": {"encoder_file": "half.bin", "layers_file": "(in the same file)"}}, "Give its partner too"),
        ({"map": {"word": "cat"}}, 'has no word "cat"'),
        ({"map": {"index": 3}}, "There is no subject 3; this set holds 1"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_the_user_reads_what_is_wrong(server, change, message):
    graph = prompt()
    for name in ("sampler", "decode", "save", "save_latent", "apply", "positive", "negative", "latent"):
        del graph[name]
    for name, inputs in change.items():
        graph[name]["inputs"].update(inputs)
    with pytest.raises(RuntimeError, match=message):
        server.run(graph)
