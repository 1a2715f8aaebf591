"""Run a method's example in a real ComfyUI on generated weights: python tests/try_workflow.py [--method elite] [--picture reference.jpg]

Writes weights at the base model's real shapes (SD1.5: 2.8 GB, with ELITE: 3.1 GB, SDXL: 9.4 GB; in a folder that is removed again
unless --keep names one), starts the ComfyUI that the host tests find, and queues the workflow over HTTP. With generated weights the
picture is noise: what this shows is that the whole chain runs here. With real weights in ComfyUI, open the same workflow from its
template browser.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from PIL import Image
from support import comfy_host, golden, sd15, sd15_elite, sdxl
from support.server import running
from support.templates import path_of
from support.workflow import to_prompt

REFERENCE = "reference.png"
GENERATED_BASE = {
    "v1-5-pruned-emaonly.safetensors": sd15.CHECKPOINT,
    "clip-vit-large-patch14.safetensors": sd15.CLIP_VISION,
    "example.png": REFERENCE,
}
GENERATED = {**GENERATED_BASE, "ssr_aligner.safetensors": sd15.ALIGNER, "ssr_layers.safetensors": sd15.LAYERS}
"""Names in the example workflows for SD1.5 -> what stands in for them here."""
GENERATED_ELITE = {**GENERATED_BASE, **{name: name for name in (sd15_elite.GLOBAL, sd15_elite.LOCAL)}}
"""Those of ELITE, whose files are generated under their published names."""
GENERATED_XL = {
    "sd_xl_base_1.0.safetensors": sdxl.CHECKPOINT,
    "CLIP-ViT-bigG-14-laion2B-39B-b160k.safetensors": sdxl.CLIP_VISION,
    "model_sdxl.bin": sdxl.ADAPTER,
    "example.png": REFERENCE,
}
"""Those for SDXL, with the adapter's other variant, whose vision model is a third of the size."""


class Example(NamedTuple):
    """A method's example workflow, the weights that it runs on here, and flags of the host for them."""

    workflow: str
    weights: ModuleType
    generated: Mapping[str, str]
    side: int
    flags: tuple[str, ...] = ()

    def missing_in(self, models: Path) -> bool:
        """Whether a folder of models lacks one of the generated files."""
        return any(next(models.rglob(name), None) is None for name in set(self.generated.values()) - {REFERENCE})


BF16 = ("--bf16-unet", "--bf16-text-enc", "--bf16-vae")
EXAMPLES = {
    "ssr": Example("ssr_text_query", sd15, GENERATED, 256),
    "mip": Example("ssr_mip_two_objects", sdxl, GENERATED_XL, 512, BF16),
    "elite": Example("ssr_elite_picture_and_mask", sd15_elite, GENERATED_ELITE, 512, BF16),
}


def with_generated_weights(graph: dict, steps: int, side: int, generated: Mapping[str, str] = GENERATED) -> dict:
    """A prompt of an example workflow, small and quick, on the generated files."""
    for node in graph.values():
        node["inputs"] = {name: generated.get(str(value), value) for name, value in node["inputs"].items()}
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = steps
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"].update(width=side, height=side)
    return graph


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=EXAMPLES, default="ssr", help="whose example to run (default ssr)")
    parser.add_argument("--picture", type=Path, help="reference picture; default: a drawn one")
    parser.add_argument("--query", default="face", help='what to take from it (default "face")')
    parser.add_argument("--out", type=Path, default=Path("ssr_try"), help="folder for the pictures (default ssr_try)")
    parser.add_argument("--keep", type=Path, help="keep weights and server folder here, for the next time")
    options = parser.parse_args()
    if reason := comfy_host.missing():
        sys.exit(reason)

    example = EXAMPLES[options.method]
    base = options.keep or Path(tempfile.mkdtemp(prefix="ssr-encoder-"))
    try:
        if example.missing_in(base / "models"):
            sys.stdout.write(f"Writing generated weights ({example.weights.BYTES}) ...\n")
            # In a process of its own, which gives back the memory that they took.
            writer = multiprocessing.get_context("spawn").Process(target=example.weights.write, args=(base / "models",))
            writer.start()
            writer.join()
            if writer.exitcode:
                sys.exit("The weights could not be written.")
        (base / "input").mkdir(parents=True, exist_ok=True)
        drawn = Image.fromarray(golden.golden_inputs.image(640, 480, 0))
        (Image.open(options.picture) if options.picture else drawn).convert("RGB").save(base / "input" / REFERENCE)
        workflow = json.loads(path_of(example.workflow).read_text())
        sys.stdout.write("Starting ComfyUI ...\n")
        with running(base, *example.flags) as server:
            prompt = to_prompt(workflow, server.get("/object_info"))
            graph = with_generated_weights(prompt, 2, example.side, example.generated)
            for node in graph.values():
                if node["class_type"] == "SSR_EncodeSubject":
                    node["inputs"]["query"] = options.query
            outputs = server.run(graph)["outputs"]
        options.out.mkdir(parents=True, exist_ok=True)
        for output in outputs.values():
            for picture in output.get("images", []):
                source = base / picture["type"] / picture["subfolder"] / picture["filename"]
                sys.stdout.write(f"{shutil.copy(source, options.out)}\n")
    finally:
        if not options.keep:
            shutil.rmtree(base, ignore_errors=True)
    sys.stdout.write("The weights were generated, so the new picture is noise and a map looks nowhere in particular.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
