"""Where files are: models/ssr_encoder (and whatever extra_model_paths.yaml adds, and models/ssr of the older port) for encoders;
models/ssr_mip, and where other packs keep IP-Adapters, for MIP-Adapters; models/ssr_elite for ELITE; output/, input/ and
models/ssr_subjects, ssr_mip_objects, ssr_elite_subjects or ssr_lasr for what users save; learned subjects of SSR Mini in the pack."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import folder_paths

from ...mini import files as mini
from ...shown import shown

FOLDER = "ssr_encoder"
OLDER_PORT_FOLDER = "ssr"
SUBJECTS = "ssr_subjects"
MIP_FOLDER = "ssr_mip"
IP_ADAPTER_FOLDER = "ipadapter"
"""Of ComfyUI_IPAdapter_plus, which registers it; read, never changed."""
MIP_OBJECTS = "ssr_mip_objects"
ELITE_FOLDER = "ssr_elite"
ELITE_SUBJECTS = "ssr_elite_subjects"
LEARNED = "ssr_lasr"
BUILT_IN = "ssr_mini/"
"""Before the names of learned subjects that come with SSR Mini."""
VISION_FOLDER = "clip_vision"
"""The host's own."""
PREFIX = "subject"
"""Of the names of saved files, where the user gives none."""
EXTENSIONS = {".safetensors", ".sft", ".bin", ".pt", ".pth", ".ckpt"}

PAIRS = {"ssr_aligner": "ssr_layers", "pytorch_model": "pytorch_model_1", "model": "model_1"}
PAIRS |= {second: first for first, second in PAIRS.items()}
"""File names, without their suffix, of the two halves of a published encoder."""


def register() -> None:
    """Make our folders known to the host. Keeps entries that extra_model_paths.yaml made before packs were loaded."""
    models = folder_paths.models_dir
    _add(FOLDER, [os.path.join(models, name) for name in (FOLDER, OLDER_PORT_FOLDER)], EXTENSIONS)
    _add(MIP_FOLDER, [os.path.join(models, name) for name in (MIP_FOLDER, IP_ADAPTER_FOLDER)], EXTENSIONS)
    _add(ELITE_FOLDER, [os.path.join(models, ELITE_FOLDER)], EXTENSIONS)
    places = [folder_paths.get_output_directory(), folder_paths.get_input_directory(), models]
    for saved_things in (SUBJECTS, MIP_OBJECTS, ELITE_SUBJECTS):
        _add(saved_things, [os.path.join(place, saved_things) for place in places], {".safetensors"})
    _add(LEARNED, [os.path.join(place, LEARNED) for place in places], {".safetensors", ".pt"})


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
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return _beside(FOLDER, name, PAIRS.get(stem))


def _beside(folder: str, name: str, stem: str | None) -> str | None:
    """The listed file in the same place with the same suffix and another stem."""
    path = PurePosixPath(name.replace("\\", "/"))
    wanted = path.with_stem(stem) if stem else None
    listed = folder_paths.get_filename_list(folder)
    return next((one for one in listed if wanted is not None and PurePosixPath(one.replace("\\", "/")) == wanted), None)


def elite_files() -> list[str]:
    return folder_paths.get_filename_list(ELITE_FOLDER)


def elite_path(name: str) -> str:
    remedy = (
        'Run "python install.py --download --only elite" in the pack\'s folder, or put the files there by hand and press R to refresh '
        "(weights_manifest.json lists them)."
    )
    return _found(ELITE_FOLDER, name, "There is no file of ELITE", remedy)


def local_mapper_of(name: str | None) -> str | None:
    """The listed local mapper beside a global one, by the names that both are published under."""
    if not isinstance(name, str):
        return None
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return _beside(ELITE_FOLDER, name, "local_mapper") if stem == "global_mapper" else None


def vision_files() -> list[str]:
    return folder_paths.get_filename_list(VISION_FOLDER)


def vision_path(name: str) -> str:
    remedy = (
        'Choose auto, run "python install.py --download" in the pack\'s folder, or put the file there by hand and press R to refresh '
        "(weights_manifest.json lists it)."
    )
    return _found(VISION_FOLDER, name, "There is no CLIP vision model", remedy)


def adapter_files() -> list[str]:
    """Adapters that lie with MIP-Adapters or where other packs look for IP-Adapters."""
    return list(dict.fromkeys(name for folder in _adapter_folders() for name in folder_paths.get_filename_list(folder)))


def adapter_path(name: str) -> str:
    remedy = (
        'Run "python install.py --download --only mip" in the pack\'s folder, or put the file there by hand and press R to refresh '
        "(weights_manifest.json lists it)."
    )
    return _found(_folder_of_adapter(name), name, "There is no MIP-Adapter file", remedy)


def adapter_stamp(name: str | None) -> tuple[str, int, int] | None:
    return stamp(_folder_of_adapter(name), name)


