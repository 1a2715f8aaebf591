"""Load ELITE, Encode Subject (ELITE) and Prompt with Subject (ELITE)."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ..ssr_core.crop import parse_crop
from ..ssr_core.hosts.comfyui import folders
from ..ssr_core.hosts.comfyui.clip import vision_model
from ..ssr_core.hosts.comfyui.elite import HostElite, encode_prompt, load_elite
from ..ssr_core.hosts.comfyui.view import view_of_marked
from ..ssr_core.methods.elite.encode import Selection, encode_subjects
from ..ssr_core.methods.elite.framing import FRAMINGS, LARGEST_MARGIN, MARGIN
from ..ssr_core.methods.elite.subject import DEFAULT_WORDS, EliteSubjects, check_count, together
from ..ssr_core.points import parse_points
from ..ssr_core.vision import as_pictures, check_images
from . import checks, inputs, wires
from .compat import RARE, Schema

SAME_FILE = "(in the same file)"
ALIASES = ["elite", "personalization", "pseudo-word"]
MOST_WORDS = 5
"""Of the released mapper."""


class LoadELITE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = folders.elite_files()
        return Schema(
            node_id="SSR_LoadELITE",
            display_name="Load ELITE",
            category=wires.ELITE_CATEGORY,
            description="Loads ELITE: one converted file, or the two files of the official release.",
            search_aliases=ALIASES,
            inputs=[
                inputs.published(
                    "elite_file",
                    files,
                    "global_mapper.pt",
                    "A converted ELITE, or the global mapper of a pair (global_mapper.pt). Looked for in models/ssr_elite.",
                ),
                io.Combo.Input(
                    "local_file",
                    options=[SAME_FILE, *files],
                    default=SAME_FILE,
                    optional=True,
                    tooltip="The local mapper of a pair (local_mapper.pt). A converted file needs none, and global_mapper finds "
                    "local_mapper beside it by itself.",
                    **RARE,
                ),
            ],
            outputs=[
                wires.Elite.Output(display_name="elite", tooltip="For Encode Subject (ELITE) and Apply Subject (ELITE)."),
            ],
        )

    @classmethod
    def validate_inputs(cls, elite_file: Any = None, local_file: Any = SAME_FILE) -> bool | str:
        """The answer says more than that a value is not in a list."""
        if elite_file is None:  # linked: known when the node runs
            return True
        return checks.found(*(partial(folders.elite_path, name) for name in _files(elite_file, local_file)))

    @classmethod
    def execute(cls, elite_file: str, local_file: str = SAME_FILE) -> io.NodeOutput:
        elite = load_elite([folders.elite_path(name) for name in _files(elite_file, local_file)])
        return io.NodeOutput(elite, ui={"text": [_described(elite)]})

    @classmethod
    def fingerprint_inputs(cls, elite_file: str | None = None, local_file: str | None = SAME_FILE) -> Any:
        return [folders.stamp(folders.ELITE_FOLDER, name) for name in _files(elite_file, local_file)]


def _files(elite_file: str | None, local_file: str | None) -> list[Any]:
    """The files to read. The published global mapper is read with the local one beside it."""
    second = folders.local_mapper_of(elite_file) if local_file == SAME_FILE else local_file
    return [elite_file] if second is None else [elite_file, second]


def _described(elite: HostElite) -> str:
    """What was loaded, in words."""
    config = elite.config
    lines = [f"{config.words} words of each subject; {len(config.layout.layers)} layers"]
    if elite.module.local_mapper is None:
        lines.append("The global mapper alone: subjects are words, without tokens that the layers look at besides.")
    return "\n".join(lines)


class EncodeEliteSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_EncodeSubjectELITE",
            display_name="Encode Subject (ELITE)",
            category=wires.ELITE_CATEGORY,
            description="Makes a word of a picture and its mask, and tokens of what is under the mask.",
            search_aliases=[*ALIASES, *inputs.SEARCHED],
            is_output_node=True,  # so that it can run alone and show what is marked, before anything is sampled
            inputs=[
                wires.Elite.Input("elite", tooltip="From Load ELITE."),
                io.ClipVision.Input(
                    "clip_vision", tooltip="CLIP ViT-L/14 (openai/clip-vit-large-patch14) from Load CLIP Vision."
                ),
                io.Image.Input("image", tooltip="The reference. A batch makes one subject of each picture."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The object, painted: white is the object, from 0.5 on. It covers the whole reference and is resized to it. "
                    "Several masks of one picture make a subject each. Without a mask and clicks the whole picture counts as the object.",
                ),
                io.String.Input(
                    "points",
                    default="",
                    optional=True,
                    tooltip="Places in the reference that were clicked; what belongs to them joins the mask. Click on the picture "
                    'below, or write pixels: "120, 80; 140, 95".',
                ),
                io.Combo.Input(
                    "framing",
                    options=list(FRAMINGS),
                    default=FRAMINGS[0],
                    optional=True,
                    tooltip="What is seen of the reference. crop to mask: a square around the object, as in training; stretch: the whole "
                    "picture, its proportions ignored (official).",
                ),
                io.Float.Input(
                    "margin",
                    default=MARGIN,
                    min=0.0,
                    max=LARGEST_MARGIN,
                    step=0.01,
                    optional=True,
                    tooltip="Around the object, in shares of its longer side, at each side of it. For crop to mask.",
                    **RARE,
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    optional=True,
                    tooltip="Weight of this subject's tokens among several subjects. Its word always acts. Leave it at 1 for a single "
                    "subject and use Apply Subject (ELITE)'s strength.",
                    **RARE,
                ),
                wires.EliteSubject.Input(
                    "previous", optional=True, tooltip="Subjects from another node; this one is added after them."
                ),
                inputs.crop(" It goes before framing."),
            ],
            outputs=[
                wires.EliteSubject.Output(
                    display_name="subject",
                    tooltip="For Prompt with Subject (ELITE), Apply Subject (ELITE) and Save Subject (ELITE).",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        elite: HostElite,
        clip_vision: Any,
        image: Any,
        mask: Any = None,
        points: str = "",
        framing: Any = FRAMINGS[0],
        margin: float = MARGIN,
        strength: float = 1.0,
        previous: EliteSubjects = (),
        crop: str = "",
    ) -> io.NodeOutput:
        checks.choice(framing, FRAMINGS, "framing")
        strength, margin = checks.strength(strength), checks.number(margin, "margin", 0.0, LARGEST_MARGIN)
        check_images(image)
        check_count(len(previous or ()) + len(image))
        pictures = as_pictures(image)
        selection = Selection(mask, framing, margin, parse_points(points), parse_crop(crop))
        subjects = encode_subjects(elite.for_encoding(), vision_model(clip_vision), pictures, selection, strength)
        if len(pictures) < len(subjects):
            pictures *= len(subjects)  # several masks of one picture
        return io.NodeOutput(together(previous or (), subjects), ui=view_of_marked(subjects, pictures, selection.crop))


class PromptWithEliteSubject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SSR_PromptWithSubjectELITE",
            display_name="Prompt with Subject (ELITE)",
            category=wires.ELITE_CATEGORY,
            description="Encodes a prompt in which a word stands for the subject, as CLIP Text Encode does with others. Connect it to the "
            "sampler's positive input.",
            search_aliases=[*ALIASES, "prompt", "clip text encode"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of an SD1.5 checkpoint. CLIP Set Last Layer and LoRAs act as ever."),
                wires.EliteSubject.Input("subject", tooltip="One subject, or several, each with a placeholder of its own."),
                io.String.Input(
                    "text",
                    default="a photo of a S",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="What to draw. Every placeholder in it stands for its subject, once or several times. Weights and embeddings "
                    "work as in CLIP Text Encode.",
                ),
                io.String.Input(
                    "placeholder",
                    default="S",
                    optional=True,
                    tooltip="The word of the text that stands for the subject; one that is a single token, such as a letter. Capitals do "
                    "not count. For several subjects one for each, in their order, separated by commas: S, T.",
                ),
                io.Int.Input(
                    "words",
                    default=DEFAULT_WORDS,
                    min=1,
                    max=MOST_WORDS,
                    optional=True,
                    tooltip="How many of each subject's words stand there. The first says what the subject is; the others bring along what "
                    "else its picture shows, such as the background.",
                    **RARE,
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="For the sampler's positive input. Combine, areas, masks and timestep ranges are possible; concatenating and "
                    "averaging are refused.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, clip: Any, subject: EliteSubjects, text: str, placeholder: str = "S", words: int = DEFAULT_WORDS
    ) -> io.NodeOutput:
        names = checks.text(placeholder, "placeholder").replace(",", " ").split()
        words = checks.whole(words, "words", 1, MOST_WORDS)
        return io.NodeOutput(encode_prompt(clip, subject, checks.text(text, "text"), names, words))
