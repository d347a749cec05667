"""Fields of JSON entries that several formats share, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmvm_data.builders.common.text_files import MAX_COORDINATE
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Box
from mmvm_data.io.files import is_utf8

_LARGEST = 65535


def parse_side(file: Path, where: str, entry: dict[str, Any], key: str) -> int:
    """A width or a height in pixels.

    Args:
        file: the file, for the message.
        where: the entry, for the message.
        entry: the object.
        key: its key.

    Raises:
        InputError: no whole number from 1 to 65535.
    """
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
        reason = f"a whole number from 1 to {_LARGEST} is expected, found {value!r:.40}"
        raise InputError(file, reason, field=f"{where}, {key}")
    return value


def parse_file_names(file: Path, where: str, entry: dict[str, Any], key: str) -> list[str]:
    """A list of different file names; see ``parse_side`` for the arguments.

    Raises:
        InputError: no such list.
    """
    value = entry.get(key)
    if not isinstance(value, list) or not all(isinstance(name, str) and is_utf8(name) for name in value):
        raise InputError(file, "a list of file names is expected", field=f"{where}, {key}")
    if len(set(value)) != len(value):
        raise InputError(file, "a frame is listed twice", field=f"{where}, {key}")
    return value


def parse_box(file: Path, where: str, entry: dict[str, Any], key: str = "bbox") -> Box:
    """COCO's box ``[x, y, width, height]``; see ``parse_side`` for the arguments.

    Raises:
        InputError: not four finite numbers, the last two above 0.
    """
    value: Any = entry.get(key)
    usable = isinstance(value, list) and len(value) == 4
    if not usable or not all(type(v) in (int, float) and abs(v) < MAX_COORDINATE for v in value) or min(value[2:]) <= 0:
        reason = f"x, y, width and height above 0 are expected, found {value!r:.60}"
        raise InputError(file, reason, field=f"{where}, {key}")
    x, y, width, height = value
    return x, y, width, height
