"""The templates of the other methods: their nodes between the same references, prompts and samplers (content.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .content import MINI, NARROW, REAL, Template, World, drawn, note, reference
from .graph import Graph, Node, Slot

XL = replace(
    REAL, side=1024, negative="monochrome, lowres, bad anatomy, worst quality, low quality", saved="ssr_mip",
    sampling={"seed": 42, "steps": 30, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
)  # fmt: skip
ELITE = replace(
    REAL, saved="elite",
    sampling={"seed": 42, "steps": 50, "cfg": 5.0, "sampler_name": "lms", "scheduler": "normal", "denoise": 1.0},
)  # fmt: skip
LASR = replace(
    REAL, saved="lasr",
    sampling={"seed": 42, "steps": 50, "cfg": 5.0, "sampler_name": "ddim", "scheduler": "normal", "denoise": 1.0},
)  # fmt: skip

BUILT_IN = "ssr_mini/"
"""Before the names of learned subjects that come with the pack (hosts/comfyui/folders.py)."""
MINI_LEARNED = "lasr_star"
MINI_STEPS = 350
"""Of learning on Mini, which is small."""
NARROWER = 230
"""Of nodes in templates with one column more."""


def _objects(graph: Graph, adapter: Slot, clip: Slot, vision: Slot, pictures: list[Node], names: tuple[str, ...]) -> list[Node]:
    """An object of each picture; each takes those before it along."""
    objects: list[Node] = []
    for number, (picture, name) in enumerate(zip(pictures, names, strict=True), start=1):
        before: dict[str, Any] = {"previous": objects[-1]["objects"]} if objects else {}
        objects.append(
            graph.node(
                "SSR_EncodeObjectMIP", f"3 Object {number}", "input", mip_adapter=adapter, clip=clip, clip_vision=vision,
                image=picture["image"], mask=picture["mask"], name=name, **before,
            )
        )  # fmt: skip
    return objects


def _mip(graph: Graph, controlled: bool) -> None:
    graph.widest = NARROWER if controlled else NARROW
    checkpoint = graph.node("CheckpointLoaderSimple", "Checkpoint: any SDXL", ckpt_name="sd_xl_base_1.0.safetensors")
    vision = graph.node("CLIPVisionLoader", "CLIP ViT-bigG", clip_name="CLIP-ViT-bigG-14-laion2B-39B-b160k.safetensors")
    adapter = graph.node("SSR_LoadMIPAdapter", "MIP-Adapter", adapter_file="model_sdxl.bin")
    pictures = [reference(graph, REAL, f"{number} Reference {number}", what) for number, what in ((1, "cat"), (2, "cup"))]
    objects = _objects(graph, adapter["mip_adapter"], checkpoint["clip"], vision["CLIP_VISION"], pictures, ("cat", "cup"))
    apply = graph.node(
        "SSR_ApplyObjectsMIP", "4 Both", model=checkpoint["model"], mip_adapter=adapter["mip_adapter"], objects=objects[-1]["objects"],
        strength=0.75,
    )  # fmt: skip
    text = "a cat beside a cup on a beach, photo"
    prompts, (sampler,), result = drawn(graph, XL, 5, apply["model"], checkpoint["clip"], checkpoint["vae"], text)
    led = "The edges of the picture in node 6 lead the composition; put your own there. " if controlled else ""
    more = " controlnet-canny-sdxl" if controlled else ""
    told = note(
        graph, "Two objects, SDXL", 210,
        "**Encode Object (MIP)**: *name* as it stands in the prompt; mask or clicks cut the object out. A batch is several pictures of one "
        "object.",
        f"Each is drawn where the picture looks for its name. {led}Files: `python install.py --download --only mip{more}`. "
        "`model_sdxl_plus.bin` wants CLIP ViT-H and a strength of 0.65.",
    )  # fmt: skip
    objects_apart = ([one] for one in objects)
    columns = [
        [checkpoint, vision, adapter, *pictures],
        *objects_apart,
        [apply, *prompts],
        [told, sampler],
        *([one] for one in result),
    ]
    if controlled:
        result[-1].title = "7 The new picture"
        columns[3:5] = _edges(graph, told, apply, prompts, sampler, checkpoint)
    graph.columns = columns


def _edges(graph: Graph, told: Node, apply: Node, prompts: list[Node], sampler: Node, checkpoint: Node) -> list[list[Node]]:
    """A ControlNet between prompts and sampler, led by the edges of another picture. The columns that it changes."""
    prompt, negative, _ = prompts
    leading = reference(graph, REAL, "6 Picture whose edges lead", "rocket")
    canny = graph.node("Canny", image=leading["image"], low_threshold=0.4, high_threshold=0.8)
    loader = graph.node("ControlNetLoader", "ControlNet for SDXL", control_net_name="control-lora-canny-rank128.safetensors")
    control = graph.node(
        "ControlNetApplyAdvanced", positive=prompt["CONDITIONING"], negative=negative["CONDITIONING"], control_net=loader["CONTROL_NET"],
        image=canny["IMAGE"], vae=checkpoint["vae"], strength=0.6, start_percent=0.0, end_percent=0.8,
    )  # fmt: skip
    graph.relink(sampler, "positive", control["positive"])
    graph.relink(sampler, "negative", control["negative"])
    return [[apply, *prompts, leading], [canny, loader, control], [told, sampler]]


def mip_mini(graph: Graph) -> None:
    graph.widest = NARROW
    mini = graph.node("SSR_LoadMini", "Models")
    scenes = (((3, 2, 2), "boat"), ((6, 2, 1), "star"))
    pictures = [
        reference(graph, MINI, f"{number} Reference {number}", what) for number, (what, _) in enumerate(scenes, start=1)
    ]
    names = tuple(name for _, name in scenes)
    objects = _objects(graph, mini["mip_adapter"], mini["clip"], mini["clip_vision"], pictures, names)
    apply = graph.node(
        "SSR_ApplyObjectsMIP", "4 Both", model=mini["model"], mip_adapter=mini["mip_adapter"], objects=objects[-1]["objects"],
        strength=1.0,
    )  # fmt: skip
    prompts, sampler, result = drawn(
        graph, MINI, 5, apply["model"], mini["clip"], mini["vae"], "a boat and a star on a green meadow"
    )
    told = note(
        graph, "Two objects", 210,
        "**Encode Object (MIP)**: *name* as it stands in the prompt; mask or clicks cut the object out. Each is drawn where the picture "
        "looks for its name.",
        MINI.about,
    )  # fmt: skip
    objects_apart = ([one] for one in objects)
    graph.columns = [[mini, *pictures], *objects_apart, [apply, *prompts], [told, *sampler], *([one] for one in result)]


def mip(graph: Graph) -> None:
    _mip(graph, controlled=False)


def mip_controlnet(graph: Graph) -> None:
    _mip(graph, controlled=True)


def _checkpoint(graph: Graph) -> Node:
    return graph.node("CheckpointLoaderSimple", "Checkpoint: any SD1.5", ckpt_name="v1-5-pruned-emaonly.safetensors")


@dataclass(frozen=True)
class Loaded:
    """What the graph of ELITE takes from its loaders. nodes: those; world: that they suit; strength: of the subject."""

    nodes: list[Node]
    model: Slot
    clip: Slot
    vae: Slot
    vision: Slot
    elite: Slot
    world: World
    strength: float


def _released(graph: Graph) -> Loaded:
    checkpoint = _checkpoint(graph)
    vision = graph.node("CLIPVisionLoader", "CLIP ViT-L/14", clip_name="clip-vit-large-patch14.safetensors")
    loader = graph.node("SSR_LoadELITE", "ELITE", elite_file="global_mapper.pt", local_file="local_mapper.pt")
    parts = (checkpoint[name] for name in ("model", "clip", "vae"))
    return Loaded([checkpoint, vision, loader], *parts, vision["CLIP_VISION"], loader["elite"], ELITE, 0.8)


def _built_in(graph: Graph) -> Loaded:
    mini = graph.node("SSR_LoadMini", "Models")
    parts = (mini[name] for name in ("model", "clip", "vae", "clip_vision", "elite"))
    return Loaded([mini], *parts, replace(MINI, saved="ssr_mini_elite"), 0.8)


def _elite(graph: Graph, loaded: Loaded, ones: tuple[Any, ...], placeholders: str, text: str, *told: str) -> None:
    pictures, subjects = [], []
    for number, what in enumerate(ones, start=1):
        pictures.append(reference(graph, loaded.world, f"{number} Reference and its mask", what))
        before: dict[str, Any] = {"previous": subjects[-1]["subject"]} if subjects else {}
        subjects.append(
            graph.node(
                "SSR_EncodeSubjectELITE", f"{len(ones) + number} Subject {placeholders.split(', ')[number - 1]}", "input",
                elite=loaded.elite, clip_vision=loaded.vision, image=pictures[-1]["image"], mask=pictures[-1]["mask"], **before,
            )
        )  # fmt: skip
    subject = subjects[-1]["subject"]
    next_number = 2 * len(ones) + 1
    prompt = graph.node(
        "SSR_PromptWithSubjectELITE", f"{next_number} Prompt: what to draw", "input", clip=loaded.clip, subject=subject, text=text,
        placeholder=placeholders, words=1,
    )  # fmt: skip
    apply = graph.node(
        "SSR_ApplySubjectELITE", "Apply", model=loaded.model, elite=loaded.elite, subject=subject, strength=loaded.strength
    )
    prompts, sampler, result = drawn(
        graph, loaded.world, next_number, apply["model"], loaded.clip, loaded.vae, "", prompt["conditioning"]
    )
    explained = note(graph, "A subject as a word" if len(ones) == 1 else "Two subjects as words", 190, *told)
    columns = [
        [explained, *loaded.nodes, *pictures],
        [subjects[0]],
        [apply, prompt, *prompts],
        sampler,
        *([one] for one in result),
    ]
    if len(ones) > 1:
        subjects_apart = ([one] for one in subjects)
        columns = [[*loaded.nodes, *pictures], *subjects_apart, [prompt, apply, *prompts], [explained, *sampler]]
        columns += [[one] for one in result]
    graph.columns = columns


WORD = "The *placeholder*, here **S**, stands for the subject wherever the prompt says it."
FILES = "Files: `python install.py --download --only elite clip-vision`, and any SD1.5 checkpoint."


def elite_mini(graph: Graph) -> None:
    _elite(
        graph, _built_in(graph), ((0, 3, 2),), "S", "a S in the white snow", WORD,
        "*strength* is of the tokens under the mask: at 0 the word acts alone. Mini's ELITE was trained briefly: what it is comes through, "
        "its colours in part.", MINI.about,
    )  # fmt: skip


def elite(graph: Graph) -> None:
    _elite(
        graph, _released(graph), ("cat",), "S", "a photo of a S in the snow", WORD,
        "*strength*: 0.6 obeys the prompt more, 1 keeps more of the picture, at 0 the word acts alone. The authors sample LMS, 100 steps.",
        FILES,
    )  # fmt: skip


def elite_two(graph: Graph) -> None:
    graph.widest = NARROW
    _elite(
        graph, _released(graph), ("cat", "cup"), "S, T", "a photo of a S beside a T on a beach",
        "Subject T takes subject S as *previous*, so both travel together; *placeholder* names them in that order: **S, T**.",
        "To keep them further apart: a copy of node 4 without *previous* gives T alone; then chain two Apply Subject (ELITE), one for "
        "each, with a *region*. The prompt keeps node 4.",
        FILES,
    )  # fmt: skip


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
    checkpoint = _checkpoint(graph)
    photos = [
        graph.node("LoadImage", f"1 Picture {number} of the subject", "input", image="example.png") for number in (1, 2, 3)
    ]
    two = graph.node("ImageBatch", "Pictures 1 and 2", image1=photos[0]["IMAGE"], image2=photos[1]["IMAGE"])
    three = graph.node("ImageBatch", "All pictures", image1=two["IMAGE"], image2=photos[2]["IMAGE"])
    learning, following = _learn(
        graph, replace(LASR, saved="lasr_learn"), checkpoint, three["IMAGE"], "a photo of a z on a beach", "cat",
        words="tabby cat", weights="1 2",
    )  # fmt: skip
    told = note(
        graph, "Learn a subject from pictures", 260,
        "**First choose your own pictures** in the nodes 1, 3 to 10 of one subject. *words* say what it is, *weights* a number for each "
        "word, *placeholder* a short word such as z that will stand for it.",
        "4000 steps take a while; if you stop, the same settings go on. Once it is finished, draw with **Load Subject (LASR)** (template "
        "15): Run here would learn anew. Takes 9 GB beside the models, 1.4 GB with *gradient_checkpointing*.",
    )  # fmt: skip
    graph.columns = [[checkpoint, *photos], [told, two, three], *learning, *following]


def _learned_files(graph: Graph, *files: str, placeholders: bool = True) -> list[Node]:
    """Two subjects, called z and y. placeholders: said here, else as their files say."""
    return [
        graph.node(
            "SSR_LoadSubjectLASR",
            f"{number} Subject {name}",
            "input",
            subject_file=file,
            placeholder=name if placeholders else "",
        )
        for number, (name, file) in enumerate(zip(("z", "y"), files, strict=True), start=1)
    ]


def learned_mini(graph: Graph) -> None:
    mini = graph.node("SSR_LoadMini", "Models")
    file = graph.node("SSR_LoadSubjectLASR", "1 Subject z", "input", subject_file=f"{BUILT_IN}{MINI_LEARNED}.safetensors")
    world = replace(MINI, saved="ssr_mini_learned")
    prompts, sampler, result = _drawn_with(graph, world, 2, mini, file["subject"], "a z in the white snow")
    told = note(
        graph, "A learned subject", 190,
        "**z** stands for a star that was learned of five pictures (template 13 learns one).",
        "*alpha* 0 is faster: only what was learned for good acts then.",
        MINI.about,
    )  # fmt: skip
    graph.columns = [[told, mini, file], prompts, sampler, *([one] for one in result)]


def two_learned(graph: Graph) -> None:
    graph.widest = NARROW
    checkpoint = _checkpoint(graph)
    files = [
        graph.node("SSR_LoadSubjectLASR", f"{number} Subject {name}", "input", subject_file=file, placeholder=name)
        for number, (name, file) in enumerate((("z", "cat_00001_.safetensors"), ("y", "hat_00001_.safetensors")), start=1)
    ]
    both = graph.node("SSR_CombineSubjectsLASR", "Both", subject_1=files[0]["subject"], subject_2=files[1]["subject"])
    prompts, sampler, result = _drawn_with(graph, LASR, 3, checkpoint, both["subject"], "a photo of a z with a y on a beach")
    told = note(
        graph, "Two learned subjects", 250,
        "Choose two files that **Learn Subject (LASR)** wrote, or the authors' `embeddings_gs-*.pt` in `models/ssr_lasr`.",
        "The *placeholder* of each may be any word of one token; write it where the subject belongs. For one subject connect node 1 "
        "straight to the prompt and to Apply. "
        "*alpha* 0 is faster: only what was learned for good acts then.",
    )  # fmt: skip
    graph.columns = [[told, checkpoint, *files], [both], prompts, sampler, *([one] for one in result)]


OTHERS = (
    Template("09 Two objects, SDXL (MIP)", "ssr_mip_two_objects", mip, "ssr_mini_mip_two_objects"),
    Template(
        "10 Two objects with ControlNet, SDXL (MIP)",
        "ssr_mip_two_objects_controlnet",
        mip_controlnet,
        "ssr_mini_mip_two_objects",
    ),
    Template("11 A subject as a word (ELITE)", "ssr_elite_picture_and_mask", elite, "ssr_mini_elite_picture_and_mask"),
    Template("12 Two subjects as words (ELITE)", "ssr_elite_two_subjects", elite_two, "ssr_mini_elite_picture_and_mask"),
    Template("13 Learn a subject - no download (LASR)", "ssr_mini_lasr_learn", learn_mini),
    Template("14 Learn a subject from a few pictures (LASR)", "ssr_lasr_learn", learn, "ssr_mini_lasr_learn"),
    Template("15 Two learned subjects (LASR)", "ssr_lasr_two_subjects", two_learned, "ssr_mini_lasr_learned"),
    Template("16 Try two objects - no download (MIP)", "ssr_mini_mip_two_objects", mip_mini),
    Template("17 Try a subject as a word - no download (ELITE)", "ssr_mini_elite_picture_and_mask", elite_mini),
    Template("18 Try a learned subject - no download (LASR)", "ssr_mini_lasr_learned", learned_mini),
)
