"""Telling the kinds of JSON annotation files apart by what they hold, where their names say nothing.

The beginning and the end of a file are enough: one of them holds an annotation, and both together the lists' names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import is_utf8, list_names, open_regular

JsonKind = Literal["ytvis", "panoptic", "coco", "datumaro"]
SIGNS: Final[dict[JsonKind, tuple[str, ...]]] = {
    "ytvis": ("file_names", "segmentations", "video_id"),
    "panoptic": ("segments_info", "image_id"),
    "coco": ("file_name", "image_id", "segmentation"),
    "datumaro": ("items", "label_id", "annotations"),
}
"""Keys that occur in files of each kind; the first kind that fits is the answer."""
_BLOCK_SIZE: Final = 1 << 18
_MAX_FILES: Final = 200
_FOLDERS: Final = ("", "annotations", "labels", "gt")


def find_json_files(root: Path, kind: JsonKind) -> list[Path]:
    """Return the JSON files of a kind in a folder, in its folders for annotations, and one level below."""
    return [file for file in _iter_json_files(root) if kind_of_json(file) == kind]


def list_json_kinds(root: Path) -> set[JsonKind]:
    """Return the kinds of the JSON files in these folders; each file is read once."""
    return {kind for file in _iter_json_files(root) if (kind := kind_of_json(file))}


def kind_of_json(file: Path) -> JsonKind | None:
    """Return the kind of a JSON file; None for one of another kind, and for one that cannot be read."""
    keys = _sample_keys(file)
    return next((kind for kind, signs in SIGNS.items() if keys.issuperset(signs)), None)


def holds_key(file: Path, key: str) -> bool:
    """Return whether a key occurs at the beginning or the end of a JSON file."""
    return key in _sample_keys(file)


def _sample_keys(file: Path) -> set[str]:
    """Return the keys at the beginning and the end of a file; none when it cannot be read."""
    try:
        with open_regular(file) as handle:
            data = handle.read(_BLOCK_SIZE)
            size = os.fstat(handle.fileno()).st_size
            if size > _BLOCK_SIZE:
                handle.seek(max(_BLOCK_SIZE, size - _BLOCK_SIZE))
                data += handle.read(_BLOCK_SIZE)
    except OSError:
        return set()
    return set(re.findall(r'"([a-z_]{2,20})"\s*:', data.decode("latin-1")))


def _iter_json_files(root: Path) -> Iterator[Path]:
    folders = [root / name for name in _FOLDERS]
    try:
        folders += [root / name for name in list_names(root) if name not in _FOLDERS]
    except InputError:
        return
    count = 0
    for folder in folders:
        try:
            names = list_names(folder, (".json",)) if folder.is_dir() else []
        except InputError:
            continue
        for name in names:
            if count == _MAX_FILES:
                return
            if is_utf8(name):
                count += 1
                yield folder / name
