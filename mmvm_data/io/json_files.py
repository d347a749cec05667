"""JSON that is parsed as a whole: documents of bounded depth, from regular files only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import read_regular

MAX_DEPTH: Final = 100
"""Levels of lists and objects that a document may have; what walks over values recursively may rely on it."""


def parse_json(
    text: str | bytes,
    file: str | Path,
    field: str | None = None,
    *,
    parse_constant: Callable[[str], Any] | None = None,
    has_unique_keys: bool = False,
) -> Any:
    """Return the value of a JSON document.

    Args:
        text: the document; bytes are UTF-8, with a byte order mark or without.
        file, field: where it comes from, for the message.
        parse_constant: called with ``NaN``, ``Infinity`` and ``-Infinity``, as by ``json.loads``.
        has_unique_keys: refuse a key that occurs twice in an object, of which ``json.loads`` keeps the last value.

    Raises:
        InputError: it is not JSON, or has more than MAX_DEPTH levels.
    """
    hook = partial(_make_object, file, field) if has_unique_keys else None
    try:
        value = json.loads(text, parse_constant=parse_constant, object_pairs_hook=hook)
    except RecursionError as error:
        raise InputError(file, f"not JSON: more than {MAX_DEPTH} levels", field) from error
    except ValueError as error:
        raise InputError(file, f"not JSON: {' '.join(str(error).split())}", field) from error
    if is_deeper(value, MAX_DEPTH):
        raise InputError(file, f"not JSON: more than {MAX_DEPTH} levels", field)
    return value


def parse_json_object(text: str | bytes, file: str | Path, field: str | None = None) -> dict[str, Any]:
    """Return a JSON object. Raises as ``parse_json``, and InputError for any other value."""
    return _require_object(parse_json(text, file, field), file, field)


def read_json_file(
    path: Path, *, parse_constant: Callable[[str], Any] | None = None, has_unique_keys: bool = False
) -> Any:
    """Return the value of a JSON file.

    Raises:
        InputError: the file is missing, is no regular file, or ``parse_json`` refuses its content.
    """
    return parse_json(read_file(path), path, parse_constant=parse_constant, has_unique_keys=has_unique_keys)


def read_json_object(path: Path, *, parse_constant: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """Return the object in a JSON file. Raises as ``read_json_file``, and InputError for any other value."""
    return _require_object(read_json_file(path, parse_constant=parse_constant), path, None)


def read_file(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        InputError: it is missing, cannot be read, or is a folder, a pipe or a device.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from error


def read_text_file(path: Path) -> str:
    """Return the text of a regular UTF-8 file. Raises as ``read_file``, and InputError for other encodings."""
    try:
        return read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, f"not UTF-8: {error}") from error


def is_deeper(value: Any, depth: int) -> bool:
    """Return whether lists and dicts are nested in more than ``depth`` levels."""
    level = [value] if isinstance(value, (dict, list)) else []
    while level and depth:
        depth -= 1
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, (dict, list))
        ]
    return bool(level)


def _make_object(file: str | Path, field: str | None, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of keys that are distinct."""
    value = dict(pairs)
    if len(value) < len(pairs):
        [(repeated, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise InputError(file, f"the key {repeated!r:.80} occurs twice in one object", field)
    return value


def _require_object(value: Any, file: str | Path, field: str | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(file, f"expected a JSON object, found {type(value).__name__}", field)
    return value
