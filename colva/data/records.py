"""The records of a large JSON file by number, without the file in memory.

The first opening looks for the borders of records only: newlines, or in a JSON list the commas between its items.
That reads the file once and parses nothing; a record is parsed, and checked, when it is asked for.
The borders are kept in a cache folder and mapped from there, so that worker processes share them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import atomic_write

BLOCK: Final = 1 << 24
_FORMAT: Final = 1
_QUOTE, _BACKSLASH, _OPEN, _CLOSE, _COMMA = 1, 2, 3, 4, 5
_KINDS: Final = np.zeros(256, np.uint8)
_KINDS[[ord('"'), ord("\\")]] = (_QUOTE, _BACKSLASH)
_KINDS[[ord(c) for c in "{["]] = _OPEN
_KINDS[[ord(c) for c in "}]"]] = _CLOSE
_KINDS[ord(",")] = _COMMA


class Records:
    """The records of one file; `stamp` names its content (path, size, time)."""

    def __init__(self, file: Path, spans: NDArray[np.int64], stamp: str) -> None:
        self.file = file
        self.stamp = stamp
        self._spans = spans

    def __len__(self) -> int:
        return len(self._spans)

    def text(self, number: int) -> bytes:
        """The bytes of a record; InputError when the file cannot be read."""
        start, end = (int(v) for v in self._spans[number])
        try:
            with open(self.file, "rb") as handle:
                handle.seek(start)
                data = handle.read(end - start)
        except OSError as error:
            raise InputError(self.file, f"cannot be read: {error.strerror}") from error
        if len(data) != end - start:
            raise InputError(self.file, "the file was changed after it was opened", f"record {number}")
        return data

    def read(self, number: int) -> Any:
        """A record, parsed.

        Raises:
            InputError: it is not JSON.
        """
        try:
            return json.loads(self.text(number))
        except (ValueError, RecursionError) as error:
            raise InputError(self.file, f"not JSON: {error}", f"record {number}") from error


def open_records(file: Path, cache: Path | None) -> Records:
    """Open a JSON list or a file of JSON lines.

    Args:
        file: UTF-8; blank lines are no records.
        cache: folder that keeps the borders; made when missing. None keeps none; one that cannot be written to only
            costs time.

    Raises:
        InputError: the file cannot be read, is empty, or is cut short.
    """
    try:
        facts = os.stat(file)
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error
    said = f"{_FORMAT} {file.absolute()} {facts.st_size} {facts.st_mtime_ns}"
    stamp = hashlib.blake2b(os.fsencode(said), digest_size=12).hexdigest()
    kept = None if cache is None else cache / f"records-{stamp}.npy"
    if kept is not None and (found := _mapped(kept, facts.st_size)) is not None:
        return Records(file, found, stamp)
    spans = find_spans(file)
    if not len(spans):
        raise InputError(file, "holds no record")
    if kept is not None:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(kept, "wb") as handle:
                np.save(handle, spans, allow_pickle=False)
        except OSError:
            return Records(file, spans, stamp)
        mapped = _mapped(kept, facts.st_size)
        spans = spans if mapped is None else mapped
    return Records(file, spans, stamp)


def _mapped(kept: Path, size: int) -> NDArray[np.int64] | None:
    """The borders that are kept, or None when there are none that fit."""
    try:
        spans: NDArray[np.int64] = np.load(kept, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = spans.dtype == np.int64 and spans.ndim == 2 and spans.shape[1] == 2 and len(spans) > 0
    return spans if fits and spans[0, 0] >= 0 and spans[-1, 1] <= size else None


def find_spans(file: Path, block: int = BLOCK) -> NDArray[np.int64]:
    """First and last byte (exclusive) of each record: int64 `[n, 2]`.

    Raises:
        InputError: unreadable, or a list that does not end.
    """
    try:
        with open(file, "rb") as handle:
            head = handle.read(4096)
            begin = len(head) - len(head.lstrip(b"\xef\xbb\xbf \t\r\n"))
            is_list = head[begin : begin + 1] == b"["
            handle.seek(0)
            blocks = iter(lambda: handle.read(block), b"")
            return _items(file, blocks, begin) if is_list else _lines(blocks)
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error


def _lines(blocks: Iterator[bytes]) -> NDArray[np.int64]:
    ends, size, last = [], 0, b""
    for data in blocks:
        ends.append(np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + size)
        size, last = size + len(data), data[-1:]
    if last and last != b"\n":
        ends.append(np.array([size]))
    if not ends:
        return np.zeros((0, 2), np.int64)
    stops = np.concatenate(ends).astype(np.int64)
    starts = np.concatenate([[0], stops[:-1] + 1]).astype(np.int64)
    spans = np.stack([starts, stops], axis=1)
    return spans[stops - starts > 1]  # an empty line, or a carriage return alone


def _items(file: Path, blocks: Iterator[bytes], begin: int) -> NDArray[np.int64]:
    """Where the items of the list lie that begins at a byte: between its own commas."""
    borders = [np.array([begin], np.int64)]
    size, depth, quoted, escaped = 0, 0, False, False
    end = -1
    for data in blocks:
        kinds = _KINDS[np.frombuffer(data, np.uint8)]
        at = np.flatnonzero(kinds)
        found = kinds[at]
        kept = _unescaped(at, found, escaped)
        escaped = _ends_escaped(data, escaped)
        at, found = at[kept], found[kept]
        # inside a string after an odd number of quotes
        inside = (np.cumsum(found == _QUOTE) + quoted) % 2 == 1
        quoted = bool(inside[-1]) if len(inside) else quoted
        outside = ~inside & (found != _QUOTE)
        at, found = at[outside], found[outside]
        steps = (found == _OPEN).astype(np.int8) - (found == _CLOSE).astype(np.int8)
        depths = depth + np.cumsum(steps, dtype=np.int64)
        closed = np.flatnonzero((found == _CLOSE) & (depths == 0))
        stop = int(closed[0]) if len(closed) else len(at)
        own = (found[:stop] == _COMMA) & (depths[:stop] == 1)
        borders.append(at[:stop][own] + size)
        if len(closed):
            end = size + int(at[stop])
            break
        depth = int(depths[-1]) if len(depths) else depth
        size += len(data)
    if end < 0:
        raise InputError(file, "the file ends before its list does")
    commas = np.concatenate(borders).astype(np.int64)
    spans = np.stack([commas + 1, np.append(commas[1:], end)], axis=1)
    if len(spans) == 1:  # one item, or none
        with open(file, "rb") as handle:
            handle.seek(int(spans[0, 0]))
            if not handle.read(int(spans[0, 1] - spans[0, 0])).strip():
                return spans[:0]
    return spans


def _unescaped(at: NDArray[np.int64], found: NDArray[np.uint8], escaped: bool) -> NDArray[np.bool_]:
    """Which marks are no backslash and do not follow an odd run of them."""
    slashes = found == _BACKSLASH
    kept = ~slashes
    where = np.flatnonzero(slashes)
    if not len(where):
        if escaped and len(at) and at[0] == 0:
            kept[0] = False
        return kept
    places = at[where]
    first = np.flatnonzero(np.concatenate([[True], np.diff(places) != 1]))
    lengths = np.diff(np.append(first, len(places)))
    lengths[0] += int(escaped and places[0] == 0)
    after = where[np.append(first[1:], len(where)) - 1] + 1  # the mark behind each run, if it is next to it
    stops = places[np.append(first[1:], len(places)) - 1]
    odd = lengths % 2 == 1
    candidates = after[odd]
    ok = candidates < len(at)
    candidates, stops = candidates[ok], stops[odd][ok]
    kept[candidates[at[candidates] == stops + 1]] = False
    if escaped and at[0] == 0 and not slashes[0]:
        kept[0] = False
    return kept


def _ends_escaped(data: bytes, escaped: bool) -> bool:
    """Whether a block ends in an odd run of backslashes."""
    run = len(data) - len(data.rstrip(b"\\"))
    return (run + int(escaped and run == len(data))) % 2 == 1
