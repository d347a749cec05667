"""Sets of single-object trackers: a sequence is a folder of frames and a text file of boxes, one line a frame.

    LaSOT       [<split>/]<class>/<class-n>/{img/00000001.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt};
                absent is a box without area or a 1 in one of the two files (or in absent.txt, which the evaluation
                toolkit has in their place)
    GOT-10k     [<split>/]<sequence>/{00000001.jpg, groundtruth.txt, absence.label, cover.label, meta_info.ini}; cover
                is how much shows, from 0 to 8
    VastTrack   [<split>/]<class>/<class-n>/{imgs/*.jpg, Groundtruth.txt}; occlusion and absence as in LaSOT, where the
                files are there
    UTB180      <sequence>/{imgs/0001.jpg, groundtruth_rect.txt}, numbers with fractions, white space between them
    OTB         <sequence>/{img/0001.jpg, groundtruth_rect.txt}, commas, tabs or blanks; Jogging, Skating2 and Human4
                have groundtruth_rect.1.txt and .2.txt, two objects of one video. David begins at frame 300; some
                sequences have more frames than lines, and then the first ones count
    TrackingNet <chunk>/{anno/<sequence>.txt, frames/<sequence>/0.jpg}; the TEST chunk gives first boxes alone
    VideoCube   data/<split>/<sequence>/frame_<sequence>/*.jpg, attribute/groundtruth/<sequence>.txt, attribute/absent
    UAV123      see ``uav123``; VOT: see ``vot``

Boxes are ``x, y, width, height`` in pixels and stay as they are. A frame counts as annotated where every object of its
video has a line. One object a video makes no case by itself: name a folder of proposals, or ask for one candidate.

Sources: the sets' pages (``catalogue``), README of HengLan/LaSOT_Evaluation_Toolkit, HengLan/VastTrack,
SilvioGiancola/TrackingNet-devkit and huuuuusy/videocube-toolkit, ``got10k.datasets`` of got-10k/toolkit for OTB and
GOT-10k.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mmvm_data.builders.common.folders import (
    list_frames,
    reject_from_error,
    relative_path,
    require_two_frames,
    walk_folders,
)
from mmvm_data.builders.common.text_files import parse_rectangle, read_flags, read_lines, read_text
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name

DEPTH = 4
"""Levels below the root that are searched for sequences."""
_KEPT = 8
_MAX_COVER = 8
_LASOT_FLAGS = ("full_occlusion.txt", "out_of_view.txt", "absent.txt")


class ObjectTrack(NamedTuple):
    """One object: its id in the video, its file, and the number of the frame that the first line is of (None: the first
    frame there is)."""

    id: str
    file: Path
    start: int | None = None


@dataclass(frozen=True)
class BoxSequence:
    """A video before it is read.

    Attributes:
        id: its name.
        images: folder of its frames.
        tracks: its objects.
        category: what they are, or None.
        hidden: files of flags, 1 where the object does not show; those that are missing say nothing.
        cover: file of how much shows, 0 to 8, or None.
        about: ini file whose ``object_class`` is the category, or None.
        partly: whether there may be more frames than lines.
    """

    id: str
    images: Path
    tracks: tuple[ObjectTrack, ...]
    category: str | None = None
    hidden: tuple[Path, ...] = ()
    cover: Path | None = None
    about: Path | None = None
    partly: bool = False


@dataclass(frozen=True)
class SequenceLayout:
    """Where a set keeps things inside the folder of a sequence.

    Attributes:
        boxes: names of the file of boxes; several are several objects where ``many`` is set, else the first counts.
        images: folder of the frames, "" for the sequence's own.
        hidden, cover, about: as in Sequence.
        classes: whether the folder above is named after the object's class.
        many: whether a sequence may follow several objects.
        starts: sequences whose first line is of a later frame -> its number.
        partly: as in Sequence.
    """

    boxes: tuple[str, ...]
    images: tuple[str, ...]
    hidden: tuple[str, ...] = ()
    cover: str | None = None
    about: str | None = None
    classes: bool = False
    many: bool = False
    starts: tuple[tuple[str, int], ...] = ()
    partly: bool = False


LAYOUTS = {
    "lasot": SequenceLayout(("groundtruth.txt",), ("img",), _LASOT_FLAGS, classes=True),
    "got10k": SequenceLayout(
        ("groundtruth.txt",), ("",), ("absence.label",), cover="cover.label", about="meta_info.ini"
    ),
    "vasttrack": SequenceLayout(("Groundtruth.txt", "groundtruth.txt"), ("imgs", "img"), _LASOT_FLAGS, classes=True),
    "utb180": SequenceLayout(("groundtruth_rect.txt",), ("imgs", "img")),
    "otb": SequenceLayout(
        ("groundtruth_rect.txt", "groundtruth_rect.1.txt", "groundtruth_rect.2.txt"),
        ("img",),
        many=True,
        starts=(("David", 300),),
        partly=True,
    ),
}


def open_sot(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open lasot, got10k, vasttrack, utb180 or otb; a video's id is the name of its folder.

    Raises:
        InputError: the root cannot be read, or holds no sequence.
    """
    facts = LAYOUTS[name]

    def describe(folder: Path) -> BoxSequence:
        files = [folder / file for file in facts.boxes if path_kind(folder / file) == "file"]
        files = files if facts.many else files[:1]
        images = next((folder / part for part in facts.images if path_kind(folder / part) == "folder"), None)
        start = dict(facts.starts).get(folder.name)
        return BoxSequence(
            id=folder.absolute().name,
            images=images or folder / facts.images[0],
            tracks=tuple(ObjectTrack(str(k), file, start) for k, file in enumerate(files, start=1)),
            category=folder.absolute().parent.name if facts.classes else None,
            hidden=tuple(folder / file for file in facts.hidden),
            cover=folder / facts.cover if facts.cover else None,
            about=folder / facts.about if facts.about else None,
            partly=facts.partly,
        )

    def has_boxes(folder: Path) -> bool:
        return any(path_kind(folder / file) == "file" for file in facts.boxes)

    found, rejects = find_sequences(name, root, has_boxes, facts.boxes[0], facts.images)
    return make_sequence_source(name, root, found, describe, rejects)


