"""The MOT family: MOT17, MOT20, DanceTrack, SportsMOT. Boxes of people, one text file a sequence.

``[train/|val/|…]<sequence>/{img1/000001.jpg, gt/gt.txt, seqinfo.ini}``, a line of gt.txt being ``frame, id, left, top,
width, height, flag, class, visibility``, commas with or without a space. Lines with flag 0 or a class other than 1 are
no tracked pedestrian and left out. Frames are those on disk, whatever ``seqLength`` says, numbered by their names, and
annotated from the first to the last that gt.txt names. Boxes may reach over the frame's edge and stay as they are.

The pages of MOTChallenge (motchallenge.net/instructions) count frames, identities and pixels from 1, so MOT17 and MOT20
boxes are moved by -1, -1. In SportsMOT's files identities start at 0 and boxes are cut at 0 and 1280, so they stay;
DanceTrack numbers identities from 0 as well and is treated alike.

MOT17 has each sequence three times, once for each detector, with the same frames and annotations: one is read, FRCNN
where it is there. Sequences without gt.txt in a folder ``test`` (``test1``, ``test2``) are those of the test server,
and passed over.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mmvm_data.builders.common.folders import (
    list_frames,
    reject_from_error,
    relative_path,
    require_two_frames,
    walk_folders,
)
from mmvm_data.builders.common.text_files import parse_finite, read_lines_by_frame
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import path_kind, safe_join
from mmvm_data.io.media import read_bytes

DEPTH = 3
"""Levels below the root that are searched for sequences."""
DETECTORS = ("FRCNN", "DPM", "SDP")
COLUMNS = ("frame", "id", "left", "top", "width", "height", "flag", "class", "visibility")
_DETECTOR = re.compile(rf"^(MOT\d+-\d+)-({'|'.join(DETECTORS)})$")
_TEST = re.compile(r"test\d?")  # DanceTrack's comes in two archives, test1 and test2
_SEQUENCE_FOLDERS = ("img1", "gt", "det")
_KEPT = 8
_MAX_COORDINATE = 1e6


@dataclass(frozen=True)
class Conventions:
    """What is particular to a set: the coordinate of the first pixel, how many columns a line may have, and what class
    1 is called."""

    origin: int
    columns: tuple[int, ...]
    category: str


CONVENTIONS = {
    "mot17": Conventions(1, (9,), "pedestrian"),
    "mot20": Conventions(1, (9,), "pedestrian"),
    "dancetrack": Conventions(0, (8, 9), "dancer"),
    "sportsmot": Conventions(0, (9,), "player"),
}


def open_mot(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open a set of the family; a video's id is the name of its folder.

    Args:
        name: mot17, mot20, dancetrack or sportsmot.
        root: the set's folder, one of its splits, or one sequence.
        cache: not used.

    Raises:
        InputError: the root cannot be read, or holds no sequence.
    """
    rejects: list[Reject] = []
    found: dict[str, Path] = {}
    tests = 0
    for folder in walk_folders(name, root, DEPTH, rejects, lambda path: path.name not in _SEQUENCE_FOLDERS):
        video, where = folder.absolute().name, relative_path(root, folder)
        try:
            if all(path_kind(folder / part) != "folder" for part in _SEQUENCE_FOLDERS):
                continue
            marked = path_kind(folder / "gt" / "gt.txt") == "file"
        except InputError as error:
            rejects.append(reject_from_error(name, root, video, error))
            continue
        if marked:
            if video in found:
                reason = f"two sequences have one name, {relative_path(root, found[video])} is read"
                rejects.append(Reject(name, video, -1, reason, where))
            else:
                found[video] = folder
        elif _TEST.fullmatch(folder.absolute().parent.name):
            tests += 1
        else:
            rejects.append(Reject(name, video, -1, "gt/gt.txt is missing", where))
    videos = {video: folder for video, folder in found.items() if not _is_duplicate(video, found)}
    if not videos and not rejects:
        reason = "only sequences of the test server, without gt/gt.txt" if tests else "no <sequence>/gt/gt.txt"
        raise InputError(root, f"{reason} lies here")

    def load(video: str) -> Video:
        if video not in videos:
            raise InputError(root, f"there is no usable video {video!r}")
        return _load_video(name, root, video, videos[video])

    return Source(name, root, sorted(videos), load, tuple(sorted(rejects)))


def _is_duplicate(video: str, found: dict[str, Path]) -> bool:
    """Whether the sequence is also there under its bare name, or for a detector that is preferred."""
    parts = _DETECTOR.match(video)
    if not parts:
        return False
    preferred = DETECTORS[: DETECTORS.index(parts[2])]
    return parts[1] in found or any(f"{parts[1]}-{detector}" in found for detector in preferred)


