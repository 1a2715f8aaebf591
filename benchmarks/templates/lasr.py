"""The templates of LASR: subjects that are learned in the graph, or were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .content import MINI, NARROW, NARROWER, REAL, World, checkpoint, drawn, note
from .graph import Graph, Node, Slot

LASR = replace(
    REAL, saved="lasr",
    sampling={"seed": 42, "steps": 50, "cfg": 5.0, "sampler_name": "ddim", "scheduler": "normal", "denoise": 1.0},
)  # fmt: skip

BUILT_IN = "ssr_mini/"
"""Before the names of learned subjects that come with the pack (hosts/comfyui/folders.py)."""
MINI_LEARNED = {"z": "lasr_star", "y": "lasr_mushroom"}
MINI_PLACES = ("in the white snow", "on a sandy beach")
MINI_STEPS = 350
"""Of learning on Mini, which is small."""


def _drawn_with(
    graph: Graph, world: World, number: int, loaded: Node, subject: Slot, text: str
) -> tuple[list[Node], list[Node], list[Node]]:
    """What draws with learned subjects, from left to right. loaded: gives model, clip and vae."""
    prompt = graph.node(
        "SSR_PromptWithSubjectLASR", f"{number} Prompt: what to draw", "input", clip=loaded["clip"], subject=subject, text=text
    )
    apply = graph.node("SSR_ApplySubjectLASR", "Apply", model=loaded["model"], clip=loaded["clip"], subject=subject)
    prompts, sampler, result = drawn(
        graph, world, number, apply["model"], loaded["clip"], loaded["vae"], "", prompt["conditioning"]
    )
    return [prompt, apply, *prompts], sampler, result


def _learn(
    graph: Graph, world: World, loaded: Node, pictures: Slot, text: str, saved: str, **given: Any
) -> tuple[list[list[Node]], list[list[Node]]]:
    """The columns of the node that learns, and those of what follows it."""
    learned = graph.node(
        "SSR_LearnSubjectLASR", "2 Learn the subject", "input", model=loaded["model"], clip=loaded["clip"], vae=loaded["vae"],
        pictures=pictures, placeholder="z", **given,
    )  # fmt: skip
    kept = graph.node("SSR_SaveSubjectLASR", "3 Keep it", "output", subject=learned["subject"], filename_prefix=saved)
    loss = graph.node("PreviewImage", "Loss: it should fall, then level off", images=learned["loss_curve"])
    prompts, sampler, result = _drawn_with(graph, world, 4, loaded, kept["subject"], text)
    return [[learned], [kept, loss]], [prompts, sampler, *([one] for one in result)]


def learn_mini(graph: Graph) -> None:
    graph.widest = NARROW
    mini = graph.node("SSR_LoadMini", "Models")
    pictures = graph.node(
        "SSR_MiniScene", "1 Pictures of the subject", "input", scene=20, objects=1, background="any", pictures=5
    )
    world = replace(MINI, saved="ssr_mini_learned")
    learning, following = _learn(
        graph,
        world,
        mini,
        pictures["image"],
        "a z in the white snow",
        "mini",
        words="star",
        steps=MINI_STEPS,
        preview_every=100,
    )
    told = note(
        graph, "Learn a subject", 190,
        f"Press **Run**: {MINI_STEPS} steps, two or three minutes on two cores. **z** then stands for what the five pictures show.",
        "Another *scene* in node 1 is another subject; say in *words* what it is. What was learned is kept in `output/ssr_lasr`.",
        "The tiny models come with the pack and know a drawn world: its words are in the help of **Load SSR Mini**.",
    )  # fmt: skip
    graph.columns = [[told, mini, pictures], *learning, *following]


def learn(graph: Graph) -> None:
    graph.widest = NARROWER
    base = checkpoint(graph)
    photos = [
        graph.node("LoadImage", f"1 Picture {number} of the subject", "input", image="example.png") for number in (1, 2, 3)
    ]
    two = graph.node("ImageBatch", "Pictures 1 and 2", image1=photos[0]["IMAGE"], image2=photos[1]["IMAGE"])
    three = graph.node("ImageBatch", "All pictures", image1=two["IMAGE"], image2=photos[2]["IMAGE"])
    learning, following = _learn(
        graph, replace(LASR, saved="lasr_learn"), base, three["IMAGE"], "a photo of a z on a beach", "cat",
        words="tabby cat", weights="1 2",
    )  # fmt: skip
    told = note(
        graph, "Learn a subject from pictures", 260,
        "**First choose your own pictures** in the nodes 1, 3 to 10 of one subject. *words* say what it is, *weights* a number for each "
        "word, *placeholder* a short word such as z that will stand for it.",
        "4000 steps take a while; if you stop, the same settings go on. Once it is finished, draw with **Load Subject (LASR)** (template "
        "15): Run here would learn anew. Takes 9 GB beside the models, 1.4 GB with *gradient_checkpointing*.",
    )  # fmt: skip
    graph.columns = [[base, *photos], [told, two, three], *learning, *following]


def learned_mini(graph: Graph) -> None:
    """A picture for each: two learned subjects in one prompt mix on models as small as these."""
    graph.widest = NARROW
    mini = graph.node("SSR_LoadMini", "Models")
    files = [
        graph.node("SSR_LoadSubjectLASR", f"{number} Subject {name}", "input", subject_file=f"{BUILT_IN}{file}.safetensors")
        for number, (name, file) in enumerate(MINI_LEARNED.items(), start=1)
    ]
    both = graph.node("SSR_CombineSubjectsLASR", "Both", subject_1=files[0]["subject"], subject_2=files[1]["subject"])
    apply = graph.node("SSR_ApplySubjectLASR", "Apply", model=mini["model"], clip=mini["clip"], subject=both["subject"])
    negative = graph.node("CLIPTextEncode", "Negative prompt", None, (280, 90), clip=mini["clip"], text=MINI.negative)
    latent = graph.node("EmptyLatentImage", "Size", width=MINI.side, height=MINI.side, batch_size=1)
    prompts, samplers, pictures = [], [], []
    for number, (name, file, place) in enumerate(zip(MINI_LEARNED, files, MINI_PLACES, strict=True), start=3):
        prompts.append(
            graph.node(
                "SSR_PromptWithSubjectLASR", f"{number} Prompt: draw {name}", "input", clip=mini["clip"], subject=file["subject"],
                text=f"a {name} {place}",
            )
        )  # fmt: skip
        samplers.append(
            graph.node(
                "KSampler", f"Sampler {name}", model=apply["model"], positive=prompts[-1]["conditioning"],
                negative=negative["CONDITIONING"], latent_image=latent["LATENT"], **{**MINI.sampling, "seed": 4},
            )
        )  # fmt: skip
        pictures.append(graph.node("VAEDecode", samples=samplers[-1]["LATENT"], vae=mini["vae"]))
    batch = graph.node("ImageBatch", "Both pictures", image1=pictures[0]["IMAGE"], image2=pictures[1]["IMAGE"])
    save = graph.node("SaveImage", "5 The new pictures", "output", images=batch["IMAGE"], filename_prefix="ssr_mini_learned")
    told = note(
        graph, "Two learned subjects", 190,
        "**z** stands for a star and **y** for a mushroom, each learned from five pictures (template 13 learns one).",
        "One Apply serves both. *alpha* 0 is faster: no text encoder runs while sampling, and less of the look is drawn.",
        MINI.about,
    )  # fmt: skip
    graph.columns = [[told, mini, *files], [both, *prompts], [apply, negative, latent], samplers, pictures, [batch], [save]]


def two_learned(graph: Graph) -> None:
    graph.widest = NARROW
    base = checkpoint(graph)
    files = [
        graph.node("SSR_LoadSubjectLASR", f"{number} Subject {name}", "input", subject_file=file, placeholder=name)
        for number, (name, file) in enumerate((("z", "cat_00001_.safetensors"), ("y", "hat_00001_.safetensors")), start=1)
    ]
    both = graph.node("SSR_CombineSubjectsLASR", "Both", subject_1=files[0]["subject"], subject_2=files[1]["subject"])
    prompts, sampler, result = _drawn_with(graph, LASR, 3, base, both["subject"], "a photo of a z with a y on a beach")
    told = note(
        graph, "Two learned subjects", 250,
        "Choose two files that **Learn Subject (LASR)** wrote, or the authors' `embeddings_gs-*.pt` in `models/ssr_lasr`.",
        "The *placeholder* of each may be any word of one token; write it where the subject belongs. For one subject connect node 1 "
        "straight to the prompt and to Apply. "
        "*alpha* 0 is faster: no text encoder runs while sampling, and less of the look is drawn.",
    )  # fmt: skip
    graph.columns = [[told, base, *files], [both], prompts, sampler, *([one] for one in result)]
