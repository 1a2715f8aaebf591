"""Text files that somebody wrote or was given: plain text, lines of JSON, JSON and YAML, each read whole, within limits, and named in
every error together with the line.

Lines end where editors end them, and nowhere else: U+2028 and its like are part of a caption, as JSON allows. A byte order mark is
no part of the text.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .paths import mode_of
from .shown import shown

LARGEST_TEXT = 16 * 2**20
"""Bytes of a text, YAML or JSON file."""
LARGEST_YAML = 2**20
"""Characters of a YAML text; the largest configuration has a few thousand."""
MOST_YAML_VALUES = 20_000
"""Values that a YAML text stands for after its aliases are replaced by what they repeat."""
LONGEST_LINE = 2**20
"""Characters of one line of JSON."""


def check_regular(path: Path, what: str = "file") -> None:
    """Raises FileNotFoundError, or ValueError for folders, pipes and devices, which may never end."""
    kind = mode_of(path)
    if not kind:
        raise FileNotFoundError(f"There is no {what} {shown(path)}.")
    if not stat.S_ISREG(kind):
        raise ValueError(f"{shown(path)} is not a regular file (a folder, a pipe or a device); give a {what}.")


def read_text(path: Path, limit: int = LARGEST_TEXT) -> str:
    """Raises FileNotFoundError, or ValueError that names the file."""
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} is larger than {limit:,} bytes, the most that is read as text. Is it the right file?")
    return decoded(content, str(path))


def decoded(content: bytes, named: str) -> str:
    """UTF-8 with or without a byte order mark, its line ends as \\n."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{named}, line {line}: not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a file of any length that are not blank, with their numbers from 1 on."""
    check_regular(path)
    number = 0
    # Python ends lines of a file at \\n, \\r\\n and \\r, where str.splitlines knows eight more.
    with path.open(encoding="utf-8-sig") as file:
        try:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"{path}, line {number} is longer than {LONGEST_LINE:,} characters.")
                if line.strip():
                    yield number, line
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, near line {number + 1}: not UTF-8 text ({error.reason}). Save it as UTF-8.") from error


def check_characters(text: str, what: str) -> None:
    """Refuse half a character (a surrogate alone), which no text encoder and no file takes; raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"{what} is a {type(text).__name__}; expected a text.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = shown(text[error.start])
        raise ValueError(f"{what} holds half a character ({half} without its other half). Write it anew.") from error


def parse_json(text: str, named: str) -> Any:
    """Raises ValueError that names the text."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{named} is no JSON: {error.msg}, line {error.lineno}, column {error.colno}.") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets in brackets without end
        raise ValueError(f"{named} is no JSON that can be read: {error}.") from error
    if "\\ud" in text.lower():
        check_characters(json.dumps(content, ensure_ascii=False), named)
    return content


def read_json(path: Path) -> Any:
    return parse_json(read_text(path), str(path))


def parse_yaml(text: str, named: str) -> Any:
    """Raises ValueError that names the text and the line. Aliases are understood within a limit."""
    import yaml

    if len(text) > LARGEST_YAML:
        raise ValueError(f"{named} is longer than {LARGEST_YAML:,} characters, the most that is read as YAML.")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            count = _size(node, {}, set())
            if count <= MOST_YAML_VALUES:
                return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError as error:
        raise ValueError(f"{named} nests lists and fields too deeply, or repeats itself inside itself.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"{named}{where} is no YAML: {error.problem or error.context}.") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(f"{named}, line {line} is no YAML: it holds a control character.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{named} is no YAML: {error}") from error
    except (ValueError, OverflowError) as error:  # the 99th of a month, a number of thousands of digits
        raise ValueError(f"{named} holds a date or a number that is none ({error}).") from error
    raise ValueError(f"{named} stands for {count:,} values; at most {MOST_YAML_VALUES:,} are read.")


def _size(node: Any, known: dict[int, int], inside: set[int]) -> int:
    """Values of a YAML node, those behind aliases counted each time; every node is looked at once."""
    import yaml

    key = id(node)
    if key in inside:
        raise RecursionError
    if key not in known:
        inside.add(key)
        parts: list[Any] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[key] = 1 + sum(_size(part, known, inside) for part in parts)
        inside.discard(key)
    return known[key]
