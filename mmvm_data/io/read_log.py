"""Which files were read, so that a later process can tell whether they have changed.

What opens, lists or looks for files reports it here; nothing is kept unless a recording is in progress. Recordings may
be nested. They belong to the process, and are made by one thread.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")
Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds."""


@dataclass
class ReadLog:
    """What was read.

    Attributes:
        files: path -> its stamp; None for a file that was looked for and is not there.
        listings: (folder, suffixes of its files or None for folders) -> digest of the names.
    """

    files: dict[str, Stamp | None] = field(default_factory=dict)
    listings: dict[tuple[str, tuple[str, ...] | None], str] = field(default_factory=dict)

    def update(self, other: ReadLog) -> None:
        """Add what another recording has."""
        self.files.update(other.files)
        self.listings.update(other.listings)


_recordings: Final[list[ReadLog]] = []


@contextmanager
def record_reads() -> Iterator[ReadLog]:
    """Collect what is read inside the block."""
    log = ReadLog()
    _recordings.append(log)
    try:
        yield log
    finally:
        _recordings.remove(log)


def note_file(path: str | os.PathLike[str], status: os.stat_result | None) -> None:
    """Report a file that is read; without a status one that is missing."""
    for log in _recordings:
        log.files[os.fspath(path)] = (status.st_size, status.st_mtime_ns) if status else None


def note_path(path: str | os.PathLike[str]) -> None:
    """Report a file that is used without being opened here, as it is now."""
    if _recordings:
        try:
            note_file(path, os.stat(path))
        except OSError:
            note_file(path, None)


def note_listing(folder: str | os.PathLike[str], suffixes: tuple[str, ...] | None, names: Sequence[str]) -> None:
    """Report the names in a folder."""
    for log in _recordings:
        log.listings[os.fspath(folder), suffixes] = digest_names(names)


def digest_names(names: Sequence[str]) -> str:
    """Return a digest of names in their order."""
    return hashlib.blake2b("\0".join(names).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def cache_with_reads(function: Callable[Parameters, Value]) -> Callable[Parameters, Value]:
    """Keep results for good, as ``functools.cache`` does; what the first call read is reported by every later one."""
    results: dict[object, tuple[Value, ReadLog]] = {}

    @functools.wraps(function)
    def cached(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Value:
        key = (args, tuple(sorted(kwargs.items())))
        if key not in results:
            with record_reads() as log:
                value = function(*args, **kwargs)
            results[key] = value, log
        else:
            value, log = results[key]
            for recording in _recordings:
                recording.update(log)
        return value

    return cached
