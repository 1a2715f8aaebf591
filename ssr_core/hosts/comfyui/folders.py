"""Where files are: models/ssr_encoder (and whatever extra_model_paths.yaml adds, and models/ssr of the older port) for
encoders; output/, input/ and models/ssr_subjects for subjects."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

FOLDER = "ssr_encoder"
OLDER_PORT_FOLDER = "ssr"
SUBJECTS = "ssr_subjects"
EXTENSIONS = {".safetensors", ".sft", ".bin", ".pt", ".pth", ".ckpt"}

PAIRS = {"ssr_aligner": "ssr_layers", "pytorch_model": "pytorch_model_1", "model": "model_1"}
PAIRS |= {second: first for first, second in PAIRS.items()}
"""File names, without their suffix, of the two halves of a published encoder."""


def register() -> None:
    """Make our folders known to the host. Keeps entries that extra_model_paths.yaml made before packs were loaded."""
    models = folder_paths.models_dir
    _add(FOLDER, [os.path.join(models, name) for name in (FOLDER, OLDER_PORT_FOLDER)], EXTENSIONS)
    places = [folder_paths.get_output_directory(), folder_paths.get_input_directory(), models]
    _add(SUBJECTS, [os.path.join(place, SUBJECTS) for place in places], {".safetensors"})


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


def _found(folder: str, name: str, missing: str, remedy: str) -> str:
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(folder))
        raise FileNotFoundError(f'{missing} "{name}" in {places}. {remedy}')
    return path


def hidden_subjects(name: str) -> list[str]:
    """Files of that name that subject_path does not read, since a folder before theirs has one too."""
    places = [os.path.join(place, name) for place in folder_paths.get_folder_paths(SUBJECTS)]
    return [place for place in places if os.path.isfile(place)][1:]


def new_subject_file(prefix: str) -> tuple[Path, str]:
    """A free file name in output/ssr_subjects, and how to show it. The host refuses prefixes that leave the output folder."""
    output = folder_paths.get_output_directory()
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(f"{SUBJECTS}/{prefix}", output)
    while (path := Path(folder) / f"{name}_{counter:05}_.safetensors").exists():
        counter += 1
    return path, f"{subfolder}/{path.name}"


def stamp(folder: str, name: str | None) -> tuple[str, int, int] | None:
    """What changes when a file does: name, modification time in ns, size. None if there is no such file, or no name yet."""
    if not name or (path := folder_paths.get_full_path(folder, name)) is None:
        return None
    status = os.stat(path)
    return name, status.st_mtime_ns, status.st_size
