"""Streaming JSON: the items of a large file one by one, each with its byte range, in the memory of one item.

The file is read in blocks as Latin-1, so that one character is one byte and positions in the text are positions in the
file. Each item is parsed in place by the C parser of ``json`` (``raw_decode`` also returns where it ends); an item that
continues in the next block is parsed again together with that block. An item with bytes above 127 is decoded again as
UTF-8. So a full pass costs about one ``json.load`` and checks every byte, but keeps nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import open_regular

BLOCK_SIZE = 1 << 20
"""Bytes that are read at a time; for an item larger than that, the amount doubles with each step."""

_MARGIN = 16
"""A parser error this close to the end of a block may be due to the cut. Longer than any literal or escape."""
_SPACE = re.compile(r"[ \t\n\r]*")
_DIGITS = re.compile(r"[-+.eE0-9]*")
_BOM = "\xef\xbb\xbf"
_DECODER = json.JSONDecoder()


class JsonItem(NamedTuple):
    """One value below the top-level object.

    Attributes:
        key: key of the top-level object that it belongs to.
        position: 0-based, in the list under that key; None for the value itself. A list yields first an item with
            position None and an empty list as its value, then its items.
        offset, length: its byte range in the file; length is 0 for the first item of a list.
        value: the parsed value.
    """

    key: str
    position: int | None
    offset: int
    length: int
    value: Any


def iter_items(
    file: Path, offset: int = 0, length: int | None = None, block_size: int | None = None
) -> Iterator[JsonItem]:
    """Yield every value under the keys of the top-level object, lists item by item, in the file's order.

    Args:
        file: JSON in UTF-8 with an object at the top level.
        offset, length: byte range of the object, as in a JsonItem; None: to the end of the file.
        block_size: bytes that are read at a time; None: BLOCK_SIZE.

    Raises:
        InputError: unreadable, not JSON, cut off (``field`` names the byte), or a key of the top-level object that
            occurs twice.
    """
    try:
        with open_regular(file) as handle:
            handle.seek(offset)
            yield from _JsonScanner(file, handle, offset, length, block_size or BLOCK_SIZE).iter_items()
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error


def parse_json(file: Path, data: bytes, offset: int) -> Any:
    """Return the value of some bytes of a file.

    Args:
        file: for the message.
        data: one JSON value in UTF-8.
        offset: position of its first byte in the file, for the message.

    Raises:
        InputError: not JSON.
    """
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(file, f"not valid JSON: {_error_text(error)}", field=f"byte {offset}") from error


def read_object(file: Path, offset: int, length: int) -> dict[str, Any]:
    """Return the object in a byte range of a file, as given by a JsonItem.

    Raises:
        InputError: the file cannot be read, or has changed since.
    """
    try:
        with open_regular(file) as handle:
            handle.seek(offset)
            data = handle.read(length)
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error
    value = parse_json(file, data, offset)
    if not isinstance(value, dict):
        raise InputError(file, "the file was changed after it was opened", field=f"byte {offset}")
    return value


class _JsonScanner:
    """A window of text over the file, and the position in it that is parsed next."""

    def __init__(self, file: Path, handle: IO[bytes], offset: int, length: int | None, block_size: int) -> None:
        self._file = file
        self._handle = handle
        self._remaining = length
        self._block_size = block_size
        self._text = ""
        self._base = offset
        self._position = 0
        self._at_end = False

    def iter_items(self) -> Iterator[JsonItem]:
        while len(self._text) < len(_BOM) and self._read_block():
            pass
        if self._text.startswith(_BOM):
            self._position = len(_BOM)
        if self._peek() != "{":
            raise self._make_error("an object is expected")
        self._position += 1
        keys: set[str] = set()
        for _ in self._iter_separated("}"):
            offset_of_key = self._base + self._position
            key, _, _ = self._parse_value() if self._peek() == '"' else (None, 0, 0)
            if key is None:
                raise self._make_error("a key in quotes is expected")
            if key in keys:
                raise InputError(self._file, f"the key {key!r} occurs twice", field=f"byte {offset_of_key}")
            keys.add(key)
            if self._peek() != ":":
                raise self._make_error("a colon is expected")
            self._position += 1
            if self._peek() == "[":
                yield JsonItem(key, None, self._base + self._position, 0, [])
                self._position += 1
                for position, _ in enumerate(self._iter_separated("]")):
                    value, offset, length = self._parse_value()
                    yield JsonItem(key, position, offset, length, value)
            else:
                value, offset, length = self._parse_value()
                yield JsonItem(key, None, offset, length, value)
        if self._peek():
            raise self._make_error("nothing is expected after the top-level object")

    def _iter_separated(self, end: str) -> Iterator[None]:
        """Yield before each of the comma-separated values, until ``end``, which is consumed."""
        is_first = True
        while True:
            character = self._peek()
            if character == end and is_first:
                break
            if not is_first:
                if character not in (",", end) or not character:
                    raise self._make_error(f"a comma or {end} is expected")
                self._position += 1
                if character == end:
                    return
                if self._peek() == end:
                    raise self._make_error("a value is expected after the comma")
            is_first = False
            yield
        self._position += 1

    def _peek(self) -> str:
        """Return the next character that is not white space; "" at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._position)
            self._position = space.end() if space else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._read_block():
                return ""

    def _parse_value(self) -> tuple[Any, int, int]:
        """Parse the value that starts at the next character; return it, its offset and its length in bytes."""
        if not self._peek():
            raise self._make_error("a value is expected")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _MARGIN
                if is_cut and self._read_block():
                    continue
                self._position = min(error.pos, len(self._text))
                raise self._make_error(error.msg, is_cut and self._at_end) from error
            except (ValueError, RecursionError) as error:
                raise self._make_error(_error_text(error)) from error
            # a number may continue in the next block: 1 of 12, and the parser also returns 1 for "1." and "1e"
            if self._text[end - 1] not in '"}]' and _DIGITS.fullmatch(self._text, end) and self._read_block():
                continue
            offset, raw = self._base + self._position, self._text[self._position : end]
            if not raw.isascii():
                value = parse_json(self._file, raw.encode("latin-1"), offset)
            self._position = end
            return value, offset, len(raw)

    def _read_block(self) -> bool:
        """Append a block, at least as large as the unparsed text, and drop what was parsed; return False at the end."""
        if self._at_end:
            return False
        size = max(self._block_size, len(self._text) - self._position)
        block = self._handle.read(size if self._remaining is None else min(size, self._remaining))
        if not block:
            self._at_end = True
            return False
        if self._remaining is not None:
            self._remaining -= len(block)
        self._base += self._position
        self._text = self._text[self._position :] + block.decode("latin-1")
        self._position = 0
        return True

    def _make_error(self, reason: str, is_cut: bool = False) -> InputError:
        problem = (
            "the file ends" if is_cut or (self._at_end and self._position >= len(self._text)) else "not valid JSON"
        )
        return InputError(self._file, f"{problem}: {reason}", field=f"byte {self._base + self._position}")


def _error_text(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