def find_sequences(
    name: str, root: Path, is_sequence: Callable[[Path], bool], needs: str, images: tuple[str, ...] = ()
) -> tuple[dict[str, Path], tuple[Reject, ...]]:
    """Folders of sequences by their names, and what cannot be used.

    Args:
        name, root: of the source.
        is_sequence: whether a folder is one; those are not searched further.
        needs: the file that makes one, for the messages.
        images: names of folders of frames; a folder that has one and is no sequence is a reject.

    Raises:
        InputError: the root cannot be read, or no such folder lies in it.
    """
    rejects: list[Reject] = []
    found: dict[str, Path] = {}

    def enter(folder: Path) -> bool:
        video = folder.absolute().name
        try:
            if not is_sequence(folder):
                bare = any(path_kind(folder / part) == "folder" for part in images if part)
                if bare:
                    rejects.append(Reject(name, video, -1, f"{needs} is missing", relative_path(root, folder)))
                return not bare
        except InputError as error:
            rejects.append(reject_from_error(name, root, video, error))
            return False
        if video in found:
            reason = f"two sequences have one name, {relative_path(root, found[video])} is read"
            rejects.append(Reject(name, video, -1, reason, relative_path(root, folder)))
        else:
            found[video] = folder
        return False

    if enter(root):
        for _ in walk_folders(name, root, DEPTH, rejects, enter):
            pass
    if not found and not rejects:
        raise InputError(root, f"no folder with {needs} lies here")
    return found, tuple(sorted(rejects))


