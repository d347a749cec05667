"""Checked fields of JSON entries that several formats share.

All functions take the annotation file and the entry in it for the error message.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmvm_data.builders.common.text_files import MAX_COORDINATE
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Box
from mmvm_data.io.files import is_utf8

MAX_SIDE = 65535
"""Largest width or height of an image in pixels."""


def parse_side(file: Path, where: str, entry: dict[str, Any], key: str) -> int:
    """Return a width or a height in pixels.

    Args:
        file, where: the file and the entry in it, for the message.
        entry: the object.
        key: its key.

    Raises:
        InputError: not a whole number from 1 to 65535.
    """
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE:
        reason = f"an integer from 1 to {MAX_SIDE} is expected, found {value!r:.40}"
        raise InputError(file, reason, field=f"{where}, {key}")
    return value


def parse_file_name(file: Path, where: str, entry: dict[str, Any], key: str = "file_name") -> str:
    """Return a file name; arguments as in ``parse_side``.

    Raises:
        InputError: not a text that can be written as UTF-8.
    """
    value = entry.get(key)
    if not isinstance(value, str) or not is_utf8(value):
        raise InputError(file, f"a file name is expected, found {value!r:.40}", field=f"{where}, {key}")
    return value


def parse_file_names(file: Path, where: str, entry: dict[str, Any], key: str) -> list[str]:
    """Return a list of distinct file names; arguments as in ``parse_side``.

    Raises:
        InputError: not such a list.
    """
    value = entry.get(key)
    if not isinstance(value, list) or not all(isinstance(name, str) and is_utf8(name) for name in value):
        raise InputError(file, "a list of file names is expected", field=f"{where}, {key}")
    if len(set(value)) != len(value):
        raise InputError(file, "a frame is listed twice", field=f"{where}, {key}")
    return value


def parse_is_crowd(file: Path, where: str, entry: dict[str, Any]) -> bool:
    """Return whether an annotation marks a group of objects (``iscrowd``, in SA-Co ``is_crowd``); arguments as in
    ``parse_side``.

    Raises:
        InputError: neither 0 nor 1.
    """
    value = entry.get("iscrowd", entry.get("is_crowd", 0))
    if value not in (0, 1):
        raise InputError(file, f"0 or 1 is expected, found {value!r:.40}", field=f"{where}, iscrowd")
    return bool(value)


def parse_box(file: Path, where: str, entry: dict[str, Any], key: str = "bbox") -> Box:
    """Return COCO's box ``[x, y, width, height]``; arguments as in ``parse_side``.

    Raises:
        InputError: not four finite numbers, the last two above 0.
    """
    value: Any = entry.get(key)
    is_list = isinstance(value, list) and len(value) == 4
    if (
        not is_list
        or not all(type(v) in (int, float) and abs(v) < MAX_COORDINATE for v in value)
        or min(value[2:]) <= 0
    ):
        reason = f"x, y, width and height above 0 are expected, found {value!r:.60}"
        raise InputError(file, reason, field=f"{where}, {key}")
    x, y, width, height = value
    return x, y, width, height
