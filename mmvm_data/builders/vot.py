"""VOT challenges: ``<sequence>/{groundtruth.txt, 00000001.jpg or color/00000001.jpg}``, one region per line.

A region is a rectangle ``x,y,width,height`` (2013, 2014, long-term, RGBD), a polygon ``x1,y1,x2,y2,…`` (2014 to 2019,
four corners of a rotated box), or a mask ``m x0,y0,w,h,rle…`` (since 2020): run lengths of a window of w x h pixels at
x0, y0, row by row, background first. NaN or a single number (a state of the tracker) is an absent object. VOTS tracks
several objects: groundtruth_<object>.txt beside each other.

Polygons become their upright boxes and are asked about as boxes. As contours they could be told from the outlines of
other candidates by their four straight sides. A sequence of masks gives masks.

Source: vot/region of votchallenge/toolkit (parsing), documentation/internals.md of toolkit-legacy (layout).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmvm_data.builders.common.box_sequences import BoxSequence, ObjectTrack, align_lines, find_sequences
from mmvm_data.builders.common.frames import require_two_frames
from mmvm_data.builders.common.json_fields import MAX_SIDE
from mmvm_data.builders.common.text_files import parse_finite, parse_numbers, parse_rectangle
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame, Region, Rle, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name

_CACHE_SIZE = 8
_IMAGE_FOLDERS = ("color", "")


def open_vot(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open a folder of sequences, or one sequence; a video's id is the name of its folder.

    Raises:
        InputError: the root cannot be read, or contains no sequence.
    """

    def is_sequence(folder: Path) -> bool:
        return bool(_list_region_files(folder))

    folders, rejects = find_sequences(name, root, is_sequence, "groundtruth.txt", _IMAGE_FOLDERS)

    def load(video: str) -> Video:
        if video not in folders:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        folder = folders[video]
        images = next(folder / part for part in _IMAGE_FOLDERS if path_kind(folder / part) == "folder")
        tracks = tuple(ObjectTrack(str(k), file) for k, file in enumerate(_list_region_files(folder), start=1))
        return _load_video(name, root, BoxSequence(video, images, tracks))

    return Source(name, root, sorted(folders), load, rejects)


def _list_region_files(folder: Path) -> list[Path]:
    """Return the files of regions of a sequence. A folder is listed only where it may contain several of them."""
    if path_kind(folder / "groundtruth.txt") == "file":
        return [folder / "groundtruth.txt"]
    if path_kind(folder / "color") != "folder":
        return []
    files = list_names(folder, (".txt",))
    return [folder / file for file in files if file.startswith("groundtruth_") and is_utf8(file)]


def _load_video(name: str, root: Path, sequence: BoxSequence) -> Video:
    frames, lines = align_lines(root, sequence)
    has_masks = any(line.startswith("m") for _, line in next(iter(lines.values()), ()))

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        regions = []
        for track, (n, line) in zip(sequence.tracks, lines[position], strict=True):
            region = _parse_region(track, n, line, frames[position], has_masks)
            if region is not None:
                regions.append(region)
        return tuple(regions)

    return Video.lazy(
        read,
        id=sequence.id,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(sequence.tracks[0].file, tuple(lines)),
        prompt="mask" if has_masks else "box",
    )


def _parse_region(track: ObjectTrack, n: int, line: str, frame: Frame, has_masks: bool) -> Region | None:
    if line.startswith("m"):
        if not has_masks:
            raise InputError(track.file, "a mask in a sequence that starts with boxes", field=f"line {n}")
        rle = _parse_mask(track.file, n, line, frame)
        return Region(id=track.id, mask=rle) if masks.has_pixels(rle) else None
    values = parse_numbers(track.file, n, line)
    if values is None or len(values) == 1:
        return None
    if has_masks:
        raise InputError(track.file, "a box in a sequence that starts with masks", field=f"line {n}")
    if len(values) == 4:
        box = parse_rectangle(track.file, n, line)
        return Region(id=track.id, box=box) if box else None
    if len(values) < 6 or len(values) % 2:
        reason = f"a rectangle, a polygon or a mask is expected, found {len(values)} numbers"
        raise InputError(track.file, reason, field=f"line {n}")
    left, top = min(values[::2]), min(values[1::2])
    width, height = max(values[::2]) - left, max(values[1::2]) - top
    if not width or not height:
        return None
    return Region(id=track.id, box=(left, top, width, height), extra={"polygon": list(values)})


def _parse_mask(file: Path, n: int, line: str, frame: Frame) -> Rle:
    """Return the mask of a line, clipped to the frame."""
    values = []
    for k, text in enumerate(line[1:].split(","), start=1):
        value = parse_finite(text.strip())
        if value is None or not value.is_integer() or abs(value) > MAX_SIDE**2:
            raise InputError(file, f"an integer is expected, found {text[:40]!r}", field=f"line {n}, number {k}")
        values.append(int(value))
    if len(values) < 4:
        raise InputError(file, "x0, y0, w, h and run lengths are expected", field=f"line {n}")
    x0, y0, width, height, *lengths = values
    if not (0 <= width <= MAX_SIDE and 0 <= height <= MAX_SIDE and abs(x0) <= MAX_SIDE and abs(y0) <= MAX_SIDE):
        raise InputError(file, f"a window of {width} x {height} at {x0}, {y0} is no part of a frame", field=f"line {n}")
    if any(length < 0 for length in lengths) or sum(lengths) > width * height:
        reason = f"run lengths from 0 that fill at most {width} x {height} pixels are expected"
        raise InputError(file, reason, field=f"line {n}")
    bitmap = np.zeros((frame.height, frame.width), np.uint8)
    start = 0
    for k, length in enumerate(lengths):
        if k % 2:
            _fill_window(bitmap, start, start + length, x0, y0, width)
        start += length
    return masks.encode(bitmap)


def _fill_window(bitmap: NDArray[np.uint8], start: int, end: int, x0: int, y0: int, width: int) -> None:
    """Set pixels ``start`` to ``end`` (row by row) of a window of ``width`` at x0, y0, where it overlaps the bitmap."""
    rows, columns = bitmap.shape
    while start < end:
        row, column = divmod(start, width)
        stop = min(end, (row + 1) * width)
        y, left, right = y0 + row, max(x0 + column, 0), min(x0 + column + stop - start, columns)
        if y >= rows:
            return
        if y >= 0 and left < right:
            bitmap[y, left:right] = 1
        start = stop
