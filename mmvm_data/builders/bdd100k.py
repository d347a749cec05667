"""BDD100K, box tracking (5 frames per second) and segmentation tracking.

    box tracking           images/track/<split>/<video>/<video>-0000001.jpg
                           labels/box_track_20/<split>/<video>.json (labels-20/box-track in the older release)
    segmentation tracking  images/seg_track_20/<split>/<video>/<video>-0000001.jpg
                           labels/seg_track_20/bitmasks/<split>/<video>/<video>-0000001.png, or
                           labels/seg_track_20/rles/<split>/<video>.json

A JSON file is a list of frames ``{name, labels[] {id, category, attributes {occluded, truncated, crowd}, box2d {x1, y1,
x2, y2} or rle {size, counts}}}`` (or an object with that list under ``frames``); x2 and y2 are the last pixel inside. A
bitmask is an RGBA PNG: R is the category (from 1, 0 background), G the flags truncated 8, occluded 4, crowd 2, ignore
1, and B * 256 + A the identity. Eight categories are tracked; others, crowds and ignored objects are skipped.

Source: doc/source/{format,download}.rst of bdd100k/bdd100k; box2d_to_bbox of scalabel for x2 and y2.
"""

from __future__ import annotations

from pathlib import Path

from mmvm_data.builders.common.bdd100k_labels import load_bitmask_labels, load_json_labels
from mmvm_data.builders.common.folders import add_unique, list_subfolders, reject_from_error
from mmvm_data.builders.common.frames import list_frames
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Video
from mmvm_data.io.files import list_names, path_kind, printable_name

SPLITS = ("train", "val")
_BOX_FOLDERS = (("images/track", "labels/box_track_20"), ("images/track", "labels-20/box-track"))
_MASK_FOLDERS = (
    ("images/seg_track_20", "labels/seg_track_20/bitmasks"),
    ("images/seg_track_20", "labels/seg_track_20/rles"),
)


def open_bdd100k(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open box tracking: every split that has labels; a video's id is its name.

    Raises:
        InputError: the folders do not exist.
    """
    return _open(name, root, _BOX_FOLDERS)


def open_bdd100k_seg(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open segmentation tracking, bitmasks where they exist, else RLEs; otherwise as ``open_bdd100k``."""
    return _open(name, root, _MASK_FOLDERS)


def _open(name: str, root: Path, folders: tuple[tuple[str, str], ...]) -> Source:
    pairs = [(base / i, base / a) for base in (root, root / "bdd100k") for i, a in folders]
    pairs = [(images, labels) for images, labels in pairs if path_kind(images) == path_kind(labels) == "folder"]
    if not pairs:
        raise InputError(root, f"folders {folders[0][0]} and {folders[0][1]} are expected here")
    images, labels = pairs[0]
    rejects: list[Reject] = []
    paths: dict[str, Path] = {}
    for split in SPLITS:
        if path_kind(labels / split) == "folder":
            _add_split(name, root, labels / split, paths, rejects)

    def load(video: str) -> Video:
        if video not in paths:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        path = paths[video]
        load_labels = load_bitmask_labels if path_kind(path) == "folder" else load_json_labels
        return load_labels(name, root, video, list_frames(root, images / path.parent.name / video), path)

    return Source(name, root, sorted(paths), load, tuple(sorted(rejects)))


def _add_split(name: str, root: Path, labels: Path, paths: dict[str, Path], rejects: list[Reject]) -> None:
    """Add the videos of one split: id -> folder of bitmasks or JSON file."""
    try:
        if labels.parent.name == "bitmasks":
            entries, folder_rejects = list_subfolders(name, root, labels)
            rejects += folder_rejects
        else:
            entries = list_names(labels, (".json",))
    except InputError as error:
        rejects.append(reject_from_error(name, root, labels.name, error))
        return
    for entry in entries:
        path = labels / entry
        add_unique(name, root, path.stem if path.suffix.lower() == ".json" else entry, path, paths, rejects, "videos")
