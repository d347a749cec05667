"""What a build has read of its source, in a form that a journal keeps and that a later process compares.

Files are compared by size and time of the last change, those of a mirror by what their store says. Folders are
compared by the names in them, so that other files that come and go beside a video's do not count.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError
from mmvm_data.io import remote
from mmvm_data.io.files import list_names
from mmvm_data.io.read_log import ReadLog, digest_names

Reads = dict[str, Any]
"""``files``: folder -> name -> [size, time] or null for a missing file; ``listings``: [folder, suffixes, digest]."""


@dataclass(frozen=True)
class SourceState:
    """A source when a build was started, or as it is now.

    Attributes:
        videos: their ids, in the order of the build.
        rejects: of the index.
        reads: what was read to list the videos; of folders nothing, since the ids say what was in them.
    """

    videos: list[str]
    rejects: list[dict[str, Any]]
    reads: Reads

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {"videos": self.videos, "rejects": self.rejects, "reads": self.reads}

    @classmethod
    def from_json(cls, record: dict[str, Any], file: str | Path) -> SourceState:
        """Return the state in a record.

        Raises:
            InputError: the record is none of a state.
        """
        videos, rejects, reads = (record.get(key) for key in ("videos", "rejects", "reads"))
        if not (isinstance(videos, list) and isinstance(rejects, list) and isinstance(reads, dict)):
            raise InputError(file, "expected `videos`, `rejects` and `reads` of a build's source")
        return cls(videos, rejects, reads)


def describe_source(opened: Source, videos: list[str], log: ReadLog, cache: Path | None) -> SourceState:
    """Return the state of a source.

    Args:
        opened: the source.
        videos: its videos in the order of the build.
        log: what opening it read.
        cache: folder of the index, which is no part of the source.
    """
    log = ReadLog(files=log.files)
    return SourceState(videos, [reject.to_json() for reject in opened.rejects], describe_reads(log, opened.root, cache))


def describe_reads(log: ReadLog, root: Path, cache: Path | None) -> Reads:
    """Return a recording as JSON values, with paths relative to the root where they lie in it.

    Args:
        log: the recording.
        root: of the source.
        cache: folder whose files are left out.
    """
    excluded = f"{os.path.abspath(cache)}/" if cache else None
    prefix = f"{os.path.abspath(root)}/"
    files: dict[str, dict[str, Any]] = {}
    for path, stamp in sorted(log.files.items()):
        text = os.path.abspath(path)
        if excluded and text.startswith(excluded):
            continue
        folder, name = os.path.split(text.removeprefix(prefix))
        files.setdefault(folder, {})[name] = _version(text, stamp)
    listings = [
        [os.path.abspath(folder).removeprefix(prefix), suffixes, digest]
        for (folder, suffixes), digest in sorted(log.listings.items(), key=lambda item: (item[0][0], item[0][1] or ()))
    ]
    return {
        "files": files,
        "listings": [[folder, suffixes and list(suffixes), digest] for folder, suffixes, digest in listings],
    }


def find_change(reads: Reads, root: Path) -> str | None:
    """Return what has changed since, in words; None when nothing has.

    Args:
        reads: of ``describe_reads``.
        root: of the source.
    """
    base = os.path.abspath(root)
    for folder, names in reads.get("files", {}).items():
        for name, before in names.items():
            now = _current_version(os.path.join(base, folder, name))
            if now != before:
                path = os.path.join(folder, name)
                return (
                    f"{path} {'is new' if before is None else 'is no longer there' if now is None else 'has changed'}"
                )
    for folder, suffixes, digest in reads.get("listings", []):
        try:
            names = list_names(Path(base, folder), suffixes and tuple(suffixes))
        except InputError:
            return f"{folder} is no longer there"
        if digest_names(names) != digest:
            return f"{folder} holds other files"
    return None


def _version(path: str, stamp: tuple[int, int] | None) -> list[Any] | None:
    version = remote.file_version(path)
    return list(version) if version else list(stamp) if stamp else None


def _current_version(path: str) -> list[Any] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _version(path, (status.st_size, status.st_mtime_ns))
