"""The weight files a user may need: weights_manifest.json read, and the files found, fetched and checked.

Knows what each file is, where it comes from and how to tell that it is the right one; not who asks for it (install.py) nor how
weights become an encoder (formats.py). The transfers are huggingface_hub's and gdown's, and happen only in fetch().
A file takes its final name only after its size, hash and structure are right, and only where nothing of that name is. Until then its
bytes are in files of names that nobody else uses (staged_path), which a killed download goes on with; no other file is touched.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import json
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from . import weight_structure
from .new_files import take_new_name
from .shown import shown
from .weight_structure import Shapes, WeightsError

MANIFEST = Path(__file__).parent.parent / "weights_manifest.json"
PAUSES = (2.0, 4.0, 8.0)  # seconds before the second, third and last attempt; each goes on where the one before it stopped
TIMEOUT = 30  # seconds of silence after which a connection counts as broken
FINAL = (401, 403, 404, 410)  # answers that another attempt does not change: there is no such file, or not for everyone

PIN_BYTES = 4096  # of a .sha256 file that are looked at

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightFile:
    """One entry of the manifest.

    part: what it is for; files of the same part replace each other. folders: below models/; it is put into the first and may already
    be in one of the others. host: "hub" or "drive"; repository and remote_name say what it is called there. size and
    sha256: None where nobody has published them; about: bytes to expect then, by the numbers that are in it. holds: tensors
    (name -> shape) by which a model that is not ours is recognised. method: which one cannot do without it; its name stands for all its
    files.
    """

    id: str
    part: str
    purpose: str
    name: str
    folders: tuple[str, ...]
    url: str
    host: str
    repository: str
    remote_name: str
    size: int | None
    sha256: str | None
    licence: str
    default: bool
    holds: Shapes
    method: str | None = None
    about: int = 0

    @property
    def bytes_expected(self) -> int:
        return self.size or self.about

    def place(self, models: Path) -> Path:
        return models / self.folders[0] / self.name


def read_manifest(path: Path = MANIFEST) -> tuple[WeightFile, ...]:
    entries = json.loads(path.read_text(encoding="utf-8"))["files"]
    return tuple(WeightFile(**{**entry, "folders": tuple(entry["folders"])}) for entry in entries)


def find(weight: WeightFile, models: Path) -> Path | None:
    """Where the file is already, or None."""
    places = (models / folder / weight.name for folder in weight.folders)
    return next((path for path in places if path.is_file()), None)


def verify(weight: WeightFile, path: Path) -> str:
    """Check a file in its place and return its sha256. Raises ValueError that says what is wrong.

    A hash that the manifest does not know is pinned beside the file the first time, and checked from then on.
    """
    digest = _check(weight, path, _expected_hash(weight, path))
    with contextlib.suppress(OSError):  # a shared models folder may be read-only; the file itself is fine
        _pin(weight, path, digest)
    return digest


def fetch(weight: WeightFile, models: Path, endpoint: str | None = None) -> Path:
    """Download a file, or check the one that is there. Returns where it is. Raises ValueError, or OSError of the disk.

    endpoint: another address of the model hub than the library's own.
    """
    if (found := find(weight, models)) is not None:
        verify(weight, found)
        return found
    final = weight.place(models)
    final.parent.mkdir(parents=True, exist_ok=True)
    staged = staged_path(weight, final)
    _check_staged(staged)
    if weight.part in weight_structure.OWN_PARTS and not weight.name.endswith(".safetensors"):
        _check_pickles_are_read(weight)
    expected = _expected_hash(weight, final)
    stated = _transfer(weight, final, staged, expected, endpoint)
    try:
        digest = _check(weight, staged, expected or stated)
    except ValueError:
        _discard(staged)
        raise
    try:
        take_new_name(staged, final)
    except FileExistsError:
        raise WeightsError(
            f"{final} came into being while {weight.name} was downloaded, and is left as it is. The download is kept as {staged.name} "
            "beside it; remove one of the two and run again."
        ) from None
    _pin(weight, final, digest)
    return final


def staged_path(weight: WeightFile, final: Path) -> Path:
    """Where the bytes of a download gather: hidden, beside the file, and named for the pack and for where they come from."""
    origin = hashlib.sha256(f"{weight.host}:{weight.repository}:{weight.remote_name}".encode()).hexdigest()[:16]
    return final.with_name(f".{final.name}.ssr-encoder-{origin}.part")


def _check_staged(staged: Path) -> None:
    """Refuse to write into what is no plain file of ours: a link may lead to anybody's."""
    for path in _staged_files(staged):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise WeightsError(
                f"{shown(path)} is a link or no plain file, where an unfinished download is expected. Nothing is written to it; remove it "
                "and run again."
            )


