"""Text files of numbers, one line per frame: boxes and flags, as data sets for single-object tracking have them."""

from __future__ import annotations

import configparser
import math
import re
from pathlib import Path

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Box
from mmvm_data.io.media import read_bytes

MAX_COORDINATE = 1e6
"""Coordinates and sizes in pixels are below this."""
_COLUMNS = ("x", "y", "width", "height")
_SEPARATOR = re.compile(r"[,\s]+")

NumberedLine = tuple[int, str]
"""A line and its number, counted from 1."""


def read_text(file: Path) -> str:
    """Return the content of a UTF-8 file, with or without a byte order mark.

    Raises:
        InputError: missing, unreadable or not UTF-8.
    """
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(file, "not a text file", field=f"byte {error.start}") from error


def read_ini(file: Path) -> configparser.ConfigParser:
    """Return the content of an ini file, without interpolation.

    Raises:
        InputError: as ``read_text``, or not an ini file.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(file))
    except configparser.Error as error:
        reason = str(error).splitlines()[0].replace("'<string>'", "the file")
        raise InputError(file, f"not an ini file: {reason}") from error
    return parser


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file, stripped, without empty lines at its end.

    Raises:
        InputError: as ``read_text``, or a file without any other line.
    """
    lines = [line.strip() for line in read_text(file).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise InputError(file, "the file holds no annotation")
    return lines


def read_lines_by_frame(file: Path, separator: str | None) -> dict[int, list[NumberedLine]]:
    """Return the lines of each frame, of a file whose first column is the frame number.

    Args:
        file: the file.
        separator: separator of the columns; None for white space.

    Raises:
        InputError: no lines, not text, or a line whose frame number cannot be parsed: it may belong to any frame.
    """
    by_frame: dict[int, list[NumberedLine]] = {}
    for n, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        column = line.split(separator, 1)[0].strip()
        frame = parse_natural(column)
        if frame is None:
            reason = f"a frame number is expected, found {column[:40]!r}"
            raise InputError(file, reason, field=f"line {n}, column frame")
        by_frame.setdefault(frame, []).append((n, line))
    if not by_frame:
        raise InputError(file, "the file holds no annotation")
    return by_frame


def parse_natural(text: str) -> int | None:
    """Return an integer from 0 of at most nine digits, also written as 12.0 or 1.2e+01; None for anything else."""
    if text.isascii() and text.isdigit():
        return int(text) if len(text) < 10 else None
    value = parse_finite(text)
    return int(value) if value is not None and 0 <= value < 1e9 and value.is_integer() else None


def parse_finite(text: str) -> float | None:
    """Return a finite number in ASCII digits; None for anything else (``float`` also accepts nan, inf, 1_000 and other
    scripts)."""
    if not text.isascii() or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_numbers(file: Path, n: int, line: str) -> tuple[float, ...] | None:
    """Return the numbers of a line, separated by commas or white space; None when all of them are NaN.

    Args:
        file, n: file and line number (from 1), for the message.
        line: the line.

    Raises:
        InputError: a column is not a number, or above MAX_COORDINATE.
    """
    columns = [text.strip() for text in line.split(",")] if "," in line else line.split()
    if columns and all(text.lower() == "nan" for text in columns):
        return None
    values = []
    for k, text in enumerate(columns, start=1):
        value = parse_finite(text)
        if value is None or abs(value) > MAX_COORDINATE:
            raise InputError(file, f"a number is expected, found {text[:40]!r}", field=f"line {n}, column {k}")
        values.append(value)
    return tuple(values)


def parse_rectangle(file: Path, n: int, line: str) -> Box | None:
    """Return the box ``x, y, width, height`` of a line; None when the object is absent: all NaN, or no area.

    Args:
        file, n, line: as for ``parse_numbers``.

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


def read_flags(file: Path, count: int, maximum: int = 1) -> list[int]:
    """Return integers, one per frame, in one line or in many.

    Args:
        file: the file.
        count: number of frames.
        maximum: largest value; the smallest is 0.

    Raises:
        InputError: more or fewer than ``count`` values, or a value out of range.
    """
    texts = [text for text in _SEPARATOR.split(read_text(file)) if text]
    if len(texts) != count:
        raise InputError(file, f"{count} numbers are expected, one per frame, found {len(texts)}")
    flags = []
    for n, text in enumerate(texts, start=1):
        value = parse_finite(text)
        if value is None or not value.is_integer() or not 0 <= value <= maximum:
            reason = f"a number from 0 to {maximum} is expected, found {text[:40]!r}"
            raise InputError(file, reason, field=f"number {n}")
        flags.append(int(value))
    return flags
