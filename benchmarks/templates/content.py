"""What the templates say and do. Each is a function from an empty Graph; those of the SSR-Encoder are made in two worlds, Mini's and the
real one, from the same lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .graph import Graph, Node, Slot


@dataclass(frozen=True)
class World:
    """Which models a template runs on, and what suits them."""

    name: str
    side: int
    strength: float
    negative: str
    saved: str
    sampling: Mapping[str, Any]
    words: Mapping[str, Any]
    about: str

    @property
    def is_mini(self) -> bool:
        return self.name == "mini"


class Models(NamedTuple):
    """Outputs of the nodes that load."""

    nodes: list[Node]
    model: Slot
    clip: Slot
    vae: Slot
    vision: Slot
    encoder: Slot


MINI = World(
    "mini", 128, 1.0, "", "ssr_mini",
    {"seed": 42, "steps": 20, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
    {
        "text": ((1, 3, 1), "cat", "a cat in the desert"),
        "mask": ((0, 3, 2), "", "a rocket on the blue sea"),
        "two": (((3, 2, 1), "boat"), ((6, 2, 1), "star"), "a boat and a star on a green meadow"),
        "regions": "a boat and a star on a green meadow",
    },
    "Runs in seconds on tiny models that come with the pack and know a drawn world: its words are in the help of **Load SSR Mini**.",
)  # fmt: skip
REAL = World(
    "real", 512, 0.65, "bad quality", "ssr",
    {"seed": 42, "steps": 30, "cfg": 5.0, "sampler_name": "uni_pc_bh2", "scheduler": "normal", "denoise": 1.0},
    {
        "text": ("cup", "cup", "a photograph of a cup on a beach, evening light"),
        "mask": ("spoon", "a spoon beside a cup of coffee", "a photograph of a spoon in the snow"),
        "two": (("cup", "cup"), ("cat", "cat"), "a photograph of a cat beside a cup on a beach"),
        "regions": "a photograph of a cup on the left and a cat on the right, on a beach",
    },
    "For your own picture put **Load Image** in place of the reference. Files: `python install.py --download` in the pack's folder, "
    "or ComfyUI's list of missing models.",
)  # fmt: skip

NOTE = 300
NARROW = 250
"""Of nodes in templates of two subjects, which have more columns."""
NARROWER = 230
"""Of nodes in templates with one column more than those."""


def note(graph: Graph, title: str, height: int, *paragraphs: str) -> Node:
    first, *others = paragraphs
    return graph.node("MarkdownNote", title, "note", (NOTE, height), text="\n\n".join((f"### {first}", *others)))


def checkpoint(graph: Graph) -> Node:
    return graph.node("CheckpointLoaderSimple", "Checkpoint: any SD1.5", ckpt_name="v1-5-pruned-emaonly.safetensors")


def models(graph: Graph, world: World) -> Models:
    if world.is_mini:
        mini = graph.node("SSR_LoadMini", "Models")
        return Models([mini], mini["model"], mini["clip"], mini["vae"], mini["clip_vision"], mini["ssr_encoder"])
    loader, ssr = checkpoint(graph), graph.node("SSR_LoadModels", "SSR models")
    return Models([loader, ssr], *(loader[name] for name in ("model", "clip", "vae")), ssr["clip_vision"], ssr["ssr_encoder"])


def reference(graph: Graph, world: World, title: str, what: Any) -> Node:
    if world.is_mini:
        scene, objects, marked = what
        return graph.node("SSR_MiniScene", title, "input", scene=scene, objects=objects, background="any", marked=marked)
    return graph.node("SSR_ExamplePicture", title, "input", marked=what)


def encoded(graph: Graph, loaded: Models, title: str, picture: Node, **given: Any) -> Node:
    return graph.node(
        "SSR_EncodeSubject", title, "input", ssr_encoder=loaded.encoder, clip=loaded.clip, clip_vision=loaded.vision,
        image=picture["image"], **given,
    )  # fmt: skip


def drawn(
    graph: Graph,
    world: World,
    number: int,
    model: Slot,
    clip: Slot,
    vae: Slot,
    text: str,
    positive: Slot | None = None,
    **sampling: Any,
) -> tuple[list[Node], list[Node], list[Node]]:
    """Prompts; the sampler; and what follows it, from left to right. positive: of a node that encodes the prompt itself."""
    prompt = None if positive else graph.node("CLIPTextEncode", f"{number} Prompt: what to draw", "input", clip=clip, text=text)
    negative = graph.node("CLIPTextEncode", "Negative prompt", None, (280, 90), clip=clip, text=world.negative)
    latent = graph.node("EmptyLatentImage", "Size", width=world.side, height=world.side, batch_size=1)
    sampler = graph.node(
        "KSampler", model=model, positive=positive or prompt["CONDITIONING"], negative=negative["CONDITIONING"],
        latent_image=latent["LATENT"], **{**world.sampling, **sampling},
    )  # fmt: skip
    decode = graph.node("VAEDecode", samples=sampler["LATENT"], vae=vae)
    save = graph.node(
        "SaveImage", f"{number + 1} The new picture", "output", images=decode["IMAGE"], filename_prefix=world.saved
    )
    return [*([prompt] if prompt else []), negative, latent], [sampler], [decode, save]


def text_query(graph: Graph, world: World) -> None:
    loaded = models(graph, world)
    what, query, text = world.words["text"]
    picture = reference(graph, world, "1 Reference", what)
    subject = encoded(graph, loaded, "2 What to take from it", picture, query=query)
    apply = graph.node(
        "SSR_ApplySubject", model=loaded.model, ssr_encoder=loaded.encoder, subject=subject["subject"], strength=world.strength
    )
    prompts, sampler, result = drawn(graph, world, 3, apply["model"], loaded.clip, loaded.vae, text)
    told = note(
        graph, "A subject by words", 190,
        "Press **Run**: the new picture shows what *query* names in the reference, with its look.",
        "**Look** in node 2 shows where the query looks. Write another word there, or click on what you mean; name it in the prompt too.",
        world.about,
    )  # fmt: skip
    graph.columns = [[told, *loaded.nodes, picture], [subject], [apply, *prompts], sampler, *([one] for one in result)]


def mask_query(graph: Graph, world: World) -> None:
    loaded = models(graph, world)
    what, query, text = world.words["mask"]
    picture = reference(graph, world, "1 Reference and its mask", what)
    subject = encoded(
        graph,
        loaded,
        "2 What the mask marks",
        picture,
        mask=picture["mask"],
        query=query,
        mask_weight=3.0 if world.is_mini else 1.0,
    )
    apply = graph.node(
        "SSR_ApplySubject", model=loaded.model, ssr_encoder=loaded.encoder, subject=subject["subject"],
        strength=1.0 if world.is_mini else 0.5,
    )  # fmt: skip
    prompts, sampler, result = drawn(graph, world, 3, apply["model"], loaded.clip, loaded.vae, text)
    told = note(
        graph, "A subject by mask", 210,
        "White is taken. For a mask of your own: right-click a **Load Image** node → *Open in MaskEditor*, paint, and connect its MASK.",
        "*query*: beside a mask a short caption of the whole picture, or nothing. **mask_weight** (an advanced input) 1 is official, "
        "5 lets practically nothing from outside through.",
        world.about,
    )  # fmt: skip
    graph.columns = [[told, *loaded.nodes, picture], [subject], [apply, *prompts], sampler, *([one] for one in result)]


def _two(graph: Graph, world: World, loaded: Models, together: bool) -> tuple[list[Node], list[Node]]:
    """References and subjects. together: the second subject takes the first along."""
    ones = world.words["two"][:2]
    pictures = [reference(graph, world, f"{number} Reference {number}", what) for number, (what, _) in enumerate(ones, start=1)]
    subjects: list[Node] = []
    for number, (picture, (_, query)) in enumerate(zip(pictures, ones, strict=True), start=1):
        before = {"previous": subjects[-1]["subject"]} if subjects and together else {}
        subjects.append(encoded(graph, loaded, f"3 Subject {number}", picture, query=query, **before))
    return pictures, subjects


def beside(world: World, models: list[Node], pictures: list[Node], taken: list[Node]) -> list[list[Node]]:
    """Columns of two references and what is taken from each. Mini's references grow with the picture that they show: two of them and the
    models are more than a column holds."""
    one, two = pictures
    first, second = taken
    return [[*models, one], [first, two], [second]] if world.is_mini else [[*models, one, two], [first], [second]]


def two_subjects(graph: Graph, world: World) -> None:
    graph.widest = NARROW
    loaded = models(graph, world)
    pictures, subjects = _two(graph, world, loaded, together=True)
    apply = graph.node(
        "SSR_ApplySubjectAdvanced", "4 Both", model=loaded.model, ssr_encoder=loaded.encoder, subject=subjects[1]["subject"],
        strength=world.strength, combine="joint",
    )  # fmt: skip
    prompts, sampler, result = drawn(graph, world, 5, apply["model"], loaded.clip, loaded.vae, world.words["two"][2])
    told = note(
        graph, "Two subjects", 190,
        "Each reference has a query of its own; subject 2 takes subject 1 along as *previous*.",
        "*combine*: `joint` lets them compete for every place, `separate` adds each one's effect, `by word` shares places out by word.",
        world.about,
    )  # fmt: skip
    graph.columns = [
        *beside(world, loaded.nodes, pictures, subjects),
        [apply, *prompts],
        [told, *sampler],
        *([one] for one in result),
    ]


def regions(graph: Graph, world: World) -> None:
    graph.widest = NARROW
    loaded = models(graph, world)
    pictures, subjects = _two(graph, world, loaded, together=False)
    side, soft, reach = world.side, world.side * 3 // 16, world.side * 19 // 32
    nothing = graph.node("SolidMask", "Nothing", value=0.0, width=side, height=side)
    half = graph.node("SolidMask", "A half and its border", value=1.0, width=reach, height=side)
    feather = graph.node("FeatherMask", mask=half["MASK"], left=0, top=0, right=soft, bottom=0)
    left = graph.node("MaskComposite", "Left", destination=nothing["MASK"], source=feather["MASK"], x=0, y=0, operation="add")
    right = graph.node("InvertMask", "Right", mask=left["MASK"])
    model, applied = loaded.model, []
    for number, (subject, place, where) in enumerate(zip(subjects, (left, right), ("left", "right"), strict=True), start=1):
        applied.append(
            graph.node(
                "SSR_ApplySubjectAdvanced", f"4 Subject {number}, {where}", model=model, ssr_encoder=loaded.encoder,
                subject=subject["subject"], strength=world.strength, region=place["MASK"],
            )
        )  # fmt: skip
        model = applied[-1]["model"]
    prompts, sampler, result = drawn(
        graph, world, 5, model, loaded.clip, loaded.vae, world.words["regions"], seed=49 if world.is_mini else 42
    )
    told = note(
        graph, "Each subject in its place", 180,
        "One **Apply Subject (Advanced)** for each subject, each with a *region*: white is where it may act. Masks from anywhere will do.",
        "Name both subjects in the prompt.",
        world.about,
    )  # fmt: skip
    if world.is_mini:
        for picture in pictures:  # there is no room for more; with its picture it grows a little over what is below
            picture.size = (picture.size[0], 480)
    graph.columns = [
        [*loaded.nodes, *pictures], [subjects[0], half, nothing], [subjects[1], feather], [applied[0], left, right],
        [applied[1], *prompts], [told, *sampler, result[0]], [result[1]],
    ]  # fmt: skip


class Template(NamedTuple):
    """name: of its file, which the template browser shows. formerly: the name it had, which still opens it; of a new one, any. shown: a
    Mini template whose result stands in its thumbnail. app: widgets that the app mode shows, each by its node's title and its name."""

    name: str
    formerly: str
    make: Callable[[Graph], None]
    shown: str | None = None
    app: tuple[tuple[str, str], ...] = ()


