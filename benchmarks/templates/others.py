"""The templates of MIP and ELITE, between the same references, prompts and samplers (content.py), and the list of those with LASR's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .content import MINI, NARROW, NARROWER, REAL, Template, World, beside, checkpoint, drawn, note, reference
from .graph import Graph, Node, Slot
from .lasr import learn, learn_mini, learned_mini, two_learned

XL = replace(
    REAL, side=1024, negative="monochrome, lowres, bad anatomy, worst quality, low quality", saved="ssr_mip",
    sampling={"seed": 42, "steps": 30, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
)  # fmt: skip
ELITE = replace(
    REAL, saved="elite",
    sampling={"seed": 42, "steps": 50, "cfg": 5.0, "sampler_name": "lms", "scheduler": "normal", "denoise": 1.0},
)  # fmt: skip


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
        f"Each is drawn where the picture looks for its name. {led}Files: `python install.py --download --only mip{more}` in the "
        "pack's folder (ComfyUI itself downloads no `.bin`). `model_sdxl_plus.bin` wants CLIP ViT-H and a strength of 0.65.",
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
    apart = beside(MINI, [mini], pictures, objects)
    graph.columns = [*apart, [apply, *prompts], [told, *sampler], *([one] for one in result)]


def mip(graph: Graph) -> None:
    _mip(graph, controlled=False)


def mip_controlnet(graph: Graph) -> None:
    _mip(graph, controlled=True)


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
    base = checkpoint(graph)
    vision = graph.node("CLIPVisionLoader", "CLIP ViT-L/14", clip_name="clip-vit-large-patch14.safetensors")
    loader = graph.node("SSR_LoadELITE", "ELITE", elite_file="global_mapper.pt", local_file="local_mapper.pt")
    parts = (base[name] for name in ("model", "clip", "vae"))
    return Loaded([base, vision, loader], *parts, vision["CLIP_VISION"], loader["elite"], ELITE, 0.8)


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
FILES = "Files: `python install.py --download --only elite clip-vision` in the pack's folder, and any SD1.5 checkpoint."


def elite_mini(graph: Graph) -> None:
    _elite(
        graph, _built_in(graph), ((1, 3, 2),), "S", "a S in the white snow", WORD,
        "*strength* is of the tokens under the mask: at 0 the word acts alone; more of it keeps more of the look, and obeys less of what "
        "the prompt says about it.", MINI.about,
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
