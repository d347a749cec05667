"""Sets that one large JSON file describes: where the file lies, where its frames lie, and the source of its index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from mmvm_data.builders.common.annotation_index import AnnotationIndex
from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Video
from mmvm_data.io.files import is_utf8, path_kind, printable_name, safe_join

T = TypeVar("T")
_SAMPLES = 20


def find_annotation_file(root: Path, patterns: Iterable[str]) -> tuple[Path, tuple[Path, ...]] | None:
    """The annotation file, and the folders that frames may lie below.

    Args:
        root: the file itself, whose frames lie below its folder or the one above that; or a folder.
        patterns: where the file may lie in a folder; the first that is there counts.

    Returns:
        None when there is none of them.
    """
    if path_kind(root) == "file":
        file = root.absolute()
        return file, (file.parent, file.parent.parent)
    for pattern in patterns:
        if path_kind(root / pattern) == "file":
            return root / pattern, (root,)
    return None


def sample_positions(count: int) -> list[int]:
    """Up to 20 of ``count`` positions, over the whole: a set need not be there whole."""
    return np.unique(np.linspace(0, count - 1, min(count, _SAMPLES), dtype=int)).tolist() if count else []


def find_frames_folder(
    bases: Sequence[Path], folders: Sequence[str], found: Iterable[object], file: Path, such: str, wanted: str = "file"
) -> tuple[Path, Path]:
    """The base that holds the frames, and the folder that names in the file are relative to.

    Args:
        bases: folders to look in.
        folders: parts below a base, in the order in which they are tried.
        found: names that the file gives, tried one by one; what is no usable name is passed over.
        file: where they come from.
        such: the usual folder, for the message.
        wanted: whether a name is that of a "file" or of a "folder".

    Raises:
        InputError: none of the names is there.
    """
    missing = None
    for name in found:
        if not isinstance(name, str) or not is_utf8(name):
            continue
        for base in bases:
            for part in folders:
                if _has_entry(base / part, name, file, wanted):
                    return base, base / part
        missing = missing or name
    if missing is None:
        return bases[0], bases[0]
    raise InputError(bases[0], f"frames not found: no folder such as {such} holds {missing[:200]}")


def _has_entry(folder: Path, name: str, file: Path, wanted: str) -> bool:
    try:
        return path_kind(safe_join(folder, name, file)) == wanted
    except InputError:
        return False


@dataclass(frozen=True)
class IndexedEntries(Generic[T]):
    """What an index leads to: by id, and what of it cannot be used."""

    load: Callable[[str], T]
    rejects: tuple[Reject, ...]


def make_indexed_entries(
    name: str, base: Path, file: Path, index: AnnotationIndex, load: Callable[[str, int], T]
) -> IndexedEntries[T]:
    """The entries of an index by their ids.

    Args:
        name: of the source.
        base: folder that its paths are relative to.
        file: the annotation file.
        index: of that file.
        load: id and place in the index -> entry.
    """
    inner = relative_path(base, file) if file.is_relative_to(base) else printable_name(file.name)
    rejects = tuple(sorted(Reject(name, entry, -1, reason, inner, field) for entry, reason, field in index.rejects))
    places = {entry: k for k, entry in enumerate(index.videos)}

    def known(entry: str) -> T:
        if entry not in places:
            raise InputError(file, f"there is no usable video {printable_name(entry)!r}")
        return load(entry, places[entry])

    return IndexedEntries(known, rejects)


def make_indexed_source(
    name: str, base: Path, file: Path, index: AnnotationIndex, load: Callable[[str, int], Video]
) -> Source:
    """The source of an index; see ``make_indexed_entries``."""
    found = make_indexed_entries(name, base, file, index, load)
    return Source(name, base, index.videos, found.load, found.rejects)
