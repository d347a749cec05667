"""MOTS: masks of cars and pedestrians, MOTSChallenge and KITTI MOTS.

    MOTSChallenge  [train/]<sequence>/{img1/000001.jpg, gt/gt.txt}
    KITTI MOTS     [training/]image_02/<sequence>/000000.png, and instances_txt/<sequence>.txt or
                   instances/<sequence>/000000.png (also images/ beside instances/, as the MOTS tools lay them out)

A line of text is ``frame id class height width rle``, separated by white space, rle compressed as in COCO. A PNG holds
one number per pixel: 0 background, class * 1000 + instance, the same numbers as the ids of the text. 10000 (class 10)
is a region to be ignored, and is skipped. Classes: 1 car, 2 pedestrian. Frames are numbered by their names. With text,
frames from the first to the last that it names are annotated, with PNGs those that have one.

Source: www.vision.rwth-aachen.de/page/mots, which docs/MOTS-format.txt of JonathonLuiten/TrackEval quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from mmvm_data.builders.common.box_sequences import find_sequences
from mmvm_data.builders.common.folders import list_subfolders, relative_path
from mmvm_data.builders.common.frames import (
    find_lines_without_frames,
    find_masks_without_frames,
    list_frames,
    match_annotations,
    require_two_frames,
)
from mmvm_data.builders.common.segmentations import parse_counts
from mmvm_data.builders.common.text_files import NumberedLine, parse_natural, read_lines_by_frame
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import path_kind, printable_name
from mmvm_data.io.png import read_labels

CLASSES = {1: "car", 2: "pedestrian"}
IGNORED = 10
_BASES = ("", "training", "train")
_FOLDER_PAIRS = (("image_02", "instances_txt"), ("image_02", "instances"), ("images", "instances"))
_CACHE_SIZE = 8

ReadRegions = Callable[[int], tuple[Region, ...]]


def open_mots(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open either layout; a video's id is the name of its sequence.

    Raises:
        InputError: the root cannot be read, or has neither layout.
    """
    for base in _BASES:
        for image_folder, mask_folder in _FOLDER_PAIRS:
            images, masks_folder = root / base / image_folder, root / base / mask_folder
            if path_kind(images) == path_kind(masks_folder) == "folder":
                return _open_folder_pair(name, root, images, masks_folder)
    sequences, rejects = find_sequences(
        name, root, lambda folder: path_kind(folder / "gt" / "gt.txt") == "file", "gt/gt.txt", ("img1",)
    )

    def load(video: str) -> Video:
        if video not in sequences:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        return _load_video(name, root, video, sequences[video] / "img1", sequences[video] / "gt" / "gt.txt")

    return Source(name, root, sorted(sequences), load, rejects)


def _open_folder_pair(name: str, root: Path, images: Path, masks_folder: Path) -> Source:
    videos, rejects = list_subfolders(name, root, images)
    suffix = ".txt" if masks_folder.name == "instances_txt" else ""
    paths: dict[str, Path] = {}
    for video in videos:
        path = masks_folder / f"{video}{suffix}"
        if path_kind(path) in ("file", "folder"):
            paths[video] = path
        else:
            rejects.append(Reject(name, video, -1, "frames without masks", relative_path(root, images / video)))

    def load(video: str) -> Video:
        if video not in paths:
            raise InputError(images, f"there is no video {printable_name(video)!r}")
        return _load_video(name, root, video, images / video, paths[video])

    return Source(name, root, list(paths), load, tuple(sorted(rejects)))


def _load_video(name: str, root: Path, video: str, images: Path, path: Path) -> Video:
    frames = list_frames(root, images)
    if path_kind(path) == "folder":
        annotated, read = _open_pngs(path, frames)
        problems = find_masks_without_frames(path, frames)
    else:
        lines = read_lines_by_frame(path, None)
        annotated, read = _open_text(path, lines, frames)
        problems = find_lines_without_frames(path, lines, frames)
    return Video.lazy(
        lru_cache(_CACHE_SIZE)(read),
        problems=problems,
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(path, annotated),
    )


def _open_pngs(folder: Path, frames: tuple[Frame, ...]) -> tuple[tuple[int, ...], ReadRegions]:
    """Return the annotated positions, and a function that reads the objects of one of them."""
    files = match_annotations(folder, frames)

    def read(position: int) -> tuple[Region, ...]:
        file, frame = files[position], frames[position]
        regions = []
        for number, rle in masks.encode_labels(read_labels(file, frame.width, frame.height).ids).items():
            class_id = number // 1000
            if class_id == IGNORED:
                continue
            if class_id not in CLASSES:
                raise InputError(file, f"{number} is no object: class * 1000 + instance is expected, class 1 or 2")
            regions.append(Region(id=str(number), mask=rle, category=CLASSES[class_id]))
        return tuple(regions)

    return tuple(files), read


def _open_text(
    file: Path, lines: dict[int, list[NumberedLine]], frames: tuple[Frame, ...]
) -> tuple[tuple[int, ...], ReadRegions]:
    """Return the annotated positions, and a function that reads the objects of one of them."""
    first, last = min(lines), max(lines)

    def read(position: int) -> tuple[Region, ...]:
        regions: dict[str, Region] = {}
        for n, line in lines.get(frames[position].index, ()):
            region = _parse_region(file, n, line, frames[position])
            if region is None:
                continue
            if region.id in regions:
                raise InputError(file, f"object {region.id} occurs twice in one frame", field=f"line {n}")
            regions[region.id] = region
        return tuple(regions.values())

    return tuple(p for p, frame in enumerate(frames) if first <= frame.index <= last), read


def _parse_region(file: Path, n: int, line: str, frame: Frame) -> Region | None:
    """Return the object of a line; None for regions to be ignored and empty masks."""
    columns = line.split()
    if len(columns) != 6:
        reason = f"frame, id, class, height, width and rle are expected, found {len(columns)} columns"
        raise InputError(file, reason, field=f"line {n}")
    numbers = []
    for text in columns[1:5]:
        number = parse_natural(text)
        if number is None:
            raise InputError(file, f"an integer is expected, found {text[:40]!r}", field=f"line {n}")
        numbers.append(number)
    track, class_id, height, width = numbers
    if class_id == IGNORED:
        return None
    if class_id not in CLASSES or track // 1000 != class_id:
        reason = f"object {track} of class {class_id}: an id of class * 1000 + instance is expected, class 1 or 2"
        raise InputError(file, reason, field=f"line {n}")
    if (height, width) != (frame.height, frame.width):
        reason = f"mask is {width} x {height}, its frame is {frame.width} x {frame.height}"
        raise InputError(file, reason, field=f"line {n}")
    rle = parse_counts(file, f"line {n}, column rle", columns[5], (height, width))
    return Region(id=str(track), mask=rle, category=CLASSES[class_id]) if masks.has_pixels(rle) else None
