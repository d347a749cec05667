"""The MOT family: MOT17, MOT20, DanceTrack, SportsMOT, and other boxes in their format. One text file per sequence.

``[train/|val/|…]<sequence>/{img1/000001.jpg, gt/gt.txt, seqinfo.ini}``, a line of gt.txt being ``frame, id, left, top,
width, height, flag, class, visibility``, commas with or without a space. Lines with flag 0 or a class other than 1 are
not tracked pedestrians and are skipped; a file in which no other lines exist is refused. Lines of ten columns end in
three world coordinates instead of class and visibility, as in MOT15. A file whose lines all have class -1 (unknown) is
read without categories.

Frames are those on disk, whatever ``seqLength`` is, numbered by their names, and annotated from the first to the last
that gt.txt names. Images that are numbered from 0 are those of lines from 0, or of lines from 1 when the last line is
that of the last image. Lines for frames without an image are problems of the video. Boxes may reach over the frame's
edge and are not clipped.

The pages of MOTChallenge (motchallenge.net/instructions) count frames, identities and pixels from 1, so MOT17 and MOT20
boxes are shifted by -1, -1. In SportsMOT's files identities start at 0 and boxes are clipped at 0 and 1280, so they are
not shifted; DanceTrack numbers identities from 0 as well and is treated alike.

The source ``mot`` reads files of 7 to 10 columns as trackers, annotation tools and MOT15 write them: boxes are not
shifted, and every class is read. Line N of ``gt/labels.txt``, if that file exists, names class N (CVAT writes it).
Class and visibility -1 are unknown.

MOT17 contains each sequence three times, once for each detector, with the same frames and annotations: one is read,
FRCNN if it exists. Sequences without gt.txt in a folder ``test`` (``test1``, ``test2``) are those of the test server
and are skipped.
"""

from __future__ import annotations

import configparser
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from mmvm_data.builders.common.folders import add_unique, reject_from_error, relative_path, walk_folders
from mmvm_data.builders.common.frames import (
    find_lines_without_frames,
    list_frames,
    require_two_frames,
    trailing_number,
)
from mmvm_data.builders.common.text_files import (
    MAX_COORDINATE,
    NumberedLine,
    parse_finite,
    read_ini,
    read_lines,
    read_lines_by_frame,
)
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import path_kind, safe_join
from mmvm_data.io.remote import folder_name

DEPTH = 3
"""Levels below the root that are searched for sequences."""
DETECTORS = ("FRCNN", "DPM", "SDP")
CLASS_NAMES = "labels.txt"
COLUMNS = ("frame", "id", "left", "top", "width", "height", "flag", "class", "visibility")
_DETECTOR = re.compile(rf"^(MOT\d+-\d+)-({'|'.join(DETECTORS)})$")
_TEST_FOLDER = re.compile(r"test\d?")  # DanceTrack's comes in two archives, test1 and test2
_SEQUENCE_FOLDERS = ("img1", "gt", "det")
_CACHE_SIZE = 8


_WORLD_COLUMNS = 10  # MOT15: x, y, z in the world follow the flag
_UNKNOWN_CLASS = -1.0


@dataclass(frozen=True)
class Conventions:
    """Conventions of one data set.

    Attributes:
        origin: coordinate of the first pixel.
        columns: numbers of columns that a line may have.
        category: name of class 1, or None.
        has_classes: whether the column class tells what a box is.
        class_names: names of all classes that are read, by number; a class without one is named by its number. None:
            only class 1 is read.
    """

    origin: int
    columns: tuple[int, ...]
    category: str | None
    has_classes: bool = True
    class_names: Mapping[int, str] | None = None


CONVENTIONS = {
    "mot17": Conventions(1, (9,), "pedestrian"),
    "mot20": Conventions(1, (9,), "pedestrian"),
    "dancetrack": Conventions(0, (8, 9), "dancer"),
    "sportsmot": Conventions(0, (9,), "player"),
    "mot": Conventions(0, (7, 8, 9, 10), None, class_names={}),
}


