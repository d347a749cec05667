"""Where the entries of a large annotation file are stored, so that one video can be read without the rest.

A reader builds an index by parsing its file once. What is kept is a few numbers per entry. A cached index is one line
of JSON and the numbers, with a digest over both; one that is damaged, or whose annotation file has changed in size or
modification time, is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import atomic_write, is_utf8, read_regular
from mmvm_data.io.read_log import note_file

_FORMAT = 2
_DIGEST_SIZE = 16


@dataclass(frozen=True)
class AnnotationIndex:
    """Byte ranges of the entries of one annotation file.

    An entry is a video, or an image in data sets of still images; its parts are the annotations (and other entries)
    that name it.

    Attributes:
        ids: ids of the usable entries, in the file's order.
        spans: int64 [n, 2], offset and length in bytes of each entry.
        row_starts: int64 [n + 1]; the parts of entry k are rows row_starts[k] to row_starts[k + 1] of ``part_spans``.
        part_spans: int64 [m, 2], offset and length in bytes of each part; annotations of crowds are omitted where the
            reader skips them.
        categories: category id (as text) -> name.
        rejects: (id or "", reason, field) of everything that cannot be used.
    """

    ids: tuple[str, ...]
    spans: NDArray[np.int64]
    row_starts: NDArray[np.int64]
    part_spans: NDArray[np.int64]
    categories: dict[str, str]
    rejects: tuple[tuple[str, str, str], ...]

    def entry_span(self, k: int) -> tuple[int, int]:
        """Return offset and length in bytes of entry ``k``."""
        offset, length = self.spans[k].tolist()
        return offset, length

    def parts_of(self, k: int) -> list[tuple[int, int]]:
        """Return offset and length in bytes of each part of entry ``k``, in the file's order."""
        return [
            (offset, length) for offset, length in self.part_spans[self.row_starts[k] : self.row_starts[k + 1]].tolist()
        ]


def open_index(file: Path, cache: Path | None, form: str, build: Callable[[Path], AnnotationIndex]) -> AnnotationIndex:
    """Return the index of ``file``: the cached one if it is valid, else a new one, which is cached if possible.

    Args:
        file: the annotation file.
        cache: folder, created when missing; None caches nothing. A folder that cannot be written to only costs time.
        form: name of the format; a file that is read in two formats has two indices.
        build: parses the file.

    Raises:
        InputError: the file cannot be read, or ``build`` raises it.
    """
    if cache is None:
        return build(file)
    try:
        status = os.stat(file)
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error
    note_file(file, status)  # which is not opened where its index is kept
    stamp = [_FORMAT, form, str(file.absolute()), status.st_size, status.st_mtime_ns]
    name = hashlib.blake2b(os.fsencode(file.absolute()), digest_size=8).hexdigest()
    cached = cache / f"{name}.index"
    try:
        index = _unpack_index(read_regular(cached), stamp)
    except OSError:
        index = None
    if index is not None:
        return index
    index = build(file)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_write(cached, "wb") as handle:
            handle.write(_pack_index(index, stamp))
    except OSError:
        pass  # a read-only or full disk: the next run parses the file again
    return index


def group_parts(
    entries: dict[str, tuple[int, int]], owners: list[str], owner_of_part: NDArray[np.int64]
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sort parts by the entry that they belong to.

    Args:
        entries: id -> offset and length of the usable entries, in the file's order.
        owners: ids that parts name.
        owner_of_part: int64 [m], the position in ``owners`` of each part's owner.

    Returns:
        ``ids``, ``spans`` and ``row_starts`` of an AnnotationIndex, and int64 [<= m], the numbers of the parts that
        have a usable owner, by owner and then in the file's order.
    """
    positions = {name: k for k, name in enumerate(entries)}
    position_of_owner = np.array([positions.get(name, -1) for name in owners], np.int64)
    position = position_of_owner[owner_of_part] if len(owner_of_part) else np.zeros(0, np.int64)
    order = np.argsort(position, kind="stable")
    order = order[position[order] >= 0]
    spans = np.array(list(entries.values()), np.int64).reshape(-1, 2)
    row_starts = np.searchsorted(position[order], np.arange(len(entries) + 1)).astype(np.int64)
    return tuple(entries), spans, row_starts, order


def parse_id(value: Any) -> str | None:
    """Return an id of a JSON file as text; None when it is neither a whole number nor a text that can be written as
    UTF-8."""
    if isinstance(value, str):
        return value if value and is_utf8(value) else None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def parse_category(value: Any) -> tuple[str, str] | None:
    """Return id and name of an entry of ``categories``; None when it lacks one of them."""
    entry = value if isinstance(value, dict) else {}
    key, name = parse_id(entry.get("id")), entry.get("name")
    return (key, name) if key is not None and isinstance(name, str) and name and is_utf8(name) else None


def _pack_index(index: AnnotationIndex, stamp: list[Any]) -> bytes:
    """Digest, then one line of JSON, then spans, row_starts and part_spans as little-endian int64."""
    head = {
        "stamp": stamp,
        "videos": index.ids,
        "annotations": len(index.part_spans),
        "categories": index.categories,
        "rejects": index.rejects,
    }
    tables = (index.spans, index.row_starts, index.part_spans)
    body = json.dumps(head).encode() + b"\n" + b"".join(table.astype("<i8").tobytes() for table in tables)
    return hashlib.blake2b(body, digest_size=_DIGEST_SIZE).digest() + body


def _unpack_index(data: bytes, stamp: list[Any]) -> AnnotationIndex | None:
    """Return the index in ``data``; None when it is damaged or belongs to another annotation file."""
    body = data[_DIGEST_SIZE:]
    if hashlib.blake2b(body, digest_size=_DIGEST_SIZE).digest() != data[:_DIGEST_SIZE]:
        return None
    line, _, rest = body.partition(b"\n")
    head = json.loads(line)
    if head["stamp"] != stamp:
        return None
    numbers = np.frombuffer(rest, "<i8").astype(np.int64)
    n = len(head["videos"])
    return AnnotationIndex(
        ids=tuple(head["videos"]),
        spans=numbers[: 2 * n].reshape(n, 2),
        row_starts=numbers[2 * n : 3 * n + 1],
        part_spans=numbers[3 * n + 1 :].reshape(head["annotations"], 2),
        categories=head["categories"],
        rejects=tuple((name, reason, field) for name, reason, field in head["rejects"]),
    )
