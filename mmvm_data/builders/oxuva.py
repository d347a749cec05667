"""OxUvA: long videos of YouTube-BoundingBoxes, boxes once a second. One CSV a subset; only ``dev`` is public.

``images/dev/<video>/000000.jpeg`` and ``annotations/dev.csv`` with a heading: ``video_id, object_id, class_id,
class_name, contains_cuts, always_visible, frame_num, object_presence, xmin, xmax, ymin, ymax``. Corners are shares of
the picture's width and height, presence is ``present`` or ``absent``. Several objects may be followed in one video: a
frame counts as annotated where each has a line; where fewer than two frames have that, the object with most lines is
read alone.

Source: README.md of oxuva/long-term-tracking-benchmark.
"""

from __future__ import annotations

import csv
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mmvm_data.builders.common.folders import list_frames, require_two_frames
from mmvm_data.builders.common.text_files import parse_finite, read_text
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Box, Frame, Region, Video
from mmvm_data.io.files import path_kind, printable_name, safe_join

COLUMNS = ("video_id", "object_id", "class_name", "frame_num", "object_presence", "xmin", "xmax", "ymin", "ymax")
_KEPT = 8


class _CsvRow(NamedTuple):
    """A line: its number, and what its columns say."""

    n: int
    values: dict[str, str]


def open_oxuva(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the dev subset, in the root or in a folder ``dataset`` of it.

    Raises:
        InputError: the file or the folder is not there, or the heading lacks a column.
    """
    for base in (root, root / "dataset"):
        file, images = base / "annotations" / "dev.csv", base / "images" / "dev"
        if path_kind(file) == "file" and path_kind(images) == "folder":
            break
    else:
        raise InputError(root, "annotations/dev.csv and images/dev are expected here")
    heading, lines = _read_lines_by_video(file)

    def load(video: str) -> Video:
        if video not in lines:
            raise InputError(file, f"there is no video {printable_name(video)!r}")
        return _load_video(name, root, video, file, safe_join(images, video, file, "video_id"), heading, lines[video])

    return Source(name, root, sorted(lines), load)


def _read_lines_by_video(file: Path) -> tuple[list[str], dict[str, list[tuple[int, str]]]]:
    """The heading, and for each video its lines with their numbers (from 1); no field of the set holds a comma."""
    first, *rest = read_text(file).split("\n")
    heading = [column.strip() for column in first.split(",")]
    for column in COLUMNS:
        if heading.count(column) != 1:
            raise InputError(file, f"the heading must name the column {column} once", field="line 1")
    at = heading.index("video_id")
    found: dict[str, list[tuple[int, str]]] = {}
    for n, line in enumerate(rest, start=2):
        if line.strip():
            parts = line.split(",", at + 1)
            video = parts[at].strip() if len(parts) > at else ""
            if not video:
                raise InputError(file, "a video is expected", field=f"line {n}, column video_id")
            found.setdefault(video, []).append((n, line))
    if not found:
        raise InputError(file, "the file holds no annotation")
    return heading, found


def _load_video(
    name: str, root: Path, video: str, file: Path, images: Path, heading: list[str], lines: list[tuple[int, str]]
) -> Video:
    if path_kind(images) != "folder":
        raise InputError(images, "no frames: the folder is missing")
    frames = list_frames(root, images)
    place = {frame.index: p for p, frame in enumerate(frames)}
    rows: dict[str, dict[int, _CsvRow]] = {}
    for n, line in lines:
        row = _CsvRow(n, dict(zip(heading, _split_columns(file, n, line, len(heading)), strict=True)))
        number = row.values["frame_num"]
        if not (number.isascii() and number.isdigit() and len(number) < 10) or int(number) not in place:
            reason = f"the number of a frame is expected, found {number[:40]!r}"
            raise InputError(file, reason, field=f"line {n}, column frame_num")
        mine = rows.setdefault(row.values["object_id"], {})
        if mine.setdefault(place[int(number)], row) is not row:
            raise InputError(file, "this object has two lines for one frame", field=f"line {n}")
    common = set.intersection(*(set(mine) for mine in rows.values()))
    if len(common) < 2:
        most = Counter({track: len(mine) for track, mine in rows.items()}).most_common(1)[0][0]
        rows = {most: rows[most]}
        common = set(rows[most])

    @lru_cache(_KEPT)
    def read(position: int) -> tuple[Region, ...]:
        found = []
        for track, mine in rows.items():
            box = _parse_box(file, mine[position], frames[position])
            if box is not None:
                found.append(Region(id=track, box=box, category=mine[position].values["class_name"] or None))
        return tuple(found)

    return Video.lazy(
        read,
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(file, tuple(sorted(common))),
        prompt="box",
    )


def _split_columns(file: Path, n: int, line: str, count: int) -> list[str]:
    try:
        fields = next(csv.reader([line.strip()], strict=True))
    except csv.Error as error:
        raise InputError(file, f"no line of a CSV file: {error}", field=f"line {n}") from error
    if len(fields) != count:
        raise InputError(file, f"{count} columns are expected, found {len(fields)}", field=f"line {n}")
    return [field.strip() for field in fields]


def _parse_box(file: Path, row: _CsvRow, frame: Frame) -> Box | None:
    presence = row.values["object_presence"]
    if presence not in ("present", "absent"):
        reason = f"present or absent is expected, found {presence[:40]!r}"
        raise InputError(file, reason, field=f"line {row.n}, column object_presence")
    if presence == "absent":
        return None
    shares = []
    for column in ("xmin", "xmax", "ymin", "ymax"):
        share = parse_finite(row.values[column])
        if share is None or not 0 <= share <= 1:
            reason = f"a share from 0 to 1 is expected, found {row.values[column][:40]!r}"
            raise InputError(file, reason, field=f"line {row.n}, column {column}")
        shares.append(share)
    x0, x1, y0, y1 = shares
    if x1 <= x0 or y1 <= y0:
        raise InputError(file, "the box has no area", field=f"line {row.n}")
    return x0 * frame.width, y0 * frame.height, (x1 - x0) * frame.width, (y1 - y0) * frame.height
