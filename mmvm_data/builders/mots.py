"""MOTS: masks of cars and pedestrians, MOTSChallenge and KITTI MOTS.

    MOTSChallenge  [train/]<sequence>/{img1/000001.jpg, gt/gt.txt}
    KITTI MOTS     [training/]image_02/<sequence>/000000.png, and instances_txt/<sequence>.txt or
                   instances/<sequence>/000000.png (also images/ beside instances/, as the MOTS tools lay them out)

A line of text is ``frame id class height width rle`` with white space between, rle in COCO's coding. A PNG holds a
number a pixel: 0 background, class * 1000 + instance, the same numbers as the ids of the text. 10000 (class 10) is a
region to be ignored, and left out. Classes: 1 car, 2 pedestrian. Frames are numbered by their names. With text, frames
from the first to the last that it names are annotated, with PNGs those that have one.

Source: www.vision.rwth-aachen.de/page/mots, which docs/MOTS-format.txt of JonathonLuiten/TrackEval quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from mmvm_data.builders.common.folders import list_frames, list_subfolders, relative_path, require_two_frames
from mmvm_data.builders.common.text_files import read_lines_by_frame
from mmvm_data.builders.sot import find_sequences
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import list_names, path_kind, printable_name
from mmvm_data.io.png import read_labels

CLASSES = {1: "car", 2: "pedestrian"}
IGNORED = 10
_BASES = ("", "training", "train")
_PAIRS = (("image_02", "instances_txt"), ("image_02", "instances"), ("images", "instances"))
_KEPT = 8

ReadRegions = Callable[[int], tuple[Region, ...]]


def open_mots(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open either layout; a video's id is the name of its sequence.

    Raises:
        InputError: the root cannot be read, or holds neither.
    """
    for base in _BASES:
        for images, marks in _PAIRS:
            frames, masks_in = root / base / images, root / base / marks
            if path_kind(frames) == path_kind(masks_in) == "folder":
                return _open_paired_folders(name, root, frames, masks_in)
    found, rejects = find_sequences(
        name, root, lambda folder: path_kind(folder / "gt" / "gt.txt") == "file", "gt/gt.txt", ("img1",)
    )

    def load(video: str) -> Video:
        if video not in found:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        return _load_video(name, root, video, found[video] / "img1", found[video] / "gt" / "gt.txt")

    return Source(name, root, sorted(found), load, rejects)


def _open_paired_folders(name: str, root: Path, images: Path, marks: Path) -> Source:
    videos, rejects = list_subfolders(name, root, images)
    usable: dict[str, Path] = {}
    for video in videos:
        place = marks / f"{video}.txt" if marks.name == "instances_txt" else marks / video
        if path_kind(place) in ("file", "folder"):
            usable[video] = place
        else:
            rejects.append(Reject(name, video, -1, "frames without masks", relative_path(root, images / video)))

    def load(video: str) -> Video:
        if video not in usable:
            raise InputError(images, f"there is no video {printable_name(video)!r}")
        return _load_video(name, root, video, images / video, usable[video])

    return Source(name, root, list(usable), load, tuple(sorted(rejects)))


def _load_video(name: str, root: Path, video: str, images: Path, marks: Path) -> Video:
    if path_kind(images) != "folder":
        raise InputError(images, "no frames: the folder is missing")
    frames = list_frames(root, images)
    annotated, read = _open_pngs(marks, frames) if path_kind(marks) == "folder" else _open_text(marks, frames)
    return Video.lazy(
        lru_cache(_KEPT)(read),
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(marks, annotated),
    )


def _open_pngs(marks: Path, frames: tuple[Frame, ...]) -> tuple[tuple[int, ...], ReadRegions]:
    marked = {Path(file).stem: marks / file for file in list_names(marks, (".png",))}
    files = {p: marked[stem] for p, frame in enumerate(frames) if (stem := Path(frame.path).stem) in marked}

    def read(position: int) -> tuple[Region, ...]:
        file, frame = files[position], frames[position]
        found = []
        for number, rle in masks.encode_labels(read_labels(file, frame.width, frame.height).ids).items():
            kind_of = number // 1000
            if kind_of == IGNORED:
                continue
            if kind_of not in CLASSES:
                raise InputError(file, f"{number} is no object: class * 1000 + instance is expected, class 1 or 2")
            found.append(Region(id=str(number), mask=rle, category=CLASSES[kind_of]))
        return tuple(found)

    return tuple(files), read


def _open_text(file: Path, frames: tuple[Frame, ...]) -> tuple[tuple[int, ...], ReadRegions]:
    lines = read_lines_by_frame(file, None)
    first, last = min(lines), max(lines)

    def read(position: int) -> tuple[Region, ...]:
        found: dict[str, Region] = {}
        for n, line in lines.get(frames[position].index, ()):
            region = _parse_region(file, n, line, frames[position])
            if region is None:
                continue
            if region.id in found:
                raise InputError(file, f"object {region.id} is there twice in one frame", field=f"line {n}")
            found[region.id] = region
        return tuple(found.values())

    return tuple(p for p, frame in enumerate(frames) if first <= frame.index <= last), read


def _parse_region(file: Path, n: int, line: str, frame: Frame) -> Region | None:
    texts = line.split()
    if len(texts) != 6:
        reason = f"frame, id, class, height, width and rle are expected, found {len(texts)} columns"
        raise InputError(file, reason, field=f"line {n}")
    numbers = []
    for text in texts[1:5]:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InputError(file, f"a whole number is expected, found {text[:40]!r}", field=f"line {n}")
        numbers.append(int(text))
    track, kind_of, height, width = numbers
    if kind_of == IGNORED:
        return None
    if kind_of not in CLASSES or track // 1000 != kind_of:
        reason = f"object {track} of class {kind_of}: an id of class * 1000 + instance is expected, class 1 or 2"
        raise InputError(file, reason, field=f"line {n}")
    if (height, width) != (frame.height, frame.width):
        reason = f"mask is {width} x {height}, its frame is {frame.width} x {frame.height}"
        raise InputError(file, reason, field=f"line {n}")
    try:
        rle = masks.from_counts(texts[5], (height, width))
    except ValueError as error:
        raise InputError(file, str(error), field=f"line {n}, column rle") from error
    return Region(id=str(track), mask=rle, category=CLASSES[kind_of]) if masks.area(rle) else None