def _check_pickles_are_read(weight: WeightFile) -> None:
    import torch

    from .tensor_files import reads_pickles

    if not reads_pickles():
        raise WeightsError(
            f"{weight.name} is a pickle, which torch {torch.__version__} does not read safely. Update it, or take the SSR-Encoder's pair "
            "in safetensors: install.py --download --only aligner layers"
        )


def _transfer(weight: WeightFile, final: Path, staged: Path, expected: str | None, endpoint: str | None) -> str | None:
    """Bring all bytes to the staged file, in a few attempts. Returns the hash that the host states, if it does."""
    for pause in (0.0, *PAUSES):
        time.sleep(pause)
        try:
            if weight.host == "hub":
                return _from_hub(weight, staged, expected, endpoint)
            _from_drive(weight, staged)
            return None
        except WeightsError:
            raise
        except (ImportError, TypeError) as error:
            needed = 'pip install -U "huggingface_hub" gdown'
            raise WeightsError(f"{weight.name}: {error}. Downloads need two libraries: {needed}") from error
        except Exception as error:
            # Which client the libraries use, and so which errors it raises, changes with their version: any may be a lost connection.
            failure = error
            if getattr(getattr(error, "response", None), "status_code", None) in FINAL:
                break
    kept = sum(path.stat().st_size for path in _staged_files(staged))
    again = f"Its first {kept:,} bytes are kept; run again to go on, or" if kept else "Run again, or"
    raise WeightsError(
        f"{weight.name} could not be downloaded: {_first_line(failure)} {again} download {weight.url} by hand and put it at "
        f"{final}."
    ) from failure


def _from_hub(weight: WeightFile, staged: Path, expected: str | None, endpoint: str | None) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    # Not hf_hub_download: it throws away what it has when it fails, and 1.7 GB would start again from nothing.
    from huggingface_hub.file_download import http_get

    url = hf_hub_url(weight.repository, weight.remote_name, endpoint=endpoint)
    stated = get_hf_file_metadata(url, token=False)  # the files are public: nobody's token is sent along
    if stated.location.partition("://")[0].lower() not in ("https", url.partition("://")[0]):
        raise WeightsError(f"{url} leads to {shown(stated.location, 80)}, which is not https. Download {weight.name} by hand.")
    # The connection that brings the bytes may be redirected anywhere; the hash from this one is what they are held to.
    digest = stated.etag if _SHA256.fullmatch(stated.etag or "") else expected
    if digest is None:
        raise WeightsError(f"{url} states no sha256, as the model hub does for such files. Is it the hub, or a copy of it?")
    if digest != (expected or digest) or stated.size != (weight.size or stated.size):
        raise WeightsError(
            f"{url} has {stated.size} bytes and sha256 {digest}, expected {weight.size or 'any number of'} bytes and sha256 "
            f"{expected or 'any'}. The file was replaced; do not use it unless its authors say so."
        )
    present = staged.stat().st_size if staged.is_file() else 0
    if stated.size is None or present > stated.size:
        _discard(staged)
        present = 0
    free = shutil.disk_usage(staged.parent).free
    if stated.size is not None and stated.size - present > free:
        raise WeightsError(
            f"{weight.name} needs {stated.size - present:,} bytes more, and {staged.parent} has {free:,} free. Make room."
        )
    with _appending(staged) as file:
        http_get(stated.location, file, resume_size=present, expected_size=stated.size, displayed_filename=weight.name)
    return digest


