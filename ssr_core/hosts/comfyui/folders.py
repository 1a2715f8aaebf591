"""Where files are: models/ssr_encoder (and whatever extra_model_paths.yaml adds, and models/ssr of the older port) for
encoders; output/, input/ and models/ssr_subjects for subjects; output/, input/ and models/ssr_lasr for learned ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import folder_paths

FOLDER = "ssr_encoder"
OLDER_PORT_FOLDER = "ssr"
SUBJECTS = "ssr_subjects"
LEARNED = "ssr_lasr"
EXTENSIONS = {".safetensors", ".sft", ".bin", ".pt", ".pth", ".ckpt"}

PAIRS = {"ssr_aligner": "ssr_layers", "pytorch_model": "pytorch_model_1", "model": "model_1"}
PAIRS |= {second: first for first, second in PAIRS.items()}
"""File names, without their suffix, of the two halves of a published encoder."""


def register() -> None:
    """Make our folders known to the host. Keeps entries that extra_model_paths.yaml made before packs were loaded."""
    models = folder_paths.models_dir
    _add(FOLDER, [os.path.join(models, name) for name in (FOLDER, OLDER_PORT_FOLDER)], EXTENSIONS)
    places = [folder_paths.get_output_directory(), folder_paths.get_input_directory(), models]
    for name, extensions in ((SUBJECTS, {".safetensors"}), (LEARNED, {".safetensors", ".pt"})):
        _add(name, [os.path.join(place, name) for place in places], extensions)


def _add(name: str, defaults: list[str], extensions: set[str]) -> None:
    known, filters = folder_paths.folder_names_and_paths.get(name, ([], set()))
    paths = [*known, *(path for path in defaults if path not in known)]
    folder_paths.folder_names_and_paths[name] = (paths, extensions | set(filters))


def files() -> list[str]:
    return folder_paths.get_filename_list(FOLDER)


def path_of(name: str) -> str:
    """Full path of a listed file. Raises FileNotFoundError that says where it was looked for and what to do."""
    remedy = (
        'Run "python install.py --download" in the pack\'s folder, or put the files there by hand and press R to refresh '
        "(weights_manifest.json lists them)."
    )
    return _found(FOLDER, name, "There is no SSR-Encoder file", remedy)


def partner_of(name: str | None) -> str | None:
    """The listed file that holds the other half of a pair, by the names that pairs are published under."""
    if not name:  # the input is linked: not known before the node runs
        return None
    folder, _, file = name.replace("\\", "/").rpartition("/")
    stem, dot, suffix = file.rpartition(".")
    other = PAIRS.get(stem)
    wanted = f"{folder}/{other}{dot}{suffix}".lstrip("/")
    return next((listed for listed in files() if other and listed.replace("\\", "/") == wanted), None)


def subject_files() -> list[str]:
    return folder_paths.get_filename_list(SUBJECTS)


def subject_path(name: str) -> Path:
    return Path(_found(SUBJECTS, name, "There is no subject file", "Save one with Save Subject, then press R to refresh."))


def learned_files() -> list[str]:
    return folder_paths.get_filename_list(LEARNED)


def learned_path(name: str) -> Path:
    remedy = "Save one with Save Subject (LASR), or put a file there by hand and press R to refresh."
    return Path(_found(LEARNED, name, "There is no learned subject", remedy))


def _found(folder: str, name: str, missing: str, remedy: str) -> str:
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(folder))
        raise FileNotFoundError(f'{missing} "{name}" in {places}. {remedy}')
    return path


def hidden(folder: str, name: str) -> list[str]:
    """Files of that name that are not read, since a folder before theirs has one too."""
    places = [os.path.join(place, name) for place in folder_paths.get_folder_paths(folder)]
    return [place for place in places if os.path.isfile(place)][1:]


def save_new(folder: str, prefix: str, save: Callable[[Path], None]) -> str:
    """Save under a free name below output/<folder>, and say which. The host refuses prefixes that leave the output folder.

    save: raises FileExistsError where another was faster.
    """
    taken = None
    while True:
        path, name = _new_file(folder, prefix)
        try:
            save(path)
            return name
        except FileExistsError:
            if path == taken:
                raise
            taken = path


def _new_file(kind: str, prefix: str) -> tuple[Path, str]:
    output = folder_paths.get_output_directory()
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(f"{kind}/{prefix}", output)
    while (path := Path(folder) / f"{name}_{counter:05}_.safetensors").exists():
        counter += 1
    return path, f"{subfolder}/{path.name}"


def stamp(folder: str, name: str | None) -> tuple[str, int, int] | None:
    """What changes when a file does: name, modification time in ns, size. None if there is no such file, or no name yet."""
    if not name or (path := folder_paths.get_full_path(folder, name)) is None:
        return None
    status = os.stat(path)
    return name, status.st_mtime_ns, status.st_size
