"""Example workflows under the names that they had: links and scripts that ask for those still get them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "example_workflows"
FORMERLY = {
    "ssr_mini_text_query": "01 Try it - no download",
    "ssr_mini_mask_query": "02 Try a mask - no download",
    "ssr_mini_two_subjects": "03 Try two subjects - no download",
    "ssr_mini_regions": "04 Try a place for each subject - no download",
    "ssr_text_query": "05 A subject by words",
    "ssr_mask_query": "06 A subject by a mask",
    "ssr_two_subjects": "07 Two subjects",
    "ssr_regions": "08 Two subjects, each in its place",
    "ssr_mip_two_objects": "09 Two objects, SDXL (MIP)",
    "ssr_mip_two_objects_controlnet": "10 Two objects with ControlNet, SDXL (MIP)",
    "ssr_elite_picture_and_mask": "11 A subject as a word (ELITE)",
    "ssr_elite_two_subjects": "12 Two subjects as words (ELITE)",
    "ssr_mini_lasr_learn": "13 Learn a subject - no download (LASR)",
    "ssr_lasr_learn": "14 Learn a subject from a few pictures (LASR)",
    "ssr_lasr_two_subjects": "15 Two learned subjects (LASR)",
    "ssr_mini_mip_two_objects": "16 Try two objects - no download (MIP)",
    "ssr_mini_elite_picture_and_mask": "17 Try a subject as a word - no download (ELITE)",
    "ssr_mini_lasr_learned": "18 Try a learned subject - no download (LASR)",
}


def serve_former_names() -> None:
    """Beside the host's own addresses of this pack's templates, which are by file; read only, and no part of an address is a path.
    Without a server, as in tests, there is nobody to ask."""
    host = sys.modules.get("server")
    server = getattr(getattr(host, "PromptServer", None), "instance", None)
    if server is None or host is None:
        return
    known = {getattr(route, "path", None) for route in server.routes}
    for former, name in FORMERLY.items():
        for suffix in (".json", ".jpg"):
            path = f"/workflow_templates/{FOLDER.parent.name}/{former}{suffix}"
            if path not in known:  # a host may ask a pack for its nodes more than once
                server.routes.get(path)(_giving(host, FOLDER / f"{name}{suffix}"))


def _giving(host: Any, file: Path) -> Any:
    async def give(request: Any) -> Any:
        return host.web.FileResponse(file)

    return give
