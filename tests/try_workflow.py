"""Run the text-query example in a real ComfyUI on generated weights: python tests/try_workflow.py [--picture reference.jpg]

Writes weights at SD1.5's real shapes (2.8 GB, in a folder that is removed again unless --keep names one), starts the ComfyUI that the
host tests find, and queues the workflow over HTTP. With generated weights the picture is noise: what this shows is that the whole
chain runs here. With real weights in ComfyUI, open the same workflow from its template browser.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from PIL import Image
from support import comfy_host, golden, sd15
from support.server import running
from support.workflow import to_prompt

REFERENCE = "reference.png"
GENERATED = {
    "v1-5-pruned-emaonly.safetensors": sd15.CHECKPOINT,
    "clip-vit-large-patch14.safetensors": sd15.CLIP_VISION,
    "ssr_aligner.safetensors": sd15.ALIGNER,
    "ssr_layers.safetensors": sd15.LAYERS,
    "example.png": REFERENCE,
}
"""Names in the example workflows -> what stands in for them here."""


def with_generated_weights(graph: dict, steps: int, side: int) -> dict:
    """A prompt of an example workflow, small and quick, on the generated files."""
    for node in graph.values():
        node["inputs"] = {name: GENERATED.get(str(value), value) for name, value in node["inputs"].items()}
        if node["class_type"] == "KSampler":
            node["inputs"]["steps"] = steps
        if node["class_type"] == "EmptyLatentImage":
            node["inputs"].update(width=side, height=side)
    return graph


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path, help="reference picture; default: a drawn one")
    parser.add_argument("--query", default="face", help='what to take from it (default "face")')
    parser.add_argument("--out", type=Path, default=Path("ssr_try"), help="folder for the pictures (default ssr_try)")
    parser.add_argument("--keep", type=Path, help="keep weights and server folder here, for the next time")
    options = parser.parse_args()
    if reason := comfy_host.missing():
        sys.exit(reason)

    base = options.keep or Path(tempfile.mkdtemp(prefix="ssr-encoder-"))
    try:
        if not (base / "models" / "checkpoints" / sd15.CHECKPOINT).exists():
            sys.stdout.write("Writing generated weights (2.8 GB) ...\n")
            sd15.write(base / "models")
        (base / "input").mkdir(parents=True, exist_ok=True)
        drawn = Image.fromarray(golden.golden_inputs.image(640, 480, 0))
        (Image.open(options.picture) if options.picture else drawn).convert("RGB").save(base / "input" / REFERENCE)
        workflow = json.loads((comfy_host.PACK / "example_workflows" / "ssr_text_query.json").read_text())
        sys.stdout.write("Starting ComfyUI ...\n")
        with running(base) as server:
            graph = with_generated_weights(to_prompt(workflow, server.get("/object_info")), steps=2, side=256)
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
    sys.stdout.write("The weights were generated, so the new picture is noise and the map looks nowhere in particular.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