def _appending(staged: Path) -> io.BufferedWriter:
    """The staged file, open at its end: made exclusively, or the plain file that an earlier run left."""
    mine = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    _check_staged(staged)
    flags = mine if staged.is_file() else mine | os.O_CREAT | os.O_EXCL
    return open(os.open(staged, flags, 0o666), "ab")


def _from_drive(weight: WeightFile, staged: Path) -> None:
    import gdown

    listing = gdown.download_folder(id=weight.repository, skip_download=True, quiet=True, use_cookies=False, timeout=TIMEOUT)
    listed = [file for file in listing if not isinstance(file, str)]
    numbers = [file.id for file in listed if Path(file.path).name == weight.remote_name]
    if len(numbers) != 1:
        names = ", ".join(file.path for file in listed) or "nothing"
        raise WeightsError(f"{weight.url} holds {names}; expected one {weight.remote_name}. Download it by hand in a browser.")
    _check_staged(staged)
    present = _staged_files(staged)
    before = [path.stat().st_size for path in present]
    try:
        gdown.download(id=numbers[0], output=str(staged), resume=True, use_cookies=False, timeout=TIMEOUT)
    except gdown.FileURLRetrievalError:
        raise  # too many downloads today, or not public any more; the bytes we have are still good
    except gdown.DownloadError:
        # The drive answered but does not continue after our bytes: the next attempt starts anew.
        if before and before == [path.stat().st_size for path in present]:
            _discard(staged)
        raise


def _check(weight: WeightFile, path: Path, expected: str | None) -> str:
    size = path.stat().st_size
    if weight.size is not None and size != weight.size:
        raise WeightsError(f"{path} has {size:,} bytes, expected {weight.size:,}. Remove it and download it again.")
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
    digest = sha256.hexdigest()
    if expected is not None and digest != expected:
        raise WeightsError(f"{path} has sha256 {digest}, expected {expected}. Remove it and download it again.")
    _check_structure(weight, path)
    return digest


def _check_structure(weight: WeightFile, path: Path) -> None:
    found, expected = weight_structure.compared(weight.part, weight.name, weight.holds, path)
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        shapes = f"{wrong[0]} has shape {found.get(wrong[0], 'none')}, expected {expected.get(wrong[0], 'none')}"
        more = f" and {len(wrong) - 1} more differ" if len(wrong) > 1 else ""
        raise WeightsError(f"{path} is not {weight.name} ({weight.purpose}): {shapes}{more}. Remove it and download it again.")


def _expected_hash(weight: WeightFile, path: Path) -> str | None:
    """The manifest's hash, else the one pinned beside the file, else None."""
    pinned = _pin_of(path)
    if weight.sha256 is not None or not pinned.is_file():
        return weight.sha256
    with pinned.open("rb") as file:
        digest = file.read(PIN_BYTES).decode("ascii", errors="replace").split(maxsplit=1)[:1]
    if not digest or not _SHA256.fullmatch(digest[0]):
        raise WeightsError(f"{pinned} holds no sha256. Remove it, and the hash of {path.name} is taken anew.")
    return digest[0]


def _pin(weight: WeightFile, path: Path, digest: str) -> None:
    if weight.sha256 is not None:
        return
    # Exclusively: whatever is there is kept, and a link is not followed.
    with contextlib.suppress(FileExistsError), _pin_of(path).open("x", encoding="utf-8", newline="\n") as file:
        file.write(f"{digest}  {path.name}\n")  # as sha256sum writes it, and checks with -c


def _pin_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _staged_files(staged: Path) -> list[Path]:
    """The staged file and the unfinished ones that gdown keeps beside it under longer names."""
    return sorted(staged.parent.glob(f"{glob.escape(staged.name)}*"))


def _discard(staged: Path) -> None:
    for path in _staged_files(staged):
        path.unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])
