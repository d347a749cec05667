"""BDD100K, box tracking (5 frames a second) and segmentation tracking.

    box tracking           images/track/<split>/<video>/<video>-0000001.jpg
                           labels/box_track_20/<split>/<video>.json (labels-20/box-track in the older release)
    segmentation tracking  images/seg_track_20/<split>/<video>/<video>-0000001.jpg
                           labels/seg_track_20/bitmasks/<split>/<video>/<video>-0000001.png, or
                           labels/seg_track_20/rles/<split>/<video>.json

A JSON file is a list of frames ``{name, labels[] {id, category, attributes {occluded, truncated, crowd}, box2d {x1, y1,
x2, y2} or rle {size, counts}}}`` (or an object with that list under ``frames``); x2 and y2 are the last pixel inside. A
bitmask is an RGBA PNG: R category (from 1, 0 background), G flags truncated 8, occluded 4, crowd 2, ignore 1, and
B * 256 + A the identity. Eight categories are tracked; others, crowds and what is to be ignored are left out.

Source: doc/source/{format,download}.rst of bdd100k/bdd100k; box2d_to_bbox of scalabel for x2 and y2.
"""

from __future__ import annotations

from pathlib import Path

from mmvm_data.builders.common.bdd100k_labels import load_bitmask_labels, load_json_labels
from mmvm_data.builders.common.folders import list_frames, list_subfolders, reject_from_error, relative_path
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name

SPLITS = ("train", "val")
_BOXES = (("images/track", "labels/box_track_20"), ("images/track", "labels-20/box-track"))
_MASKS = (
    ("images/seg_track_20", "labels/seg_track_20/bitmasks"),
    ("images/seg_track_20", "labels/seg_track_20/rles"),
)


def open_bdd100k(name: str, root: Path, cache: Path | None = None) -> Source:
    """Box tracking: every split that has labels; a video's id is its name.

    Raises:
        InputError: no such folders.
    """
    return _open(name, root, _BOXES)


def open_bdd100k_seg(name: str, root: Path, cache: Path | None = None) -> Source:
    """Segmentation tracking, from bitmasks where they are there, else from run lengths."""
    return _open(name, root, _MASKS)


def _open(name: str, root: Path, pairs: tuple[tuple[str, str], ...]) -> Source:
    places = [(b / i, b / m) for b in (root, root / "bdd100k") for i, m in pairs]
    places = [(images, marks) for images, marks in places if path_kind(images) == path_kind(marks) == "folder"]
    if not places:
        raise InputError(root, f"folders {pairs[0][0]} and {pairs[0][1]} are expected here")
    images, marks = places[0]
    rejects: list[Reject] = []
    found: dict[str, tuple[Path, Path]] = {}
    for split in SPLITS:
        if path_kind(marks / split) == "folder":
            _add_split(name, root, images / split, marks / split, found, rejects)

    def load(video: str) -> Video:
        if video not in found:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        frames_in, labels_in = found[video]
        if path_kind(frames_in) != "folder":
            raise InputError(frames_in, "no frames: the folder is missing")
        read = load_bitmask_labels if path_kind(labels_in) == "folder" else load_json_labels
        return read(name, root, video, list_frames(root, frames_in), labels_in)

    return Source(name, root, sorted(found), load, tuple(sorted(rejects)))


def _add_split(
    name: str, root: Path, images: Path, marks: Path, found: dict[str, tuple[Path, Path]], rejects: list[Reject]
) -> None:
    """The videos of one split."""
    try:
        if marks.parent.name == "bitmasks":
            videos, more = list_subfolders(name, root, marks)
            rejects += more
            files = {video: marks / video for video in videos}
        else:
            listed = list_names(marks, (".json",))
            files = {Path(file).stem: marks / file for file in listed if is_utf8(file)}
            for file in (file for file in listed if not is_utf8(file)):
                reason = "the file's name is not UTF-8"
                rejects.append(
                    Reject(name, printable_name(Path(file).stem), -1, reason, relative_path(root, marks / file))
                )
    except InputError as error:
        rejects.append(reject_from_error(name, root, marks.name, error))
        return
    for video, place in files.items():
        if video in found:
            reason = f"two videos have one name, {relative_path(root, found[video][1])} is read"
            rejects.append(Reject(name, video, -1, reason, relative_path(root, place)))
        else:
            found[video] = images / video, place
