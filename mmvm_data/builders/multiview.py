"""WildTrack and MultiviewX: people seen by several cameras at one instant.

``Image_subsets/C1/00000000.png``, a folder a camera, and ``annotations_positions/00000000.json``, a file an instant: a
list of ``{personID, positionID, views[] {viewNum, xmin, ymin, xmax, ymax}}``. viewNum counts the cameras from 0 (C1);
-1 in place of the corners is a person whom that camera does not see. Corners may lie outside the picture, and stay.

An instant is a video whose frames are the cameras, numbered as their folders are: image 1 and image 2 of a case are two
cameras at the same time (DESIGN 3.4).

Source: README of the WILDTRACK data set (www.epfl.ch/labs/cvlab/data/data-wildtrack) and hou-yz/MultiviewX.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmvm_data.builders.common.annotation_index import parse_id
from mmvm_data.builders.common.folders import read_json, relative_path, require_two_frames, trailing_number
from mmvm_data.builders.common.text_files import MAX_COORDINATE
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Box, Frame, Region, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name
from mmvm_data.io.media import IMAGE_SUFFIXES, read_image_size

_CAMERA = re.compile(r"C(\d{1,3})", re.ASCII)
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def open_multiview(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open wildtrack or multiviewx; a video's id is the name of its file of annotations.

    Raises:
        InputError: the two folders, or folders of cameras, are not there.
    """
    images, marks = root / "Image_subsets", root / "annotations_positions"
    if not path_kind(images) == path_kind(marks) == "folder":
        raise InputError(root, "folders Image_subsets and annotations_positions are expected here")
    cameras = {int(m[1]): images / folder for folder in list_names(images) if (m := _CAMERA.fullmatch(folder))}
    if len(cameras) < 2:
        raise InputError(images, "folders C1, C2, … of two cameras or more are expected here")
    pictures = {camera: _list_instants(folder) for camera, folder in sorted(cameras.items())}
    files: dict[str, Path] = {}
    rejects = []
    for file in list_names(marks, (".json",)):
        stem = Path(file).stem
        if not is_utf8(file) or trailing_number(stem) is None:
            reason = "the file's name must be the number of an instant"
            rejects.append(Reject(name, printable_name(stem), -1, reason, relative_path(root, marks / file)))
        else:
            files[stem] = marks / file

    def load(video: str) -> Video:
        if video not in files:
            raise InputError(marks, f"there is no instant {printable_name(video)!r}")
        return _load_video(name, root, video, files[video], pictures)

    return Source(name, root, sorted(files), load, tuple(rejects))


def _list_instants(folder: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for file in list_names(folder, IMAGE_SUFFIXES):
        instant = trailing_number(Path(file).stem) if is_utf8(file) else None
        if instant is not None:
            found.setdefault(instant, folder / file)
    return found


def _load_video(name: str, root: Path, video: str, file: Path, pictures: Mapping[int, Mapping[int, Path]]) -> Video:
    instant = trailing_number(video)
    frames = []
    for camera, by_number in pictures.items():
        path = by_number.get(instant) if instant is not None else None
        if path is not None:
            width, height = read_image_size(path)
            frames.append(Frame(path=relative_path(root, path), index=camera, width=width, height=height))
    people = _read_people(file)

    @cache
    def read(position: int) -> tuple[Region, ...]:
        camera = frames[position].index
        return tuple(
            Region(id=person, box=views[camera], category="person")
            for person, views in people.items()
            if camera in views
        )

    return Video.lazy(
        read,
        id=video,
        source=name,
        root=root,
        frames=tuple(frames),
        annotated=require_two_frames(file, tuple(range(len(frames)))),
        prompt="box",
        order="views",
        note={"views": "cameras at one instant"},
    )


def _read_people(file: Path) -> dict[str, dict[int, Box]]:
    """Person -> camera -> box, of those that the camera sees."""
    data = read_json(file)
    if not isinstance(data, list):
        raise InputError(file, f"a list is expected, found {type(data).__name__}")
    found: dict[str, dict[int, Box]] = {}
    for k, entry in enumerate(data):
        person = parse_id(entry.get("personID")) if isinstance(entry, dict) else None
        views = entry.get("views") if isinstance(entry, dict) else None
        if person is None or not isinstance(views, list):
            raise InputError(file, "an object with personID and views is expected", field=f"[{k}]")
        if person in found:
            raise InputError(file, f"person {person} is there twice", field=f"[{k}].personID")
        boxes: dict[int, Box] = {}
        for m, view in enumerate(views):
            where = f"[{k}].views[{m}]"
            camera = view.get("viewNum") if isinstance(view, dict) else None
            if type(camera) is not int or not 0 <= camera < 1000:
                raise InputError(file, "an object with viewNum, the number of a camera, is expected", field=where)
            box = _parse_corners(file, where, view)
            if box is not None and boxes.setdefault(camera + 1, box) is not box:
                raise InputError(file, f"camera {camera} is there twice", field=where)
        found[person] = boxes
    return found


def _parse_corners(file: Path, where: str, view: dict[str, Any]) -> Box | None:
    values: list[Any] = [view.get(key) for key in _CORNERS]
    corners = [float(v) for v in values if type(v) in (int, float) and math.isfinite(v) and abs(v) < MAX_COORDINATE]
    if len(corners) < 4:
        raise InputError(file, "xmin, ymin, xmax and ymax in pixels are expected", field=where)
    if all(corner == -1 for corner in corners):
        return None
    x0, y0, x1, y1 = corners
    if x1 <= x0 or y1 <= y0:
        raise InputError(file, f"xmax, ymax ({x1:g}, {y1:g}) must lie beyond xmin, ymin ({x0:g}, {y0:g})", field=where)
    return x0, y0, x1 - x0, y1 - y0
