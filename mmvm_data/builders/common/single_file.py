"""Data sets that one large JSON file describes: finding the file and its frames, and the source of its index."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np

from mmvm_data.builders.common.annotation_index import AnnotationIndex
from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name, safe_join

T = TypeVar("T")
_NUM_SAMPLES = 20
_MAX_DEPTH, _MAX_FOLDERS = 3, 400
"""Levels and folders that are searched for frames."""
_MAX_NAMED = 2


def find_annotation_file(root: Path, patterns: Iterable[str]) -> tuple[Path, tuple[Path, ...]] | None:
    """Return the annotation file and the folders below which its frames may be; None when there is no such file.

    Args:
        root: the file itself, whose frames are below its folder or that folder's parent; or a folder.
        patterns: paths of the file in a folder; the first that exists is used.
    """
    if path_kind(root) == "file":
        file = root.absolute()
        return file, (file.parent, file.parent.parent)
    for pattern in patterns:
        if path_kind(root / pattern) == "file":
            return root / pattern, (root,)
    return None


def sample_positions(count: int) -> list[int]:
    """Return up to 20 of ``count`` positions, evenly spread, since a data set may be incomplete."""
    return np.unique(np.linspace(0, count - 1, min(count, _NUM_SAMPLES), dtype=int)).tolist() if count else []


def find_frames_folder(
    bases: Sequence[Path],
    folders: Sequence[str],
    entries: Iterable[object],
    file: Path,
    example: str,
    kind: Literal["file", "folder"] = "file",
) -> tuple[Path, Path]:
    """Return the base that holds the frames, and the folder that names in the annotation file are relative to.

    Where none of the usual folders holds them, files are looked for in the other folders of the first base.

    Args:
        bases: folders to look in.
        folders: paths below a base, in the order in which they are tried.
        entries: names out of the annotation file, tried one by one; values that are no usable name are skipped.
        file: the annotation file.
        example: the usual folder, for the message.
        kind: whether the names are those of files or of folders.

    Raises:
        InputError: none of the names exists, or other folders than the usual ones hold the same names.
    """
    names = []
    for name in entries:
        if not isinstance(name, str) or not is_utf8(name):
            continue
        for base in bases:
            for part in folders:
                if _has_entry(base / part, name, file, kind):
                    return base, base / part
        names.append(name)
    if not names:
        return bases[0], bases[0]
    found = _search_folders(bases[0], names, file) if kind == "file" else []
    if len(found) == 1:
        return bases[0], found[0]
    if found:
        where = " and ".join(relative_path(bases[0], folder) for folder in found[:_MAX_NAMED])
        raise InputError(
            bases[0], f"frames not found: none of the usual folders, such as {example}, holds them, but {where} both do"
        )
    raise InputError(bases[0], f"frames not found: no folder such as {example} holds {names[0][:200]}")


def _search_folders(base: Path, names: Sequence[str], file: Path) -> list[Path]:
    """Return the folders below a base that hold most of some names, of the first ones level by level."""
    counts: dict[Path, int] = {}
    queue, seen = deque([(base, _MAX_DEPTH)]), set[Path]()
    for _ in range(_MAX_FOLDERS):
        if not queue:
            break
        folder, levels = queue.popleft()
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        if count := sum(_has_entry(folder, name, file, "file") for name in names):
            counts[folder] = count
        elif levels:
            queue.extend((folder / name, levels - 1) for name in _list_subfolders(folder))
    most = max(counts.values(), default=0)
    return [folder for folder, count in counts.items() if count == most]


def _list_subfolders(folder: Path) -> list[str]:
    try:
        return [name for name in list_names(folder) if is_utf8(name)]
    except InputError:
        return []


def _has_entry(folder: Path, name: str, file: Path, kind: Literal["file", "folder"]) -> bool:
    try:
        return path_kind(safe_join(folder, name, file)) == kind
    except InputError:
        return False


@dataclass(frozen=True)
class IndexedEntries(Generic[T]):
    """The entries of an annotation file.

    Attributes:
        load: id -> entry; raises InputError for an unknown id.
        rejects: entries that cannot be used.
    """

    load: Callable[[str], T]
    rejects: tuple[Reject, ...]


def make_indexed_entries(
    name: str, base: Path, file: Path, index: AnnotationIndex, load: Callable[[str, int], T]
) -> IndexedEntries[T]:
    """Return the entries of an index by their ids.

    Args:
        name: of the source.
        base: folder that paths of the source are relative to.
        file: the annotation file.
        index: of that file.
        load: id and position in the index -> entry.
    """
    path = relative_path(base, file) if file.is_relative_to(base) else printable_name(file.name)
    rejects = tuple(sorted(Reject(name, entry, -1, reason, path, field) for entry, reason, field in index.rejects))
    positions = {entry: k for k, entry in enumerate(index.ids)}

    def load_entry(entry: str) -> T:
        if entry not in positions:
            raise InputError(file, f"there is no usable video {printable_name(entry)!r}")
        return load(entry, positions[entry])

    return IndexedEntries(load_entry, rejects)


def make_indexed_source(
    name: str, base: Path, file: Path, index: AnnotationIndex, load: Callable[[str, int], Video]
) -> Source:
    """Return the source of an index; arguments as in ``make_indexed_entries``."""
    entries = make_indexed_entries(name, base, file, index, load)
    return Source(name, base, index.ids, entries.load, entries.rejects)
