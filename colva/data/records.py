"""Random access to the records of a large JSON file, without loading the file into memory.

The first time a file is opened, only the boundaries of its records are located: newlines, or in a JSON list the commas
between its items. That reads the file once and parses nothing; a record is parsed and validated when it is read.
The boundaries are cached in a folder and memory-mapped, so that worker processes share them.
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
from mmvm_data.io.files import atomic_write, open_regular

BLOCK_BYTES: Final = 1 << 24
_FORMAT: Final = 1
_QUOTE, _BACKSLASH, _OPEN, _CLOSE, _COMMA = 1, 2, 3, 4, 5
_BYTE_CLASSES: Final = np.zeros(256, np.uint8)
_BYTE_CLASSES[[ord('"'), ord("\\")]] = (_QUOTE, _BACKSLASH)
_BYTE_CLASSES[[ord(c) for c in "{["]] = _OPEN
_BYTE_CLASSES[[ord(c) for c in "}]"]] = _CLOSE
_BYTE_CLASSES[ord(",")] = _COMMA


class Records:
    """The records of one file; `stamp` is a hash of its path, size and modification time."""

    def __init__(self, file: Path, spans: NDArray[np.int64], stamp: str) -> None:
        self.file = file
        self.stamp = stamp
        self._spans = spans

    def __len__(self) -> int:
        return len(self._spans)

    def read_bytes(self, number: int) -> bytes:
        """The bytes of a record.

        Raises:
            InputError: the file cannot be read, or has changed.
        """
        start, end = (int(v) for v in self._spans[number])
        try:
            with open_regular(self.file) as handle:
                handle.seek(start)
                data = handle.read(end - start)
        except OSError as error:
            raise InputError(self.file, f"cannot be read: {error.strerror}") from error
        if len(data) != end - start:
            raise InputError(self.file, "the file has changed since it was opened", f"record {number}")
        return data

    def read(self, number: int) -> Any:
        """A parsed record.

        Raises:
            InputError: the record is not JSON.
        """
        try:
            return json.loads(self.read_bytes(number))
        except (ValueError, RecursionError) as error:
            raise InputError(self.file, f"not JSON: {error}", f"record {number}") from error


def open_records(file: Path, cache_dir: Path | None) -> Records:
    """Open a JSON list or a file of JSON lines.

    Args:
        file: UTF-8; blank lines are skipped.
        cache_dir: folder for the boundaries, created when missing. None caches nothing; a folder that cannot be written
            to only costs time.

    Raises:
        InputError: the file cannot be read, is empty, or is cut short.
    """
    try:
        status = os.stat(file)
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error
    identity = f"{_FORMAT} {file.absolute()} {status.st_size} {status.st_mtime_ns}"
    stamp = hashlib.blake2b(os.fsencode(identity), digest_size=12).hexdigest()
    cached = None if cache_dir is None else cache_dir / f"records-{stamp}.npy"
    if cached is not None and (mapped := _load_spans(cached, status.st_size)) is not None:
        return Records(file, mapped, stamp)
    spans = find_spans(file)
    if not len(spans):
        raise InputError(file, "holds no record")
    if cached is not None:
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(cached, "wb") as handle:
                np.save(handle, spans, allow_pickle=False)
        except OSError:
            return Records(file, spans, stamp)
        mapped = _load_spans(cached, status.st_size)
        spans = spans if mapped is None else mapped
    return Records(file, spans, stamp)


def _load_spans(cached: Path, size: int) -> NDArray[np.int64] | None:
    """The cached boundaries, memory-mapped; None when there are none that fit the file's size."""
    try:
        spans: NDArray[np.int64] = np.load(cached, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    is_valid = spans.dtype == np.int64 and spans.ndim == 2 and spans.shape[1] == 2 and len(spans) > 0
    return spans if is_valid and spans[0, 0] >= 0 and spans[-1, 1] <= size else None


def find_spans(file: Path, block_bytes: int = BLOCK_BYTES) -> NDArray[np.int64]:
    """First and last byte (exclusive) of each record: int64 `[n, 2]`.

    Raises:
        InputError: the file cannot be read, or its list does not end.
    """
    try:
        with open_regular(file) as handle:
            head = handle.read(4096)
            start = len(head) - len(head.lstrip(b"\xef\xbb\xbf \t\r\n"))
            is_list = head[start : start + 1] == b"["
            handle.seek(0)
            blocks = iter(lambda: handle.read(block_bytes), b"")
            return _find_item_spans(file, blocks, start) if is_list else _find_line_spans(blocks)
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error


def _find_line_spans(blocks: Iterator[bytes]) -> NDArray[np.int64]:
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
    return spans[stops - starts > 1]  # without empty lines and lines of a carriage return


def _find_item_spans(file: Path, blocks: Iterator[bytes], start: int) -> NDArray[np.int64]:
    """The items of the list that starts at byte `start`: between its own commas."""
    borders = [np.array([start], np.int64)]
    size, depth, in_string, escaped = 0, 0, False, False
    end = -1
    for data in blocks:
        classes = _BYTE_CLASSES[np.frombuffer(data, np.uint8)]
        places = np.flatnonzero(classes)
        marks = classes[places]
        kept = _select_unescaped(places, marks, escaped)
        escaped = _ends_escaped(data, escaped)
        places, marks = places[kept], marks[kept]
        # inside a string after an odd number of quotes
        inside = (np.cumsum(marks == _QUOTE) + in_string) % 2 == 1
        in_string = bool(inside[-1]) if len(inside) else in_string
        outside = ~inside & (marks != _QUOTE)
        places, marks = places[outside], marks[outside]
        steps = (marks == _OPEN).astype(np.int8) - (marks == _CLOSE).astype(np.int8)
        depths = depth + np.cumsum(steps, dtype=np.int64)
        closed = np.flatnonzero((marks == _CLOSE) & (depths == 0))
        stop = int(closed[0]) if len(closed) else len(places)
        is_border = (marks[:stop] == _COMMA) & (depths[:stop] == 1)
        borders.append(places[:stop][is_border] + size)
        if len(closed):
            end = size + int(places[stop])
            break
        depth = int(depths[-1]) if len(depths) else depth
        size += len(data)
    if end < 0:
        raise InputError(file, "the file ends before its list does")
    commas = np.concatenate(borders).astype(np.int64)
    spans = np.stack([commas + 1, np.append(commas[1:], end)], axis=1)
    if len(spans) == 1:  # one item, or none
        with open_regular(file) as handle:
            handle.seek(int(spans[0, 0]))
            if not handle.read(int(spans[0, 1] - spans[0, 0])).strip():
                return spans[:0]
    return spans


def _select_unescaped(places: NDArray[np.int64], marks: NDArray[np.uint8], escaped: bool) -> NDArray[np.bool_]:
    """Which marks are not backslashes and do not follow an odd run of backslashes.

    Args:
        places: positions of the marks in the block, ascending.
        marks: their classes.
        escaped: the block before ended in an odd run.
    """
    slashes = marks == _BACKSLASH
    kept: NDArray[np.bool_] = ~slashes
    indices = np.flatnonzero(slashes)
    if not len(indices):
        if escaped and len(places) and places[0] == 0:
            kept[0] = False
        return kept
    slash_places = places[indices]
    first = np.flatnonzero(np.concatenate([[True], np.diff(slash_places) != 1]))
    lengths = np.diff(np.append(first, len(slash_places)))
    lengths[0] += int(escaped and slash_places[0] == 0)
    last = np.append(first[1:], len(indices)) - 1
    next_marks = indices[last] + 1  # the mark after each run, which may be further away
    is_odd = lengths % 2 == 1
    candidates, stops = next_marks[is_odd], slash_places[last][is_odd]
    exists = candidates < len(places)
    candidates, stops = candidates[exists], stops[exists]
    kept[candidates[places[candidates] == stops + 1]] = False
    if escaped and places[0] == 0 and not slashes[0]:
        kept[0] = False
    return kept


def _ends_escaped(data: bytes, escaped: bool) -> bool:
    """Whether a block ends in an odd run of backslashes."""
    length = len(data) - len(data.rstrip(b"\\"))
    return (length + int(escaped and length == len(data))) % 2 == 1
