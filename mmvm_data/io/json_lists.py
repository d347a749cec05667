"""Long JSON lists, an item at a time, of bounded depth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import ijson

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import open_regular
from mmvm_data.io.json_files import MAX_DEPTH

_BOM: Final = b"\xef\xbb\xbf"
_REST_OF_STRING: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS: Final = bytes(value for value in range(256) if value not in b"[]{}")


def iter_json_list(path: Path) -> Iterator[Any]:
    """Yield the items of a file that is one JSON list.

    Raises:
        InputError: the file cannot be read, is no JSON list, or has more than MAX_DEPTH levels.
    """
    try:
        with open_regular(path) as handle:
            start = handle.read(4096)
            mark = len(_BOM) if start.startswith(_BOM) else 0
            if start[mark:].lstrip()[:1] not in (b"[", b""):
                raise InputError(path, "expected a JSON list")
            handle.seek(mark)
            yield from ijson.items(_DepthGuard(path, handle), "item", use_float=True)
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
    except (ijson.JSONError, ValueError, RecursionError) as error:
        raise InputError(path, f"not JSON: {' '.join(str(error).split())}") from error


class _DepthGuard:
    """A file of JSON that refuses to be read on once it is nested too deeply.

    The parser keeps the path to every value, so that its memory grows with the square of the depth.
    """

    def __init__(self, path: Path, handle: IO[bytes]) -> None:
        self._path = path
        self._handle = handle
        self._depth = 0
        self._is_in_string = self._is_escaped = False

    def read(self, size: int = -1) -> bytes:
        data = self._handle.read(size)
        self._check(data)
        return data

    def _check(self, data: bytes) -> None:
        if self._is_escaped and data:
            data, self._is_escaped = data[1:], False
        if self._is_in_string:
            end = _REST_OF_STRING.match(data)
            if end is None:
                self._is_escaped = _ends_in_escape(data)
                return
            data, self._is_in_string = data[end.end() :], False
        outside, quote, rest = _STRING.sub(b"", data).partition(b'"')
        if quote:
            self._is_in_string, self._is_escaped = True, _ends_in_escape(rest)
        for bracket in outside.translate(None, _NO_BRACKETS):
            self._depth += 1 if bracket in b"[{" else -1
            if self._depth > MAX_DEPTH:
                raise InputError(self._path, f"not JSON: more than {MAX_DEPTH} levels")


def _ends_in_escape(text: bytes) -> bool:
    """Return whether the last character of a piece of a string is a backslash that escapes the next one."""
    return (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
