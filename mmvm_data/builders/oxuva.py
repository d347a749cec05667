"""OxUvA: long videos of YouTube-BoundingBoxes, boxes once per second. One CSV per subset; only ``dev`` is public.

``images/dev/<video>/000000.jpeg`` and ``annotations/dev.csv`` with a header: ``video_id, object_id, class_id,
class_name, contains_cuts, always_visible, frame_num, object_presence, xmin, xmax, ymin, ymax``. Corners are fractions
of the image's width and height, presence is ``present`` or ``absent``. A video may have several tracked objects: a
frame counts as annotated where each has a line; if fewer than two frames qualify, only the object with the most lines
is read.

Source: README.md of oxuva/long-term-tracking-benchmark.
"""

from __future__ import annotations

import csv
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mmvm_data.builders.common.frames import list_frames, require_two_frames
from mmvm_data.builders.common.text_files import NumberedLine, parse_finite, parse_natural, read_text
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Box, Frame, Region, Video
from mmvm_data.io.files import path_kind, printable_name, safe_join

COLUMNS = ("video_id", "object_id", "class_name", "frame_num", "object_presence", "xmin", "xmax", "ymin", "ymax")
_CACHE_SIZE = 8


class _CsvRow(NamedTuple):
    """A line: its number (from 1) and its values by column."""

    n: int
    values: dict[str, str]


def open_oxuva(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the dev subset, in the root or in its folder ``dataset``.

    Raises:
        InputError: the file or the folder does not exist, or the header lacks a column.
    """
    for base in (root, root / "dataset"):
        file, images = base / "annotations" / "dev.csv", base / "images" / "dev"
        if path_kind(file) == "file" and path_kind(images) == "folder":
            break
    else:
        raise InputError(root, "annotations/dev.csv and images/dev are expected here")
    header, lines = _read_lines_by_video(file)

    def load(video: str) -> Video:
        if video not in lines:
            raise InputError(file, f"there is no video {printable_name(video)!r}")
        folder = safe_join(images, video, file, "video_id")
        return _load_video(name, root, video, file, folder, header, lines[video])

    return Source(name, root, sorted(lines), load)


def _read_lines_by_video(file: Path) -> tuple[list[str], dict[str, list[NumberedLine]]]:
    """Return the columns of the header, and video -> lines; no value in the data set contains a comma."""
    first_line, *other_lines = read_text(file).split("\n")
    header = [column.strip() for column in first_line.split(",")]
    for column in COLUMNS:
        if header.count(column) != 1:
            raise InputError(file, f"the header must name the column {column} once", field="line 1")
    index = header.index("video_id")
    by_video: dict[str, list[NumberedLine]] = {}
    for n, line in enumerate(other_lines, start=2):
        if line.strip():
            parts = line.split(",", index + 1)
            video = parts[index].strip() if len(parts) > index else ""
            if not video:
                raise InputError(file, "a video is expected", field=f"line {n}, column video_id")
            by_video.setdefault(video, []).append((n, line))
    if not by_video:
        raise InputError(file, "the file holds no annotation")
    return header, by_video


def _load_video(
    name: str, root: Path, video: str, file: Path, images: Path, header: list[str], lines: list[NumberedLine]
) -> Video:
    frames = list_frames(root, images)
    positions = {frame.index: p for p, frame in enumerate(frames)}
    tracks: dict[str, dict[int, _CsvRow]] = {}
    for n, line in lines:
        row = _CsvRow(n, dict(zip(header, _split_columns(file, n, line, len(header)), strict=True)))
        text = row.values["frame_num"]
        number = parse_natural(text)
        if number is None or number not in positions:
            reason = f"the number of a frame is expected, found {text[:40]!r}"
            raise InputError(file, reason, field=f"line {n}, column frame_num")
        rows = tracks.setdefault(row.values["object_id"], {})
        if rows.setdefault(positions[number], row) is not row:
            raise InputError(file, "this object has two lines for one frame", field=f"line {n}")
    annotated = set.intersection(*(set(rows) for rows in tracks.values()))
    if len(annotated) < 2:
        longest = Counter({track: len(rows) for track, rows in tracks.items()}).most_common(1)[0][0]
        tracks = {longest: tracks[longest]}
        annotated = set(tracks[longest])

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        regions = []
        for track, rows in tracks.items():
            box = _parse_box(file, rows[position], frames[position])
            if box is not None:
                regions.append(Region(id=track, box=box, category=rows[position].values["class_name"] or None))
        return tuple(regions)

    return Video.lazy(
        read,
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(file, tuple(sorted(annotated))),
        prompt="box",
    )


def _split_columns(file: Path, n: int, line: str, count: int) -> list[str]:
    try:
        columns = next(csv.reader([line.strip()], strict=True))
    except csv.Error as error:
        raise InputError(file, f"not a line of a CSV file: {error}", field=f"line {n}") from error
    if len(columns) != count:
        raise InputError(file, f"{count} columns are expected, found {len(columns)}", field=f"line {n}")
    return [column.strip() for column in columns]


def _parse_box(file: Path, row: _CsvRow, frame: Frame) -> Box | None:
    """Return the box of a line in pixels; None when the object is absent."""
    presence = row.values["object_presence"]
    if presence not in ("present", "absent"):
        reason = f"present or absent is expected, found {presence[:40]!r}"
        raise InputError(file, reason, field=f"line {row.n}, column object_presence")
    if presence == "absent":
        return None
    fractions = []
    for column in ("xmin", "xmax", "ymin", "ymax"):
        fraction = parse_finite(row.values[column])
        if fraction is None or not 0 <= fraction <= 1:
            reason = f"a number from 0 to 1 is expected, found {row.values[column][:40]!r}"
            raise InputError(file, reason, field=f"line {row.n}, column {column}")
        fractions.append(fraction)
    x0, x1, y0, y1 = fractions
    if x1 <= x0 or y1 <= y0:
        raise InputError(file, "the box has no area", field=f"line {row.n}")
    return x0 * frame.width, y0 * frame.height, (x1 - x0) * frame.width, (y1 - y0) * frame.height
