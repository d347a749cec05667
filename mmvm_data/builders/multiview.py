"""WildTrack and MultiviewX: people seen by several cameras at one instant.

``Image_subsets/C1/00000000.png``, one folder per camera, and ``annotations_positions/00000000.json``, one file per
instant: a list of ``{personID, positionID, views[] {viewNum, xmin, ymin, xmax, ymax}}``. viewNum counts the cameras
from 0 (C1); corners of -1 mean that the camera does not see the person. Corners may be outside the image and are not
clipped.

An instant is a video whose frames are the cameras, numbered as their folders are: image 1 and image 2 of a case are two
cameras at the same time.

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
from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.common.frames import require_two_frames, trailing_number
from mmvm_data.builders.common.json_files import read_json
from mmvm_data.builders.common.text_files import MAX_COORDINATE
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Box, Frame, Region, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name
from mmvm_data.io.media import IMAGE_SUFFIXES, read_image_size

_CAMERA = re.compile(r"C(\d{1,3})", re.ASCII)
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def open_multiview(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open wildtrack or multiviewx; a video's id is the name of its annotation file.

    Raises:
        InputError: the two folders, or folders of cameras, do not exist.
    """
    images, annotations = root / "Image_subsets", root / "annotations_positions"
    if not path_kind(images) == path_kind(annotations) == "folder":
        raise InputError(root, "folders Image_subsets and annotations_positions are expected here")
    folders = {int(m[1]): images / folder for folder in list_names(images) if (m := _CAMERA.fullmatch(folder))}
    if len(folders) < 2:
        raise InputError(images, "folders C1, C2, … of two cameras or more are expected here")
    cameras = {camera: _list_instants(folder) for camera, folder in sorted(folders.items())}
    files: dict[str, Path] = {}
    rejects = []
    for file in list_names(annotations, (".json",)):
        stem = Path(file).stem
        if not is_utf8(file) or trailing_number(stem) is None:
            reason = "the file's name must be the number of an instant"
            rejects.append(Reject(name, printable_name(stem), -1, reason, relative_path(root, annotations / file)))
        else:
            files[stem] = annotations / file

    def load(video: str) -> Video:
        if video not in files:
            raise InputError(annotations, f"there is no instant {printable_name(video)!r}")
        return _load_video(name, root, video, files[video], cameras)

    return Source(name, root, sorted(files), load, tuple(rejects))


def _list_instants(folder: Path) -> dict[int, Path]:
    """Return instant -> image of one camera."""
    images: dict[int, Path] = {}
    for file in list_names(folder, IMAGE_SUFFIXES):
        instant = trailing_number(Path(file).stem) if is_utf8(file) else None
        if instant is not None:
            images.setdefault(instant, folder / file)
    return images


def _load_video(name: str, root: Path, video: str, file: Path, cameras: Mapping[int, Mapping[int, Path]]) -> Video:
    instant = trailing_number(video)
    frames = []
    for camera, images in cameras.items():
        path = images.get(instant) if instant is not None else None
        if path is not None:
            width, height = read_image_size(path)
            frames.append(Frame(path=relative_path(root, path), index=camera, width=width, height=height))
    people = _read_people(file)

    @cache
    def read(position: int) -> tuple[Region, ...]:
        camera = frames[position].index
        return tuple(
            Region(id=person, box=boxes[camera], category="person")
            for person, boxes in people.items()
            if camera in boxes
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
    """Return person -> camera -> box, for the cameras that see the person."""
    data = read_json(file)
    if not isinstance(data, list):
        raise InputError(file, f"a list is expected, found {type(data).__name__}")
    people: dict[str, dict[int, Box]] = {}
    for k, entry in enumerate(data):
        person = parse_id(entry.get("personID")) if isinstance(entry, dict) else None
        views = entry.get("views") if isinstance(entry, dict) else None
        if person is None or not isinstance(views, list):
            raise InputError(file, "an object with personID and views is expected", field=f"[{k}]")
        if person in people:
            raise InputError(file, f"person {person} occurs twice", field=f"[{k}].personID")
        boxes: dict[int, Box] = {}
        for m, view in enumerate(views):
            field = f"[{k}].views[{m}]"
            camera = view.get("viewNum") if isinstance(view, dict) else None
            if type(camera) is not int or not 0 <= camera < 1000:
                raise InputError(file, "an object with viewNum, the number of a camera, is expected", field=field)
            box = _parse_corners(file, field, view)
            if box is not None and boxes.setdefault(camera + 1, box) is not box:
                raise InputError(file, f"camera {camera} occurs twice", field=field)
        people[person] = boxes
    return people


def _parse_corners(file: Path, field: str, view: dict[str, Any]) -> Box | None:
    """Return the box of a view; None when the camera does not see the person."""
    values: list[Any] = [view.get(key) for key in _CORNERS]
    corners = [float(v) for v in values if type(v) in (int, float) and math.isfinite(v) and abs(v) < MAX_COORDINATE]
    if len(corners) < 4:
        raise InputError(file, "xmin, ymin, xmax and ymax in pixels are expected", field=field)
    if all(corner == -1 for corner in corners):
        return None
    x0, y0, x1, y1 = corners
    if x1 <= x0 or y1 <= y0:
        raise InputError(file, f"xmax, ymax ({x1:g}, {y1:g}) must be above xmin, ymin ({x0:g}, {y0:g})", field=field)
    return x0, y0, x1 - x0, y1 - y0
