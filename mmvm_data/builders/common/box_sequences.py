"""Sequences of single-object tracking: a folder of frames, and for each object a text file with one line per frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mmvm_data.builders.common.folders import add_unique, reject_from_error, relative_path, walk_folders
from mmvm_data.builders.common.frames import list_frames, require_two_frames
from mmvm_data.builders.common.text_files import NumberedLine, parse_rectangle, read_flags, read_ini, read_lines
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import path_kind, printable_name
from mmvm_data.io.remote import folder_name

DEPTH = 4
"""Levels below the root that are searched for sequences."""
_CACHE_SIZE = 8
_MAX_COVER = 8


class ObjectTrack(NamedTuple):
    """One object of a sequence.

    Attributes:
        id: identity in the video.
        file: its text file.
        start: number of the frame of the first line; None: the first frame that exists.
    """

    id: str
    file: Path
    start: int | None = None


@dataclass(frozen=True)
class BoxSequence:
    """A video before its files are read.

    Attributes:
        id: of the video.
        images: folder of its frames.
        tracks: its objects.
        category: of all its objects, or None.
        absence_files: files of flags, 1 where the object is not visible; missing files are ignored.
        cover_file: file of the visible share, 0 to 8, or None.
        info_file: ini file whose ``object_class`` is the category, or None.
        allow_extra_frames: whether there may be more frames than lines.
    """

    id: str
    images: Path
    tracks: tuple[ObjectTrack, ...]
    category: str | None = None
    absence_files: tuple[Path, ...] = ()
    cover_file: Path | None = None
    info_file: Path | None = None
    allow_extra_frames: bool = False


def find_sequences(
    name: str, root: Path, is_sequence: Callable[[Path], bool], required_file: str, image_folders: tuple[str, ...] = ()
) -> tuple[dict[str, Path], tuple[Reject, ...]]:
    """Return the folders of sequences by their names, and rejects for those that cannot be used.

    Args:
        name, root: of the source.
        is_sequence: whether a folder is a sequence; sequences are not searched further.
        required_file: the file that makes a folder a sequence, for the messages.
        image_folders: names of folders of frames; a folder that contains one and is no sequence is a reject.

    Raises:
        InputError: the root cannot be read, or contains no sequence.
    """
    rejects: list[Reject] = []
    folders: dict[str, Path] = {}

    def enter(folder: Path) -> bool:
        video = folder_name(folder)
        try:
            if not is_sequence(folder):
                has_images = any(path_kind(folder / part) == "folder" for part in image_folders if part)
                if has_images:
                    reason = f"{required_file} is missing"
                    rejects.append(Reject(name, video, -1, reason, relative_path(root, folder)))
                return not has_images
        except InputError as error:
            rejects.append(reject_from_error(name, root, video, error))
            return False
        add_unique(name, root, video, folder, folders, rejects, "sequences")
        return False

    if enter(root):
        for _ in walk_folders(name, root, DEPTH, rejects, enter):
            pass
    if not folders and not rejects:
        raise InputError(root, f"no folder with {required_file} exists here")
    return folders, tuple(sorted(rejects))


def make_sequence_source(
    name: str, root: Path, paths: dict[str, Path], describe: Callable[[Path], BoxSequence], rejects: Iterable[Reject]
) -> Source:
    """Return the source of sequences of rectangles.

    Args:
        name, root: of the source.
        paths: id -> folder or file of the sequence.
        describe: path -> where the parts of the sequence are.
        rejects: sequences that cannot be used.
    """

    def load(video: str) -> Video:
        if video not in paths:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        return load_box_sequence(name, root, describe(paths[video]))

    return Source(name, root, sorted(paths), load, tuple(sorted(rejects)))


def load_box_sequence(name: str, root: Path, sequence: BoxSequence) -> Video:
    """Return the video of a sequence whose files contain rectangles.

    Raises:
        InputError: frames or lines are missing or do not match, or fewer than two frames are annotated.
    """
    frames, lines = align_lines(root, sequence)
    absent: set[int] = set()
    covers: dict[int, int] = {}
    for file in sequence.absence_files:
        if path_kind(file) == "file":
            absent |= {p for p, flag in zip(lines, read_flags(file, len(lines)), strict=True) if flag}
    if sequence.cover_file and path_kind(sequence.cover_file) == "file":
        covers = dict(zip(lines, read_flags(sequence.cover_file, len(lines), _MAX_COVER), strict=True))
    category = _read_category(sequence)

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        regions = []
        for track, (n, line) in zip(sequence.tracks, lines[position], strict=True):
            box = parse_rectangle(track.file, n, line)
            if box is not None and position not in absent:
                extra = {"visibility": covers[position] / _MAX_COVER} if covers else {}
                regions.append(Region(id=track.id, box=box, category=category, extra=extra))
        return tuple(regions)

    return Video.lazy(
        read,
        id=sequence.id,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(sequence.tracks[0].file, tuple(lines)),
        prompt="box",
    )


def align_lines(root: Path, sequence: BoxSequence) -> tuple[tuple[Frame, ...], dict[int, list[NumberedLine]]]:
    """Return the frames of a sequence, and the lines of its objects at each annotated position.

    A frame counts as annotated where every object has a line.

    Raises:
        InputError: no frames, or lines that do not match them.
    """
    frames = list_frames(root, sequence.images)
    by_track = []
    for track in sequence.tracks:
        lines = read_lines(track.file)
        start = 0
        if track.start is not None and len(lines) != len(frames):
            start = next((p for p, frame in enumerate(frames) if frame.index == track.start), -1)
            if start < 0:
                raise InputError(sequence.images, f"there is no frame {track.start}, where {track.file.name} starts")
        is_complete = len(lines) == len(frames) or sequence.allow_extra_frames or track.start is not None
        if not is_complete or start + len(lines) > len(frames):
            suffix = f" from frame {frames[start].index} on" if start else ""
            raise InputError(track.file, f"{len(lines)} lines for {len(frames) - start} frames{suffix}")
        by_track.append({start + k: (k + 1, line) for k, line in enumerate(lines)})
    positions = sorted(set.intersection(*(set(lines_of) for lines_of in by_track)))
    return frames, {position: [lines_of[position] for lines_of in by_track] for position in positions}


def _read_category(sequence: BoxSequence) -> str | None:
    if sequence.info_file is None or path_kind(sequence.info_file) != "file":
        return sequence.category
    parser = read_ini(sequence.info_file)
    return parser.get("METAINFO", "object_class", fallback="").strip() or None