def _in(world: World, make: Callable[[Graph, World], None]) -> Callable[[Graph], None]:
    return lambda graph: make(graph, world)


SSR = (
    Template(
        "00 Try it as an app - no download.app", "ssr_mini_app", _in(MINI, text_query), None,
        (("1 Reference", "scene"), ("2 What to take from it", "query"), ("3 Prompt: what to draw", "text"), ("KSampler", "seed")),
    ),
    Template("01 Try it - no download", "ssr_mini_text_query", _in(MINI, text_query)),
    Template("02 Try a mask - no download", "ssr_mini_mask_query", _in(MINI, mask_query)),
    Template("03 Try two subjects - no download", "ssr_mini_two_subjects", _in(MINI, two_subjects)),
    Template("04 Try a place for each subject - no download", "ssr_mini_regions", _in(MINI, regions)),
    Template("05 A subject by words", "ssr_text_query", _in(REAL, text_query), "ssr_mini_text_query"),
    Template("06 A subject by a mask", "ssr_mask_query", _in(REAL, mask_query), "ssr_mini_mask_query"),
    Template("07 Two subjects", "ssr_two_subjects", _in(REAL, two_subjects), "ssr_mini_two_subjects"),
    Template("08 Two subjects, each in its place", "ssr_regions", _in(REAL, regions), "ssr_mini_regions"),
)  # fmt: skip
