"""What ComfyUI-Manager runs after installing the pack, and what people run to get the weights.

Without arguments it makes the model folder and says which files are missing: it asks nothing, downloads nothing and succeeds. What
the files are, and how they are fetched and checked, is the business of ssr_core/weights.py.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssr_core import weights
from ssr_core.weights import WeightFile

PACK = Path(__file__).absolute().parent
FOLDER = "ssr_encoder"


def main(arguments: Sequence[str] | None = None) -> int:
    manifest = weights.read_manifest()
    options = _options(manifest, arguments)
    models = options.models_dir or host_models(PACK)
    if models is None:
        print(f"SSR-Encoder: no ComfyUI around {PACK}. Say where its models are: python install.py --models-dir FOLDER")
        say_missing(_named(manifest, options), Path("ComfyUI", "models"))
        return 1 if options.download or options.check else 0
    try:
        (models / FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"SSR-Encoder: {models / FOLDER} cannot be made ({error}). Make it by hand.")
    wanted = _named(manifest, options)
    if not options.all and not options.only:
        wanted = [_instead(weight, manifest, models) for weight in wanted]
    if options.download:
        return 1 if [weight for weight in wanted if not _succeeds(weight, models)] else 0
    missing = [weight for weight in wanted if weights.find(weight, models) is None]
    wrong = [weight for weight in wanted if weight not in missing and not _succeeds(weight, models)] if options.check else []
    if missing:
        say_missing(missing, models)
    elif not options.check:
        print(f"SSR-Encoder: the weights are in {models}. (python install.py --check looks into them.)")
    return 1 if wrong else 0


def host_models(pack: Path) -> Path | None:
    """The models folder of the ComfyUI (or of its --base-directory) that the pack lies in, if it lies in one; perhaps by a symlink."""
    return next((base / "models" for base in _around(pack) if _holds(base, pack)), None)


def _around(pack: Path) -> Iterator[Path]:
    """Where a host may be: around the pack; around the folder that the shell is in, which keeps the symlinks that led there, and which is
    the host's own under ComfyUI-Manager; and around the Python that runs."""
    yield pack.parent.parent
    shell = Path(os.path.expandvars("$PWD"))
    for place in (shell, Path(sys.prefix)):
        if place.is_absolute():
            for folder in (place, *place.parents):
                yield folder
                yield folder / "ComfyUI"


def _holds(base: Path, pack: Path) -> bool:
    """Whether a folder is a host with this very pack in it, under whatever name."""
    try:
        if not ((base / "models").is_dir() or (base / "main.py").is_file()):
            return False
        return any(entry.samefile(pack) for entry in (base / "custom_nodes").iterdir() if entry.is_dir())
    except OSError:  # no such folder, or none that may be read
        return False


def say_missing(missing: Sequence[WeightFile], models: Path) -> None:
    print("SSR-Encoder: these files are missing:")
    for weight in missing:
        print(f"  {weight.name}: {weight.purpose} (licence: {weight.licence}; {_megabytes(weight)})")
        print(f"      from {weight.url}" + ("" if weight.url.endswith(weight.remote_name) else f" (its {weight.remote_name})"))
        print(f"      into {weight.place(models).parent}" + ("" if weight.name == weight.remote_name else f" as {weight.name}"))
    print(f"Together about {sum(weight.bytes_expected for weight in missing) / 1e6:,.0f} MB.")
    print(f'Fetch them with "python install.py --download" in {PACK}, or by hand; then press R in ComfyUI.')
    bases = {"mip": "an SDXL", "mip-plus": "an SDXL"}
    needed = sorted({bases.get(weight.method or "", "an SD1.5") for weight in missing})
    print(
        f"You also need {' and '.join(needed)} checkpoint in models/checkpoints. --all lists every file, --only the ones or the method "
        "you name."
    )


def _megabytes(weight: WeightFile) -> str:
    return f"{'' if weight.size else 'about '}{weight.bytes_expected / 1e6:,.0f} MB"


def _options(manifest: Sequence[WeightFile], arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="install.py", description="Weights of the pack's methods: what is missing, or fetch it."
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--download", action="store_true", help="fetch what is missing; check what is there")
    action.add_argument("--check", action="store_true", help="check size, hash and structure of what is there; no network")
    choice = parser.add_mutually_exclusive_group()
    identifiers = ", ".join(f"{weight.id}{' (default)' if weight.default else ''}" for weight in manifest)
    methods = list(dict.fromkeys(weight.method for weight in manifest if weight.method))
    choice.add_argument(
        "--only",
        nargs="+",
        action="extend",
        metavar="NAME",
        choices=[*methods, *(weight.id for weight in manifest)],
        help=f"all files of a method: {', '.join(methods)}; or these files: {identifiers}",
    )
    choice.add_argument("--all", action="store_true", help="every file that weights_manifest.json knows")
    parser.add_argument("--models-dir", type=Path, metavar="FOLDER", help="ComfyUI's models folder, if the pack is not in it")
    options = parser.parse_args(arguments)
    if options.models_dir is not None and not options.models_dir.is_dir():
        parser.error(f"there is no folder {options.models_dir}")
    return options


def _named(manifest: Sequence[WeightFile], options: argparse.Namespace) -> list[WeightFile]:
    if options.only:
        return [weight for weight in manifest if weight.id in options.only or weight.method in options.only]
    return [weight for weight in manifest if options.all or weight.default]


def _instead(weight: WeightFile, manifest: Sequence[WeightFile], models: Path) -> WeightFile:
    """The file itself, or one already on the disk that can replace it: the pair exists in two formats."""
    if weights.find(weight, models) is not None:
        return weight
    same_part = (other for other in manifest if other.part == weight.part and weights.find(other, models) is not None)
    return next(same_part, weight)


def _succeeds(weight: WeightFile, models: Path) -> bool:
    """Fetch a file, or check the one that is there, and say how it went."""
    if weights.find(weight, models) is None:
        print(f"SSR-Encoder: fetching {weight.name} from {weight.url} ({_megabytes(weight)})", flush=True)
    try:
        path = weights.fetch(weight, models)
    except (ValueError, OSError) as error:
        print(f"SSR-Encoder: {error}", file=sys.stderr)
        return False
    print(f"SSR-Encoder: {path} is there and right.")
    return True


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a folder's name that the console cannot show is no reason to fail
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("SSR-Encoder: stopped. What has arrived is kept; run again to go on.", file=sys.stderr)
        sys.exit(1)
