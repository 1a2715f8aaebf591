"""A pickled list of texts, read without unpickling: knows lists and texts, and nothing else that a pickle may ask for.

Python's own unpickler runs what a file tells it to, and takes memory that a file of a few bytes may ask for. Here its instructions are
only listed (pickletools), and those that make a list of texts are followed.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..shown import shown
from ..text_files import check_regular

LARGEST = 64 * 2**20
"""Bytes of a list; ten thousand names have 0.2 million."""
TEXTS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")
NOTHING_MADE = ("PROTO", "FRAME")


def read_texts(path: Path) -> list[str]:
    """The texts of a file that `pickle.dump` wrote from a list of str. Raises FileNotFoundError, or ValueError that names the file."""
    check_regular(path, "list")
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(
            f"{shown(path)} is larger than {LARGEST:,} bytes, the most that is read as a list. Is it the right file?"
        )
    try:
        found = _follow(content)
    except ValueError as error:
        raise ValueError(
            f"{shown(path)} is no pickled list of texts: {shown(error)}. Nothing else is read from a pickle; write the names into a text "
            "file (.txt), one a line."
        ) from error
    return found


def _follow(content: bytes) -> list[str]:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    steps: Iterator[tuple[Any, Any, Any]] = pickletools.genops(content)
    for code, argument, _ in steps:
        match code.name:
            case name if name in TEXTS:
                stack.append(str(argument))
            case "EMPTY_LIST":
                stack.append([])
            case "MARK":
                marks.append(len(stack))
            case "LIST":
                stack.append(_texts(_above(stack, marks)))
            case "APPEND":
                item = stack.pop() if stack else None
                _list(stack).extend(_texts([item]))
            case "APPENDS":
                items = _texts(_above(stack, marks))
                _list(stack).extend(items)
            case "MEMOIZE":
                memo[len(memo)] = _top(stack)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[int(argument)] = _top(stack)
            case "GET" | "BINGET" | "LONG_BINGET":
                if int(argument) not in memo:
                    raise ValueError("it repeats what it never named")
                stack.append(memo[int(argument)])
            case "STOP":
                return _list(stack)
            case name if name not in NOTHING_MADE:
                asked = f" {argument}" if isinstance(argument, str) else ""
                raise ValueError(f"it asks for {name}{asked}")
    raise ValueError("it does not end")


def _above(stack: list[Any], marks: list[int]) -> list[Any]:
    """What was put on the stack since the last mark, taken from it."""
    if not marks:
        raise ValueError("it ends a list that it never began")
    mark = marks.pop()
    items = stack[mark:]
    del stack[mark:]
    return items


def _top(stack: list[Any]) -> Any:
    if not stack:
        raise ValueError("it names nothing")
    return stack[-1]


def _list(stack: list[Any]) -> list[str]:
    top = _top(stack)
    if not isinstance(top, list):
        raise ValueError("it holds a text where a list was expected")
    return top


def _texts(items: list[Any]) -> list[str]:
    for item in items:
        if not isinstance(item, str):
            raise ValueError(f"its list holds a {type(item).__name__}")
    return items
