"""VIPSeg: ``imgs/<video>/*.jpg`` and ``panomasks/<video>/*.png`` (``images`` in the 720p version).

A panomask holds a number a pixel: 0 void, 1 to 124 the category of stuff, and for things category * 100 + instance.
Things are the objects; a thing's number is its identity over the video. Names of categories come from
``panoVIPSeg_categories.json`` in the root or the folder above the masks, whose ids are smaller by one (void has none);
without the file a category is called by its number.

Source: README.md, panoVIPSeg_categories.json and label_num_dic_final.json of VIPSeg-Dataset/VIPSeg-Dataset.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mmvm_data.builders.common.folders import (
    list_frames,
    list_subfolders,
    read_json_without_frames,
    relative_path,
    require_two_frames,
)
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Region, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name
from mmvm_data.io.png import read_labels

CATEGORIES_FILE = "panoVIPSeg_categories.json"
NUM_CATEGORIES = 124
"""Largest number of stuff, and number of categories."""
_BASES = ("", "VIPSeg", "VIPSeg_720P")
_PAIRS = tuple((images, marks) for images in ("imgs", "images") for marks in ("panomasks", "panomask"))
_KEPT = 8


def open_vipseg(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open VIPSeg, as it was published or at 720p.

    Raises:
        InputError: the two folders are not there, or the file of categories is broken.
    """
    for base in _BASES:
        for images, marks in _PAIRS:
            frames, masks_in = root / base / images, root / base / marks
            if path_kind(frames) == path_kind(masks_in) == "folder":
                return _open(name, root, frames, masks_in)
    raise InputError(root, "folders imgs (or images) and panomasks are expected here")


def _open(name: str, root: Path, frames: Path, masks_in: Path) -> Source:
    categories = _read_categories(root, masks_in)
    with_masks, rejects = list_subfolders(name, root, masks_in)
    usable = []
    for video in with_masks:
        if path_kind(frames / video) == "folder":
            usable.append(video)
        else:
            rejects.append(Reject(name, video, -1, "masks without frames", relative_path(root, masks_in / video)))
    known = frozenset(usable)

    def load(video: str) -> Video:
        if video not in known:
            raise InputError(masks_in, f"there is no video {printable_name(video)!r}")
        return _load_video(name, root, video, frames / video, masks_in / video, categories)

    return Source(name, root, usable, load, tuple(sorted(rejects)))


def _read_categories(root: Path, masks_in: Path) -> dict[int, str]:
    """Number in the masks -> name."""
    file = next(
        (f for f in (root / CATEGORIES_FILE, masks_in.parent / CATEGORIES_FILE) if path_kind(f) == "file"), None
    )
    if file is None:
        return {}
    data = read_json_without_frames(file)
    found: dict[int, str] = {}
    for k, entry in enumerate(data if isinstance(data, list) else ()):
        values = entry if isinstance(entry, dict) else {}
        number, title = values.get("id"), values.get("name")
        if type(number) is not int or not isinstance(title, str) or not title or not is_utf8(title):
            raise InputError(file, "an object with id and name is expected", field=f"[{k}]")
        found[number + 1] = title
    if not found:
        raise InputError(file, "a list of categories is expected")
    return found


def _load_video(name: str, root: Path, video: str, images: Path, marks: Path, categories: dict[int, str]) -> Video:
    frames = list_frames(root, images)
    marked = {Path(file).stem: marks / file for file in list_names(marks, (".png",))}
    files = {p: marked[stem] for p, frame in enumerate(frames) if (stem := Path(frame.path).stem) in marked}

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        file, frame = files[position], frames[position]
        ids = read_labels(file, frame.width, frame.height).ids
        found = []
        for number, rle in masks.encode_labels(ids).items():
            if 0 < number <= NUM_CATEGORIES:
                continue
            if not 0 < number // 100 <= NUM_CATEGORIES:
                raise InputError(
                    file, f"{number} is neither stuff (to {NUM_CATEGORIES}) nor a thing (category * 100 + instance)"
                )
            category = categories.get(number // 100, f"category {number // 100}")
            found.append(Region(id=str(number), mask=rle, category=category))
        return tuple(found)

    annotated = require_two_frames(marks, tuple(files))
    return Video.lazy(read, id=video, source=name, root=root, frames=frames, annotated=annotated)
