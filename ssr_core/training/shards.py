"""Webdataset shards on this disk: which files a pattern names, and the samples in them.

webdataset itself would also open what others put into a pattern: `pipe:` runs a shell, `http:` and the rest start programs. So files
are opened here, as files, and webdataset only groups their members into samples.
"""

from __future__ import annotations

import io
import lzma
import random
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from .. import pictures
from ..shown import shown
from ..text_files import check_regular, decoded, parse_json
from .records import Record, described, parse_fields

MOST_SHARDS = 100_000
"""Files that one pattern may name."""
LONGEST_PATTERN = 4096
LARGEST_SAMPLE = 512 * 2**20
"""Bytes of one sample, told before they are read."""
MOST_MEMBERS = 64
"""Files of one sample."""
LARGEST_HEADER = 2**20
"""Bytes of a member's name and extra fields."""
SCHEME = re.compile(r"\s*[A-Za-z][\w+.-]+:")
"""Two letters or more: one is a drive."""


def is_shards(data: str) -> bool:
    return data.removesuffix(".gz").endswith(".tar")


def files(data: str) -> list[Path]:
    """The files that a pattern names: "shards/{000..099}.tar", several of them joined by "::".

    Raises ValueError or FileNotFoundError for anything but files on this disk.
    """
    import braceexpand  # webdataset's

    if len(data) > LONGEST_PATTERN:
        raise ValueError(
            f"`data` is longer than {LONGEST_PATTERN} characters; name shards by a range, e.g. shards/{{000..099}}.tar."
        )
    if (count := sum(_count(pattern) for pattern in data.split("::"))) > MOST_SHARDS:
        raise ValueError(f"{data} names up to {count:,} shards; at most {MOST_SHARDS:,} are read.")
    try:
        found = [name for pattern in data.split("::") for name in braceexpand.braceexpand(pattern)]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{data} is no pattern of shards ({error}); expected e.g. shards/{{000..099}}.tar.") from error
    for name in found:
        if SCHEME.match(name):
            raise ValueError(
                f"{name} is no file on this disk. Shards are read from files only: nothing is downloaded and no command is run. "
                "Fetch them first, and name the files."
            )
        check_regular(Path(name), "shard")
    return [Path(name) for name in found]


def _count(pattern: str) -> int:
    """How many names a pattern stands for at most, without writing them down."""
    count = 1
    while (group := re.search(r"\{([^{}]*)\}", pattern)) is not None:
        ends = re.fullmatch(r"(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.-?\d+)?", group[1])
        if ends is not None:
            count *= abs(int(ends[2]) - int(ends[1])) + 1
        elif re.fullmatch(r"-?\d+\.\.-?\d+(\.\.-?\d+)?", group[1]):
            count *= 10**18
        else:
            count *= 52 if re.fullmatch(r"[A-Za-z]\.\.[A-Za-z].*", group[1]) else group[1].count(",") + 1
        pattern = pattern[: group.start()] + pattern[group.end() :]
        if count > 10**18:
            break
    return count


def stream(data: str, seed: int, epoch: int, part: int, parts: int) -> Iterator[Mapping[str, Any]]:
    """Samples of this part's shards in the epoch's order, each from its beginning to its end: contents by extension, and __key__.

    part: of `parts` processes and workers, which share the shards out.
    """
    from webdataset.tariterators import group_by_keys

    found = files(data)
    random.Random(f"{seed}/{epoch}").shuffle(found)
    mine = found[part::parts]
    if not mine:
        raise ValueError(
            f"{data} has {len(found)} shards for {parts} readers (processes x workers); every reader needs at least one. "
            "Use fewer workers or more shards."
        )
    for shard in mine:
        yield from group_by_keys(_members(shard))


class _Header(tarfile.TarInfo):
    """A member's header. tarfile takes a damaged one, or the end of a file that was cut off, for the end of the archive, and reads a
    long name or extra fields whole, whatever their size.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end, as it is written
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"after it no header follows: {error}") from error

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if not self.isreg() and self.size > LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def _members(shard: Path) -> Iterator[dict[str, Any]]:
    """Files in a shard as webdataset groups them. Raises ValueError that names shard and member."""
    from webdataset.tariterators import base_plus_ext

    name, sample = "its beginning", ""
    sizes: dict[str, int] = {}
    try:
        with shard.open("rb") as opened, tarfile.open(fileobj=opened, mode="r|*", tarinfo=_Header) as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it remembers them all
                name = member.name
                key, suffix = base_plus_ext(name)
                if not member.isreg() or key is None or re.match(r"__[^/]*__($|/)", name):
                    continue
                if key != sample:
                    sample, sizes = key, {}
                if suffix.lower() in sizes:
                    raise ValueError(
                        f"{shard}: sample {shown(key)} has two members .{suffix.lower()}; give each of its files its own ending."
                    )
                sizes[suffix.lower()] = member.size
                if sum(sizes.values()) > LARGEST_SAMPLE or len(sizes) > MOST_MEMBERS:
                    raise ValueError(
                        f"{shard}: sample {shown(key)} has more than {LARGEST_SAMPLE:,} bytes or {MOST_MEMBERS} members, the "
                        "most that are read."
                    )
                file = tar.extractfile(member)
                assert file is not None
                yield {"fname": name, "data": file.read(), "__url__": str(shard)}
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(
            f"{shard} is damaged or no tar file, at {name} ({type(error).__name__}: {error}). Copy it again, or leave it out of `data`."
        ) from error
    yield {}  # samples of two shards do not mix


class Streamed:
    """A record of a shard with its pictures in memory: <key>.jpg (or another picture) with <key>.txt, or with <key>.json holding a
    record whose names are the sample's own extensions ("reference.png", "mask.png").

    Raises ValueError that names shard and sample.
    """

    def __init__(self, sample: Mapping[str, Any]) -> None:
        self.named = f"{sample['__url__']}, sample {shown(sample['__key__'])}"
        self.parts = {name: content for name, content in sample.items() if isinstance(content, bytes)}
        self.record = self._record()

    def open(self, name: str) -> Image.Image:
        return pictures.open_picture(*self._bytes(name))

    def open_mask(self, name: str) -> Tensor:
        """[H, W] in 0..1."""
        return pictures.open_mask(*self._bytes(name))

    def _bytes(self, name: str) -> tuple[io.BytesIO, str]:
        if name not in self.parts:
            raise ValueError(f"{self.named} has no {name}; found {_listed(self.parts)}.")
        return io.BytesIO(self.parts[name]), f"{name} of {self.named}"

    def _record(self) -> Record:
        target = next((name for name in self.parts if f".{name}".lower() in pictures.SUFFIXES), None)
        if target is None:
            raise ValueError(f"{self.named} has no picture; found {_listed(self.parts)}.")
        if "json" in self.parts:
            fields = parse_json(decoded(self.parts["json"], f"{self.named}, json"), f"{self.named}, json")
            return parse_fields({**fields, "file_name": target} if isinstance(fields, dict) else fields, f"{self.named}, json")
        if "txt" not in self.parts:
            raise ValueError(f"{self.named} has neither a .txt nor a .json.")
        return described(target, decoded(self.parts["txt"], f"{self.named}, txt"), f"{self.named}, txt")


def _listed(parts: Mapping[str, bytes]) -> str:
    return ", ".join(list(parts)[:8]) or "nothing"