def _folder_of_adapter(name: str | None) -> str:
    known = _adapter_folders() if name and isinstance(name, str) else []
    found = (folder for folder in known if folder_paths.get_full_path(folder, name) is not None)
    return next(found, MIP_FOLDER)


def _adapter_folders() -> list[str]:
    """extra_model_paths.yaml may give IP-Adapters a place that only their own folder's name knows."""
    return [folder for folder in (MIP_FOLDER, IP_ADAPTER_FOLDER) if folder in folder_paths.folder_names_and_paths]


def saved_files(folder: str) -> list[str]:
    return folder_paths.get_filename_list(folder)


def subject_path(name: str) -> Path:
    return Path(_found(SUBJECTS, name, "There is no subject file", "Save one with Save Subject, then press R to refresh."))


def objects_path(name: str) -> Path:
    remedy = "Save one with Save Objects (MIP), then press R to refresh."
    return Path(_found(MIP_OBJECTS, name, "There is no file of objects", remedy))


def elite_subject_path(name: str) -> Path:
    remedy = "Save one with Save Subject (ELITE), then press R to refresh."
    return Path(_found(ELITE_SUBJECTS, name, "There is no subject file of ELITE", remedy))


def learned_files() -> list[str]:
    """Learned subjects of the user's, then those that come with SSR Mini."""
    return list(dict.fromkeys([*saved_files(LEARNED), *(f"{BUILT_IN}{path.name}" for path in mini.learned())]))


def learned_path(name: str) -> Path:
    if (built_in := _built_in(name)) is not None:
        return built_in
    remedy = "Save one with Save Subject (LASR), or put a file there by hand, and press R to refresh."
    return Path(_found(LEARNED, name, "There is no learned subject", remedy))


def learned_stamp(name: str | None) -> tuple[str, int, int] | None:
    built_in = _built_in(name)
    return stamp(LEARNED, name) if built_in is None else stamp_of(str(built_in))


def _built_in(name: str | None) -> Path | None:
    """A file of Mini's, unless the user has one of that name."""
    if not name or folder_paths.get_full_path(LEARNED, name) is not None:
        return None
    return next((path for path in mini.learned() if name == f"{BUILT_IN}{path.name}"), None)


def unfinished_path(key: str) -> Path:
    """Of what a run of learning that ended early had learned. key: what tells one run from another, in letters of a file's name."""
    return Path(folder_paths.get_output_directory()) / LEARNED / "unfinished" / f"{key}.safetensors"


def _found(folder: str, name: str, missing: str, remedy: str) -> str:
    """name: as a prompt brings it, which need not be a text."""
    path = folder_paths.get_full_path(folder, name) if isinstance(name, str) else None
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(folder))
        raise FileNotFoundError(f'{missing} "{shown(name)}" in {places}. {remedy}')
    return path


def hidden_files(folder: str, name: str) -> list[str]:
    """Files of that name that are not read, since a place before theirs has one too."""
    places = [os.path.join(place, name) for place in folder_paths.get_folder_paths(folder)]
    return [place for place in places if os.path.isfile(place)][1:]


def save_new(folder: str, prefix: str, write: Callable[[Path], None]) -> str:
    """Write to a file in output/<folder> whose name nobody has, and say how to show it. write: raises FileExistsError for a name that is
    taken by then: another save was faster, and the next free number is tried."""
    path, name = _free_name(folder, prefix)
    while True:
        try:
            write(path)
            return name
        except FileExistsError:
            taken = path
            path, name = _free_name(folder, prefix)
            if path == taken:
                raise


def _free_name(folder: str, prefix: str) -> tuple[Path, str]:
    """The host keeps prefixes within the output folder; ours keep within the folder for their kind of file."""
    parts = [part for part in prefix.replace("\\", "/").split("/") if part.strip(" .") or part.strip() == ".."]
    if ".." in (part.strip() for part in parts) or re.match(r"[A-Za-z]:", prefix.strip()):
        raise ValueError(
            f'filename_prefix "{shown(prefix)}" leads out of output/{folder}; expected a name such as "{PREFIX}", or a folder below it and '
            f'a name: "dogs/{PREFIX}".'
        )
    if not parts or prefix.rstrip().endswith(("/", "\\")):
        parts.append(PREFIX)
    output = folder_paths.get_output_directory()
    place, name, counter, subfolder, _ = folder_paths.get_save_image_path("/".join((folder, *parts)), output)
    while (path := Path(place) / f"{name}_{counter:05}_.safetensors").exists():
        counter += 1
    return path, f"{subfolder}/{path.name}"


def stamp(folder: str, name: str | None) -> tuple[str, int, int] | None:
    """As stamp_of, for a listed file. None if there is no such file, or no name yet."""
    if not name or (path := folder_paths.get_full_path(folder, name)) is None:
        return None
    return name, *stamp_of(path)[1:]


def stamp_of(path: str) -> tuple[str, int, int]:
    """What changes when a file does: path, modification time in ns, size."""
    status = os.stat(path)
    return path, status.st_mtime_ns, status.st_size
