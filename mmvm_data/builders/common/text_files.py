"""Text files of numbers, one line a frame: rectangles and flags, as the sets of single-object trackers have them."""

from __future__ import annotations

import math
import re
from pathlib import Path

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Box
from mmvm_data.io.media import read_bytes

MAX_COORDINATE = 1e6
"""Pixels that no coordinate reaches."""
_COLUMNS = ("x", "y", "width", "height")
_BETWEEN = re.compile(r"[,\s]+")


def read_text(file: Path) -> str:
    """A whole text file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: missing, unreadable or not UTF-8.
    """
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(file, "not a text file", field=f"byte {error.start}") from error


def read_lines(file: Path) -> list[str]:
    """The lines of a text file without what follows the last one that says something.

    Raises:
        InputError: see ``read_text``; also a file without any such line.
    """
    lines = [line.strip() for line in read_text(file).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise InputError(file, "the file holds no annotation")
    return lines


def read_lines_by_frame(file: Path, separator: str | None) -> dict[int, list[tuple[int, str]]]:
    """Frame number -> its lines with their numbers (from 1), of a file whose first column is the frame.

    Args:
        file: the file.
        separator: what stands between columns; None for white space.

    Raises:
        InputError: no lines, not text, or a line whose frame number cannot be read: it may belong to any frame.
    """
    found: dict[int, list[tuple[int, str]]] = {}
    for n, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        first = line.split(separator, 1)[0].strip()
        if not (first.isascii() and first.isdigit() and len(first) < 10):
            raise InputError(file, f"a frame number is expected, found {first[:40]!r}", field=f"line {n}, column frame")
        found.setdefault(int(first), []).append((n, line))
    if not found:
        raise InputError(file, "the file holds no annotation")
    return found


def parse_finite(text: str) -> float | None:
    """A finite number in ASCII digits, or None (``float`` alone also takes nan, inf, 1_000 and other scripts)."""
    if not text.isascii() or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_numbers(file: Path, n: int, line: str) -> tuple[float, ...] | None:
    """The numbers of a line, which commas or white space separate; None when all of them are NaN.

    Args:
        file, n: for the message; lines count from 1.
        line: what it says.

    Raises:
        InputError: a column that is no number, or is as far out as no pixel lies.
    """
    texts = [text.strip() for text in line.split(",")] if "," in line else line.split()
    if texts and all(text.lower() == "nan" for text in texts):
        return None
    values = []
    for k, text in enumerate(texts, start=1):
        value = parse_finite(text)
        if value is None or abs(value) > MAX_COORDINATE:
            raise InputError(file, f"a number is expected, found {text[:40]!r}", field=f"line {n}, column {k}")
        values.append(value)
    return tuple(values)


def parse_rectangle(file: Path, n: int, line: str) -> Box | None:
    """The box ``x, y, width, height`` of a line; None when it says that the object is absent: all NaN, or no area.

    Raises:
        InputError: not four numbers, or a negative size.
    """
    values = parse_numbers(file, n, line)
    if values is None:
        return None
    if len(values) != 4:
        raise InputError(file, f"four numbers x, y, width, height are expected, found {len(values)}", field=f"line {n}")
    for column, value in zip(_COLUMNS[2:], values[2:], strict=True):
        if value < 0:
            raise InputError(file, f"a size is expected, found {value:g}", field=f"line {n}, column {column}")
    x, y, width, height = values
    return (x, y, width, height) if width and height else None


def read_flags(file: Path, count: int, highest: int = 1) -> list[int]:
    """Whole numbers, one a frame, in one line or in many.

    Args:
        file: the file.
        count: frames.
        highest: largest number that the set knows; 0 is the smallest.

    Raises:
        InputError: more or fewer than ``count``, or something else.
    """
    texts = [text for text in _BETWEEN.split(read_text(file)) if text]
    if len(texts) != count:
        raise InputError(file, f"{count} numbers are expected, one a frame, found {len(texts)}")
    found = []
    for n, text in enumerate(texts, start=1):
        value = parse_finite(text)
        if value is None or not value.is_integer() or not 0 <= value <= highest:
            raise InputError(
                file, f"a number from 0 to {highest} is expected, found {text[:40]!r}", field=f"number {n}"
            )
        found.append(int(value))
    return found