def open_mot(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open a data set of the family; a video's id is the name of its folder.

    Args:
        name: mot17, mot20, dancetrack, sportsmot, or mot for other boxes in their format.
        root: the data set's folder, one of its splits, or one sequence.
        cache: not used.

    Raises:
        InputError: the root cannot be read, or contains no sequence.
    """
    rejects: list[Reject] = []
    sequences: dict[str, Path] = {}
    num_tests = 0
    for folder in walk_folders(name, root, DEPTH, rejects, lambda path: path.name not in _SEQUENCE_FOLDERS):
        video = folder_name(folder)
        try:
            if all(path_kind(folder / part) != "folder" for part in _SEQUENCE_FOLDERS):
                continue
            is_annotated = path_kind(folder / "gt" / "gt.txt") == "file"
        except InputError as error:
            rejects.append(reject_from_error(name, root, video, error))
            continue
        if is_annotated:
            add_unique(name, root, video, folder, sequences, rejects, "sequences")
        elif _TEST_FOLDER.fullmatch(folder.absolute().parent.name):
            num_tests += 1
        else:
            rejects.append(Reject(name, video, -1, "gt/gt.txt is missing", relative_path(root, folder)))
    videos = {video: folder for video, folder in sequences.items() if not _is_duplicate(video, sequences)}
    if not videos and not rejects:
        test_only = "only sequences of the test server exist here, without gt/gt.txt"
        raise InputError(root, test_only if num_tests else "no <sequence>/gt/gt.txt exists here")

    def load(video: str) -> Video:
        if video not in videos:
            raise InputError(root, f"there is no usable video {video!r}")
        return _load_video(name, root, video, videos[video])

    return Source(name, root, sorted(videos), load, tuple(sorted(rejects)))


def _is_duplicate(video: str, sequences: dict[str, Path]) -> bool:
    """Return whether the sequence also exists without a detector in its name, or for a preferred detector."""
    match = _DETECTOR.match(video)
    if not match:
        return False
    sequence, detector = match.groups()
    preferred = DETECTORS[: DETECTORS.index(detector)]
    return sequence in sequences or any(f"{sequence}-{other}" in sequences for other in preferred)


def _load_video(name: str, root: Path, video: str, folder: Path) -> Video:
    info_file, file = folder / "seqinfo.ini", folder / "gt" / "gt.txt"
    info = _SequenceInfo.read(info_file)
    images = safe_join(folder, info.images, info_file, "imDir")
    frames = list_frames(root, images)
    for key, declared, actual in (
        ("imWidth", info.width, frames[0].width),
        ("imHeight", info.height, frames[0].height),
    ):
        if declared is not None and declared != actual:
            reason = f"is {declared}, but the first image has {actual}: boxes would not fit"
            raise InputError(info_file, reason, field=key)
    if info.fps:
        start = frames[0].index
        frames = tuple(f.model_copy(update={"time": (f.index - start) / info.fps}) for f in frames)
    lines = read_lines_by_frame(file, ",")
    if frames[0].index == 0:
        lines = _number_from_zero(images, frames, lines)
    first, last = min(lines), max(lines)
    annotated = tuple(p for p, frame in enumerate(frames) if first <= frame.index <= last)
    conventions = _detect_conventions(file, CONVENTIONS[name], lines)
    return Video.lazy(
        _make_reader(file, conventions, frames, lines),
        problems=find_lines_without_frames(file, lines, frames),
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(file, annotated),
        prompt="box",
    )


def _number_from_zero(
    images: Path, frames: tuple[Frame, ...], lines: dict[int, list[NumberedLine]]
) -> dict[int, list[NumberedLine]]:
    """Return the lines by the numbers of images that start at 0.

    Raises:
        InputError: the images have no numbers, or the lines may count them from 0 or from 1.
    """
    if trailing_number(Path(frames[0].path).stem) is None:
        raise InputError(images, "frames are not numbered from 1 as the lines of gt.txt are")
    if 0 in lines:
        return lines
    last_image, last_line = frames[-1].index, max(lines)
    if last_line != last_image + 1:
        reason = f"images are numbered from 0 to {last_image}, lines of gt.txt from {min(lines)} to {last_line}"
        raise InputError(images, f"{reason}: frames are not numbered from 1, or lines not from 0")
    return {number - 1: entries for number, entries in lines.items()}


def _detect_conventions(file: Path, conventions: Conventions, lines: dict[int, list[NumberedLine]]) -> Conventions:
    """Return the conventions of one file: MOT15's columns, or unknown classes.

    Raises:
        InputError: every line is skipped because of its flag or class.
    """
    rows = [line.split(",") for entries in lines.values() for _, line in entries]
    [(num_columns, _)] = Counter(map(len, rows)).most_common(1)
    if conventions.class_names is not None and num_columns in conventions.columns:
        names = _read_class_names(file.parent / CLASS_NAMES) if num_columns != _WORLD_COLUMNS else {}
        has_classes = COLUMNS.index("class") < num_columns < _WORLD_COLUMNS
        conventions = replace(conventions, columns=(num_columns,), has_classes=has_classes, class_names=names)
    elif num_columns == _WORLD_COLUMNS:
        conventions = replace(conventions, columns=(_WORLD_COLUMNS,), has_classes=False)
    rows = [row for row in rows if len(row) in conventions.columns]
    flags = Counter(parse_finite(row[COLUMNS.index("flag")].strip()) for row in rows)
    if rows and set(flags) == {0.0}:
        raise InputError(file, "every line has flag 0 (not to be considered)", field="column flag")
    if not rows or not conventions.has_classes or conventions.class_names is not None:
        return conventions
    classes = Counter(parse_finite(row[COLUMNS.index("class")].strip()) for row in rows)
    if set(classes) == {_UNKNOWN_CLASS}:
        return replace(conventions, has_classes=False, category=None)
    if not {1.0, None} & set(classes):
        listed = ", ".join(f"{value:g} in {count}" for value, count in classes.most_common(5) if value is not None)
        raise InputError(file, f"no line has class 1; classes are {listed} lines", field="column class")
    return conventions


def _read_class_names(file: Path) -> dict[int, str]:
    """Return the names of the classes by number, from 1; empty when there is no such file."""
    if path_kind(file) != "file":
        return {}
    return {n: name for n, name in enumerate(read_lines(file), start=1) if name}


@dataclass(frozen=True)
class _SequenceInfo:
    """Content of seqinfo.ini: folder of the images, size in pixels, frames per second; None for what it lacks."""

    images: str = "img1"
    width: int | None = None
    height: int | None = None
    fps: float | None = None

    @classmethod
    def read(cls, file: Path) -> _SequenceInfo:
        if path_kind(file) == "nothing":
            return cls()
        parser = read_ini(file)
        if not parser.has_section("Sequence"):
            raise InputError(file, "the section [Sequence] is missing")
        section = parser["Sequence"]
        width, height = (_parse_size(file, section, key) for key in ("imWidth", "imHeight"))
        return cls(section.get("imDir") or "img1", width, height, _parse_positive(file, section, "frameRate"))


def _parse_size(file: Path, section: configparser.SectionProxy, key: str) -> int | None:
    size = _parse_positive(file, section, key)
    if size is not None and not size.is_integer():
        raise InputError(file, f"an integer is expected, found {size:g}", field=key)
    return None if size is None else int(size)


def _parse_positive(file: Path, section: configparser.SectionProxy, key: str) -> float | None:
    text = section.get(key)
    if text is None:
        return None
    number = parse_finite(text)
    if number is None or not 0 < number < MAX_COORDINATE:
        raise InputError(file, f"a number above 0 is expected, found {text[:40]!r}", field=key)
    return number


def _make_reader(
    file: Path, conventions: Conventions, frames: tuple[Frame, ...], lines: dict[int, list[NumberedLine]]
) -> Callable[[int], tuple[Region, ...]]:
    """Return the function for ``Video.lazy``."""

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        regions: dict[str, Region] = {}
        for n, line in lines.get(frames[position].index, ()):
            region = _parse_region(file, conventions, n, line)
            if region is None:
                continue
            if region.id in regions:
                raise InputError(file, f"track {region.id} occurs twice in one frame", field=f"line {n}, column id")
            regions[region.id] = region
        return tuple(regions.values())

    return read


def _parse_region(file: Path, conventions: Conventions, n: int, line: str) -> Region | None:
    """Return the box of a line; None when its flag or class says that it is not a tracked pedestrian."""
    texts = [text.strip() for text in line.split(",")]
    if len(texts) not in conventions.columns:
        low, high = min(conventions.columns), max(conventions.columns)
        expected = f"{low} to {high}" if low < high else str(low)
        raise InputError(file, f"{expected} columns are expected, found {len(texts)}", field=f"line {n}")
    values: dict[str, float] = {}
    for column, text in zip(COLUMNS, texts, strict=False):
        value = parse_finite(text)
        if value is None:
            raise InputError(file, f"a number is expected, found {text[:40]!r}", field=f"line {n}, column {column}")
        values[column] = value
    names = conventions.class_names
    if values["flag"] == 0 or (names is None and conventions.has_classes and values["class"] != 1):
        return None
    category = conventions.category
    if names is not None and conventions.has_classes and values["class"] != _UNKNOWN_CLASS:
        number = values["class"]
        if number < 0 or not number.is_integer():
            reason = f"an integer from 0, or -1 for unknown, is expected, found {number:g}"
            raise InputError(file, reason, field=f"line {n}, column class")
        category = names.get(int(number), f"class {int(number)}")
    for column, is_valid, expected in (
        ("id", values["id"] >= 0 and values["id"].is_integer(), "an integer from 0"),
        ("left", abs(values["left"]) < MAX_COORDINATE, "a pixel"),
        ("top", abs(values["top"]) < MAX_COORDINATE, "a pixel"),
        ("width", 0 < values["width"] < MAX_COORDINATE, "a number above 0"),
        ("height", 0 < values["height"] < MAX_COORDINATE, "a number above 0"),
    ):
        if not is_valid:
            reason = f"{expected} is expected, found {values[column]:g}"
            raise InputError(file, reason, field=f"line {n}, column {column}")
    is_world = _WORLD_COLUMNS in conventions.columns
    has_visibility = "visibility" in values and not is_world and values["visibility"] >= 0
    return Region(
        id=str(int(values["id"])),
        box=(
            values["left"] - conventions.origin,
            values["top"] - conventions.origin,
            values["width"],
            values["height"],
        ),
        category=category,
        extra={"visibility": values["visibility"]} if has_visibility else {},
    )
