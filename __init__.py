"""ComfyUI-SSR-Encoder: subject-driven image generation as ComfyUI nodes. This file is what ComfyUI imports, and no more."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():  # type: ignore[no-untyped-def]  # the return type would import the host's API too early
    """Called by ComfyUI once the server is up; heavy imports wait until then."""
    from .nodes import Extension

    return Extension()
