"""The items of a large JSON file one by one, each with the bytes it fills, in the memory of one item.

The file is read in blocks as Latin-1, so that a character is a byte and positions in the text are positions in the
file. Each item is parsed by the C parser of ``json`` where it stands (``raw_decode`` also says where it ends); an item
that a block cuts is parsed again with the next block. An item with bytes above 127 is decoded again as UTF-8. So a
whole pass costs about one ``json.load`` and checks every byte, but keeps nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from mmvm_data.core.errors import InputError

BLOCK_SIZE = 1 << 20
"""Bytes that are read at a time; an item larger than that is read in steps that double."""

_MARGIN = 16
"""A parser's complaint this near to the end of a block may be about the cut: longer than any literal or escape."""
_SPACE = re.compile(r"[ \t\n\r]*")
_DIGITS = re.compile(r"[-+.eE0-9]*")
_BOM = "\xef\xbb\xbf"
_DECODER = json.JSONDecoder()


class JsonItem(NamedTuple):
    """One value below the top object.

    Attributes:
        key: the key of the top object that it belongs to.
        place: 0-based, in the list under that key; None for the value itself. A list is announced by an Item with
            place None and an empty list as its value, then come its items.
        offset, length: its bytes in the file; a list that is announced has length 0.
        value: what it says.
    """

    key: str
    place: int | None
    offset: int
    length: int
    value: Any


def iter_items(file: Path, offset: int = 0, length: int | None = None, block: int | None = None) -> Iterator[JsonItem]:
    """Every value under the keys of the top object, the items of lists one by one, in the file's order.

    Args:
        file: JSON in UTF-8, with an object at its top.
        offset, length: bytes of the file that are the object, as an Item says them; None: all the rest.
        block: bytes that are read at a time; None: BLOCK.

    Raises:
        InputError: unreadable, not JSON, cut short (``field`` says at which byte), or a key of the top object twice.
    """
    try:
        with open(file, "rb") as handle:
            handle.seek(offset)
            yield from _JsonScanner(file, handle, offset, length, block or BLOCK_SIZE).items()
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error


def parse_json(file: Path, data: bytes, offset: int) -> Any:
    """The value that some bytes of a file are.

    Args:
        file: where they come from, for the message.
        data: one JSON value in UTF-8.
        offset: its first byte in the file, for the message.

    Raises:
        InputError: not JSON.
    """
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(file, f"not valid JSON: {_error_text(error)}", field=f"byte {offset}") from error


def read_object(file: Path, offset: int, length: int) -> dict[str, Any]:
    """The object that lies at some bytes of a file, as an Item said them.

    Raises:
        InputError: the file cannot be read, or was changed since.
    """
    try:
        with open(file, "rb") as handle:
            handle.seek(offset)
            data = handle.read(length)
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error
    value = parse_json(file, data, offset)
    if not isinstance(value, dict):
        raise InputError(file, "the file was changed after it was opened", field=f"byte {offset}")
    return value


class _JsonScanner:
    """A window of text over the file, and the place in it that is read next."""

    def __init__(self, file: Path, handle: IO[bytes], offset: int, length: int | None, block: int) -> None:
        self._file = file
        self._handle = handle
        self._left = length
        self._block = block
        self._text = ""
        self._base = offset
        self._at = 0
        self._ended = False

    def items(self) -> Iterator[JsonItem]:
        while len(self._text) < len(_BOM) and self._more():
            pass
        if self._text.startswith(_BOM):
            self._at = len(_BOM)
        if self._next() != "{":
            raise self._error("an object is expected")
        self._at += 1
        seen: set[str] = set()
        for _ in self._separated("}"):
            where = self._base + self._at
            key, _, _ = self._value() if self._next() == '"' else (None, 0, 0)
            if key is None:
                raise self._error("a key in quotes is expected")
            if key in seen:
                raise InputError(self._file, f"the key {key!r} is there twice", field=f"byte {where}")
            seen.add(key)
            if self._next() != ":":
                raise self._error("a colon is expected")
            self._at += 1
            if self._next() == "[":
                yield JsonItem(key, None, self._base + self._at, 0, [])
                self._at += 1
                for place, _ in enumerate(self._separated("]")):
                    value, offset, length = self._value()
                    yield JsonItem(key, place, offset, length, value)
            else:
                value, offset, length = self._value()
                yield JsonItem(key, None, offset, length, value)
        if self._next():
            raise self._error("nothing is expected after the top object")

    def _separated(self, end: str) -> Iterator[None]:
        """Once before each of the values that commas separate, until ``end``, which is consumed."""
        first = True
        while True:
            found = self._next()
            if found == end and first:
                break
            if not first:
                if found not in (",", end) or not found:
                    raise self._error(f"a comma or {end} is expected")
                self._at += 1
                if found == end:
                    return
                if self._next() == end:
                    raise self._error("a value is expected after the comma")
            first = False
            yield
        self._at += 1

    def _next(self) -> str:
        """The next character that is not white space, "" at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _value(self) -> tuple[Any, int, int]:
        """The value that begins at the next character: what it says, its first byte, its number of bytes."""
        if not self._next():
            raise self._error("a value is expected")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _MARGIN
                if cut and self._more():
                    continue
                self._at = min(error.pos, len(self._text))
                raise self._error(error.msg, cut and self._ended) from error
            except (ValueError, RecursionError) as error:
                raise self._error(_error_text(error)) from error
            # a number may go on in the next block: 1 of 12, and the parser also gives 1 for "1." and "1e"
            if self._text[end - 1] not in '"}]' and _DIGITS.fullmatch(self._text, end) and self._more():
                continue
            offset, raw = self._base + self._at, self._text[self._at : end]
            if not raw.isascii():
                value = parse_json(self._file, raw.encode("latin-1"), offset)
            self._at = end
            return value, offset, len(raw)

    def _more(self) -> bool:
        """Add a block, as much as is still held at least, and let go of what was read; False at the end."""
        if self._ended:
            return False
        wanted = max(self._block, len(self._text) - self._at)
        block = self._handle.read(wanted if self._left is None else min(wanted, self._left))
        if not block:
            self._ended = True
            return False
        if self._left is not None:
            self._left -= len(block)
        self._base += self._at
        self._text = self._text[self._at :] + block.decode("latin-1")
        self._at = 0
        return True

    def _error(self, reason: str, cut: bool = False) -> InputError:
        found = "the file ends" if cut or (self._ended and self._at >= len(self._text)) else "not valid JSON"
        return InputError(self._file, f"{found}: {reason}", field=f"byte {self._base + self._at}")


def _error_text(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
