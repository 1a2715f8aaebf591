"""Model folders: models/ssr_encoder, whatever extra_model_paths.yaml adds to it, and models/ssr of the older port."""

from __future__ import annotations

import os

import folder_paths

FOLDER = "ssr_encoder"
OLDER_PORT_FOLDER = "ssr"
EXTENSIONS = {".safetensors", ".sft", ".bin", ".pt", ".pth", ".ckpt"}


def register() -> None:
    """Tell the host about the folders. Keeps entries that extra_model_paths.yaml made before packs were loaded."""
    known: list[str] = []
    extensions = set(EXTENSIONS)
    if FOLDER in folder_paths.folder_names_and_paths:
        paths, filters = folder_paths.folder_names_and_paths[FOLDER]
        known, extensions = list(paths), extensions | set(filters)
    for name in (FOLDER, OLDER_PORT_FOLDER):
        default = os.path.join(folder_paths.models_dir, name)
        if default not in known:
            known.append(default)
    folder_paths.folder_names_and_paths[FOLDER] = (known, extensions)


def files() -> list[str]:
    return folder_paths.get_filename_list(FOLDER)


def path_of(name: str) -> str:
    """Full path of a listed file. Raises FileNotFoundError that says where was looked and what to do."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise FileNotFoundError(
            f'There is no SSR-Encoder file "{name}" in {places}. Run "python install.py --download" in the pack\'s folder, or put '
            "the files there by hand and press R to refresh (weights_manifest.json lists them)."
        )
    return path
