"""`ssr-encoder generate`: pictures of what is shown in one's own references, with any Stable Diffusion 1.x or XL, or with Mini.

The SSR-Encoder takes what queries or masks select in a reference each; the MIP-Adapter takes objects, of a name and some pictures each;
ELITE makes a word of the prompt of each reference and its mask. LASR looks at none: it draws subjects that were learned before (learn.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..methods.elite.framing import FRAMINGS
from ..methods.mip.objects import MERGES
from ..methods.ssr.subject import SCALINGS
from ..samplers import SAMPLERS
from ..schedule import LAYER_PRESETS
from ..vision import FITS
from . import devices, numbers
from .commands import Commands
from .parsing import Help

METHODS = ("ssr", "mip", "elite", "lasr")


def add(commands: Commands) -> None:
    generate = commands.add_parser(
        "generate",
        help="draw what your own pictures show, with real models or the built-in ones",
        formatter_class=Help,
    )
    models = generate.add_argument_group("models")
    models.add_argument("--method", choices=METHODS, help="default: what the encoder's file is of; with --subject, lasr")
    models.add_argument("--model", default="mini", help='diffusers folder of Stable Diffusion 1.x or XL, or "mini"')
    models.add_argument(
        "--encoder",
        nargs="+",
        action="extend",
        type=Path,
        help="SSR-Encoder file or the official pair, MIP-Adapter file, or ELITE's one or two; Mini brings each",
    )
    models.add_argument(
        "--vision-encoder",
        help="folder of the CLIP vision model: openai/clip-vit-large-patch14, or the MIP-Adapter's; Mini brings its own",
    )
    models.add_argument("--controlnet", help="diffusers folder of a ControlNet; needs --control-image")
    models.add_argument("--control-image", type=Path, help="what the ControlNet follows, already processed (depth, edges, ...)")
    models.add_argument(
        "--controlnet-sees-subject", action="store_true", help="show it the subject's tokens too, as the official code does"
    )
    models.add_argument("--motion-adapter", help="diffusers folder of an AnimateDiff motion adapter; writes an animation")
    models.add_argument("--device", type=devices.name, default="auto", help="cuda, mps, cpu")
    models.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), default="fp32", help="precision of the models")

    subject = generate.add_argument_group("subjects, one of each per reference (LASR: per learned subject), in the same order")
    subject.add_argument(
        "--reference",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        help="picture(s) to take subjects from; all but LASR need one",
    )
    subject.add_argument(
        "--subject",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        help="LASR: file(s) of learned subjects, of ssr-encoder learn or of LASR's authors; Mini brings one",
    )
    subject.add_argument(
        "--query", nargs="+", action="extend", default=[], help='SSR: words that select the subject; "" for none'
    )
    subject.add_argument(
        "--name",
        nargs="+",
        action="extend",
        default=[],
        help="MIP: what each picture shows, in a word or two (default: the file's name); pictures of one name are one object; ELITE: the "
        'word that each is in the prompt (default, of one: "S"); LASR: the same, one token (default: as the file says)',
    )
    subject.add_argument(
        "--mask",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        help="white where the subject is; of a cut-out, what is opaque (ELITE's default: <reference>_bg.png, where it is there)",
    )
    subject.add_argument(
        "--scale",
        nargs="+",
        action="extend",
        type=numbers.strength,
        default=[],
        help="strength of each subject or object among several (default 1); LASR: on top of what its file says",
    )
    subject.add_argument(
        "--mask-weight", type=numbers.strength, default=1.0, help="SSR: how strictly a mask selects; 5 is near exclusive"
    )
    subject.add_argument("--fit", choices=FITS, default=FITS[0], help="how pictures that are not square meet the encoder")
    subject.add_argument(
        "--framing",
        choices=FRAMINGS,
        help=f"ELITE: what of a reference is seen (default: {FRAMINGS[0]}; stretch is what its authors do)",
    )
    subject.add_argument("--words", type=numbers.words, help="ELITE: how many vectors stand for each word (default: 1)")
    subject.add_argument("--null-query", default="", help="SSR: query of the unconditional side")

    picture = generate.add_argument_group("pictures")
    picture.add_argument("--prompt", required=True)
    picture.add_argument("--negative", help="negative prompt (default: none; MIP: its authors')")
    picture.add_argument(
        "--strength",
        type=numbers.strength,
        help="of all subjects together (default: 0.65, Mini 1; MIP 0.75, with a resampler 0.65; ELITE 0.8); LASR: alpha, the share of the "
        "adaptive part, 0 to 1 (default: what the last subject was learned for)",
    )
    picture.add_argument(
        "--combine",
        choices=MERGES,
        help="one softmax over all subjects, one each, or places shared out by word, gated or not (default: joint; MIP: gated)",
    )
    picture.add_argument("--subject-scaling", choices=SCALINGS, default=SCALINGS[0], help="SSR: what --scale multiplies")
    picture.add_argument(
        "--layers",
        choices=LAYER_PRESETS,
        default="all",
        help="which part of the UNet sees the subjects; LASR: where the adaptive part acts",
    )
    picture.add_argument("--seed", type=numbers.seed, default=0, help="of the first picture; the others follow")
    picture.add_argument("--count", type=numbers.pictures, default=1, help="how many pictures")
    picture.add_argument("--steps", type=numbers.steps, help="of the sampler (default: 30, ELITE 100, LASR 50)")
    picture.add_argument("--guidance", type=numbers.guidance, default=5.0, help="of the prompt; 1 switches it off")
    picture.add_argument(
        "--sampler", choices=SAMPLERS, help="default: unipc; ancestral for motion; MIP: euler; ELITE: lms; LASR: ddim"
    )
    picture.add_argument("--size", type=numbers.size, help="WIDTHxHEIGHT (default: 512x512, XL 1024x1024, Mini 128x128)")
    picture.add_argument("--frames", type=numbers.frames, help="of an animation (default: 16)")
    picture.add_argument("--out", type=Path, default=Path("results"), help="folder for the pictures")
    picture.add_argument(
        "--maps", action="store_true", help="also write what each query selects, or what is seen of each object"
    )
    generate.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from . import drawing  # needs diffusers

    _check_companions(options)
    for path in drawing.run(options):
        print(path)
    return 0


def _check_companions(options: argparse.Namespace) -> None:
    """Refuse options that would have no effect beside the others."""
    if (options.controlnet is None) != (options.control_image is None):
        raise ValueError("--controlnet and --control-image go together.")
    if options.controlnet_sees_subject and options.controlnet is None:
        raise ValueError("--controlnet-sees-subject needs a --controlnet.")
    if options.controlnet is not None and options.motion_adapter is not None:
        raise ValueError("--controlnet and --motion-adapter cannot be used together. Leave one of them out.")
    if options.frames is not None and options.motion_adapter is None:
        raise ValueError("--frames needs a --motion-adapter, which makes an animation; for more pictures give --count.")