def open_trackingnet(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open TrackingNet: every chunk under the root, or one of them; a video's id is the name of its file of boxes."""
    chunks = [root] if path_kind(root / "anno") == "folder" else [root / c for c in list_names(root) if is_utf8(c)]
    rejects: list[Reject] = []
    found: dict[str, Path] = {}
    for chunk in chunks:
        if path_kind(chunk / "anno") == "folder":
            add_box_files(name, root, list_names(chunk / "anno", (".txt",)), chunk / "anno", found, rejects)

    def describe(file: Path) -> BoxSequence:
        return BoxSequence(file.stem, file.parent.parent / "frames" / file.stem, (ObjectTrack("1", file),))

    if not found and not rejects:
        raise InputError(root, "no <chunk>/anno/<sequence>.txt lies here")
    return make_sequence_source(name, root, found, describe, rejects)


def open_videocube(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open VideoCube, the whole or the tiny one."""
    boxes = root / "attribute" / "groundtruth"
    if path_kind(boxes) != "folder":
        raise InputError(root, "no folder attribute/groundtruth lies here")
    rejects: list[Reject] = []
    found: dict[str, Path] = {}
    add_box_files(name, root, list_names(boxes, (".txt",)), boxes, found, rejects)

    def describe(file: Path) -> BoxSequence:
        video = file.stem
        places = [root / "data" / split / video / f"frame_{video}" for split in ("train", "val", "test")]
        images = next((place for place in places if path_kind(place) == "folder"), places[0])
        hidden = (root / "attribute" / "absent" / file.name,)
        return BoxSequence(video, images, (ObjectTrack("1", file),), hidden=hidden)

    return make_sequence_source(name, root, found, describe, rejects)


def add_box_files(
    name: str, root: Path, files: Iterable[str], folder: Path, found: dict[str, Path], rejects: list[Reject]
) -> None:
    """Files of boxes by the name of their sequence."""
    for file in files:
        video, where = Path(file).stem, relative_path(root, folder / file)
        if not is_utf8(file):
            rejects.append(Reject(name, printable_name(video), -1, "the file's name is not UTF-8", where))
        elif video in found:
            reason = f"two sequences have one name, {relative_path(root, found[video])} is read"
            rejects.append(Reject(name, video, -1, reason, where))
        else:
            found[video] = folder / file


def make_sequence_source(
    name: str, root: Path, found: dict[str, Path], describe: Callable[[Path], BoxSequence], rejects: Iterable[Reject]
) -> Source:
    def load(video: str) -> Video:
        if video not in found:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        return load_box_sequence(name, root, describe(found[video]))

    return Source(name, root, sorted(found), load, tuple(sorted(rejects)))


def load_box_sequence(name: str, root: Path, sequence: BoxSequence) -> Video:
    """The video of a sequence whose files hold rectangles.

    Raises:
        InputError: frames or lines are missing, do not fit each other, or fewer than two frames are annotated.
    """
    frames, lines = align_lines(root, sequence)
    hidden: set[int] = set()
    covers: dict[int, int] = {}
    for file in sequence.hidden:
        if path_kind(file) == "file":
            hidden |= {p for p, flag in zip(lines, read_flags(file, len(lines)), strict=True) if flag}
    if sequence.cover and path_kind(sequence.cover) == "file":
        covers = dict(zip(lines, read_flags(sequence.cover, len(lines), _MAX_COVER), strict=True))
    category = _read_category(sequence)

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        found = []
        for track, (n, line) in zip(sequence.tracks, lines[position], strict=True):
            box = parse_rectangle(track.file, n, line)
            if box is not None and position not in hidden:
                extra = {"visibility": covers[position] / _MAX_COVER} if covers else {}
                found.append(Region(id=track.id, box=box, category=category, extra=extra))
        return tuple(found)

    return Video.lazy(
        read,
        id=sequence.id,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(sequence.tracks[0].file, tuple(lines)),
        prompt="box",
    )


def align_lines(root: Path, sequence: BoxSequence) -> tuple[tuple[Frame, ...], dict[int, list[tuple[int, str]]]]:
    """The frames of a sequence, and for each that is annotated the line of each object with its number (from 1).

    Raises:
        InputError: no frames, or lines that do not fit them.
    """
    if path_kind(sequence.images) != "folder":
        raise InputError(sequence.images, "no frames: the folder is missing")
    frames = list_frames(root, sequence.images)
    each = []
    for track in sequence.tracks:
        lines = read_lines(track.file)
        first = 0
        if track.start is not None and len(lines) != len(frames):
            first = next((p for p, frame in enumerate(frames) if frame.index == track.start), -1)
            if first < 0:
                raise InputError(sequence.images, f"there is no frame {track.start}, where {track.file.name} begins")
        whole = len(lines) == len(frames) or sequence.partly or track.start is not None
        if not whole or first + len(lines) > len(frames):
            after = f" from frame {frames[first].index} on" if first else ""
            raise InputError(track.file, f"{len(lines)} lines for {len(frames) - first} frames{after}")
        each.append({first + k: (k + 1, line) for k, line in enumerate(lines)})
    positions = sorted(set.intersection(*(set(one) for one in each)))
    return frames, {position: [one[position] for one in each] for position in positions}


def _read_category(sequence: BoxSequence) -> str | None:
    if sequence.about is None or path_kind(sequence.about) != "file":
        return sequence.category
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(sequence.about))
    except configparser.Error as error:
        reason = str(error).splitlines()[0].replace("'<string>'", "the file")
        raise InputError(sequence.about, f"not an ini file: {reason}") from error
    told = parser.get("METAINFO", "object_class", fallback="").strip()
    return told or None