def _load_video(name: str, root: Path, video: str, folder: Path) -> Video:
    info = _SequenceInfo.read(folder / "seqinfo.ini")
    images = safe_join(folder, info.images, folder / "seqinfo.ini", "imDir")
    if path_kind(images) != "folder":
        raise InputError(images, "no frames: the folder is missing")
    frames = list_frames(root, images)
    if frames[0].index == 0:
        raise InputError(images, "frames are not numbered from 1 as the lines of gt.txt are")
    for key, told, there in (("imWidth", info.width, frames[0].width), ("imHeight", info.height, frames[0].height)):
        if told is not None and told != there:
            reason = f"says {told}, the first image has {there}: boxes would not fit"
            raise InputError(folder / "seqinfo.ini", reason, field=key)
    if info.fps:
        start = frames[0].index
        frames = tuple(f.model_copy(update={"time": (f.index - start) / info.fps}) for f in frames)
    file = folder / "gt" / "gt.txt"
    lines = read_lines_by_frame(file, ",")
    first, last = min(lines), max(lines)
    annotated = tuple(p for p, frame in enumerate(frames) if first <= frame.index <= last)
    return Video.lazy(
        _make_reader(file, CONVENTIONS[name], frames, lines),
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(file, annotated),
        prompt="box",
    )


@dataclass(frozen=True)
class _SequenceInfo:
    """What seqinfo.ini says: folder of the images, pixels, frames a second; None for what it does not say."""

    images: str = "img1"
    width: int | None = None
    height: int | None = None
    fps: float | None = None

    @classmethod
    def read(cls, file: Path) -> _SequenceInfo:
        if path_kind(file) == "nothing":
            return cls()
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(read_bytes(file).decode("utf-8-sig"))
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0].replace("'<string>'", "the file")
            raise InputError(file, f"not an ini file: {reason}") from error
        if not parser.has_section("Sequence"):
            raise InputError(file, "the section [Sequence] is missing")
        section = parser["Sequence"]
        sizes = [_parse_positive(file, section, key) for key in ("imWidth", "imHeight")]
        for key, size in zip(("imWidth", "imHeight"), sizes, strict=True):
            if size is not None and not size.is_integer():
                raise InputError(file, f"a whole number is expected, found {size:g}", field=key)
        width, height = (None if size is None else int(size) for size in sizes)
        return cls(section.get("imDir") or "img1", width, height, _parse_positive(file, section, "frameRate"))


def _parse_positive(file: Path, section: configparser.SectionProxy, key: str) -> float | None:
    text = section.get(key)
    if text is None:
        return None
    number = parse_finite(text)
    if number is None or not 0 < number < _MAX_COORDINATE:
        raise InputError(file, f"a number above 0 is expected, found {text[:40]!r}", field=key)
    return number


def _make_reader(
    file: Path, facts: Conventions, frames: tuple[Frame, ...], lines: dict[int, list[tuple[int, str]]]
) -> Callable[[int], tuple[Region, ...]]:
    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        found: dict[str, Region] = {}
        for n, line in lines.get(frames[position].index, ()):
            region = _parse_region(file, facts, n, line)
            if region is None:
                continue
            if region.id in found:
                raise InputError(file, f"track {region.id} is there twice in one frame", field=f"line {n}, column id")
            found[region.id] = region
        return tuple(found.values())

    return read


def _parse_region(file: Path, facts: Conventions, n: int, line: str) -> Region | None:
    """The box of a line; None when its flag or class says that it is no tracked pedestrian."""
    texts = [text.strip() for text in line.split(",")]
    if len(texts) not in facts.columns:
        expected = " or ".join(map(str, facts.columns))
        raise InputError(file, f"{expected} columns are expected, found {len(texts)}", field=f"line {n}")
    values: dict[str, float] = {}
    for column, text in zip(COLUMNS, texts, strict=False):
        value = parse_finite(text)
        if value is None:
            raise InputError(file, f"a number is expected, found {text[:40]!r}", field=f"line {n}, column {column}")
        values[column] = value
    if values["flag"] == 0 or values["class"] != 1:
        return None
    for column, valid, what in (
        ("id", values["id"] >= 0 and values["id"].is_integer(), "a whole number from 0"),
        ("left", abs(values["left"]) < _MAX_COORDINATE, "a pixel"),
        ("top", abs(values["top"]) < _MAX_COORDINATE, "a pixel"),
        ("width", 0 < values["width"] < _MAX_COORDINATE, "a number above 0"),
        ("height", 0 < values["height"] < _MAX_COORDINATE, "a number above 0"),
    ):
        if not valid:
            reason = f"{what} is expected, found {values[column]:g}"
            raise InputError(file, reason, field=f"line {n}, column {column}")
    return Region(
        id=str(int(values["id"])),
        box=(values["left"] - facts.origin, values["top"] - facts.origin, values["width"], values["height"]),
        category=facts.category,
        extra={"visibility": values["visibility"]} if "visibility" in values else {},
    )
