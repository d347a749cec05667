"""Re-identification: crops of people by identity and camera, laid out on contact sheets.

    folders  bounding_box_train/0002_c1s1_000451_03.jpg, bounding_box_test/, query/: identity, then the camera after
             ``_c`` (Market-1501, DukeMTMC-reID and what is named alike). -1 is a bad crop, 0000 (Market-1501) a
             distractor: both are skipped
    a list   ann.txt (or the first of meta/train*.txt, since such lists overlap), ``<path> <identity>`` per line,
             paths relative to imgs/, images/ or the root (MMTracking's form of MOT17); it has no camera, so the crop's
             folder is used instead

A crop shows one person, so there is nothing to choose from in it. A video is therefore a group of PEOPLE_PER_SHEET
identities, chosen by a hash of their names, on SHEETS_PER_GROUP sheets: each person once, from another camera (or at
least another crop) on every sheet, in another cell. A person without another crop is missing, and then the answer can
be "none of the above". A frame shows one sheet; the crops in its cells are listed in ``note["crops"]``.

Source: readme.txt of Market-1501-v15.09.15 (zheng-lab.cecs.anu.edu.au/Project/project_reid.html); dataset documentation
of open-mmlab/mmtracking for the list.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.builders.common.folders import relative_path
from mmvm_data.builders.common.text_files import read_lines
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name, safe_join
from mmvm_data.io.media import IMAGE_SUFFIXES, read_frame_bgr, read_image_size

PEOPLE_PER_SHEET, SHEETS_PER_GROUP = 8, 4
PARTS = ("bounding_box_train", "bounding_box_test", "query")
CELL = (128, 256)
"""Width and height of a cell in pixels; crops are scaled to fit."""
MARGIN, COLUMNS = 16, 4
BACKGROUND = 128
_NAME = re.compile(r"(-?\d+)_c(\d+)", re.ASCII)
_NO_IDENTITY = ("-1", "0000")
_MAX_ASPECT_RATIO = 40

CropsByPerson = dict[str, dict[str, list[Path]]]
"""Identity -> camera -> crops."""


class _Cell(NamedTuple):
    """A person on a sheet: identity, crop, and the top left pixel of the cell."""

    person: str
    crop: Path
    x: int
    y: int


@dataclass(frozen=True)
class _Group:
    """People who are on the same sheets."""

    id: str
    people: tuple[str, ...]


def open_reid(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open folders or a list; a video's id is the number of its group.

    Raises:
        InputError: neither exists in the root, or no two people have two crops each.
    """
    rejects: list[Reject] = []
    folders = [root / part for part in PARTS if path_kind(root / part) == "folder"]
    crops = _list_crops(name, root, folders, rejects) if folders else _read_crop_list(name, root, rejects)
    people = [person for person, cameras in crops.items() if sum(map(len, cameras.values())) > 1]
    people.sort(key=lambda person: (_sha256(name, person), person))
    groups = {
        f"{k:06d}": _Group(f"{k:06d}", tuple(people[start : start + PEOPLE_PER_SHEET]))
        for k, start in enumerate(range(0, len(people), PEOPLE_PER_SHEET))
        if len(people) - start > 1
    }
    if not groups and not rejects:
        raise InputError(root, "no two people with two crops each exist here")

    def load(video: str) -> Video:
        if video not in groups:
            raise InputError(root, f"there is no group {printable_name(video)!r}")
        return _load_video(name, root, groups[video], crops)

    return Source(name, root, sorted(groups), load, tuple(sorted(rejects)))


def _list_crops(name: str, root: Path, folders: list[Path], rejects: list[Reject]) -> CropsByPerson:
    """Return the crops in folders whose file names begin with identity and camera."""
    crops: CropsByPerson = {}
    for folder in folders:
        for file in list_names(folder, IMAGE_SUFFIXES):
            match = _NAME.match(file)
            if not match or not is_utf8(file):
                reason = "the file's name does not begin with an identity and a camera, such as 0002_c1"
                rejects.append(Reject(name, printable_name(file), -1, reason, relative_path(root, folder / file)))
            elif match[1] not in _NO_IDENTITY:
                crops.setdefault(match[1], {}).setdefault(match[2], []).append(folder / file)
    return crops


def _read_crop_list(name: str, root: Path, rejects: list[Reject]) -> CropsByPerson:
    """Return the crops that a text file lists; their folders are used as cameras."""
    file = root / "ann.txt"
    if path_kind(file) != "file":
        files = list_names(root / "meta", (".txt",)) if path_kind(root / "meta") == "folder" else []
        train_files = [entry for entry in files if entry.startswith("train") and is_utf8(entry)]
        if not train_files:
            raise InputError(root, f"folders such as {PARTS[0]}, or a list ann.txt, are expected here")
        file = root / "meta" / train_files[0]
    images = next((root / part for part in ("imgs", "images") if path_kind(root / part) == "folder"), root)
    person_of: dict[Path, str] = {}
    for n, line in enumerate(read_lines(file), start=1):
        path, _, person = line.rpartition(" ")
        try:
            if not path.strip() or not person.isdecimal() or not person.isascii():
                raise InputError(file, "a path and the number of an identity are expected")
            crop = safe_join(images, path.strip(), file)
            if person_of.setdefault(crop, person) != person:
                raise InputError(file, f"this crop is already listed for person {person_of[crop]}")
        except InputError as error:
            rejects.append(Reject(name, "", -1, error.reason, relative_path(root, file), f"line {n}"))
    crops: CropsByPerson = {}
    for crop, person in person_of.items():
        crops.setdefault(person, {}).setdefault(str(crop.parent), []).append(crop)
    return crops


def _load_video(name: str, root: Path, group: _Group, crops: CropsByPerson) -> Video:
    sheets = [sheet for k in range(SHEETS_PER_GROUP) if (sheet := _lay_out_sheet(name, group, crops, k))]
    rows = -(-PEOPLE_PER_SHEET // COLUMNS)
    width, height = (MARGIN + count * (side + MARGIN) for count, side in zip((COLUMNS, rows), CELL, strict=True))

    @cache
    def list_boxes(position: int) -> tuple[tuple[int, int, int, int], ...]:
        return tuple(_fit_crop(cell) for cell in sheets[position])

    @lru_cache(SHEETS_PER_GROUP)
    def read(position: int) -> tuple[Region, ...]:
        cells = zip(sheets[position], list_boxes(position), strict=True)
        return tuple(Region(id=cell.person, box=box, category="person") for cell, box in cells)

    def draw(position: int) -> NDArray[np.uint8]:
        sheet = np.full((height, width, 3), BACKGROUND, np.uint8)
        for cell, (x, y, w, h) in zip(sheets[position], list_boxes(position), strict=True):
            size = read_image_size(cell.crop)
            crop = read_frame_bgr(
                root, Frame(path=relative_path(root, cell.crop), index=0, width=size[0], height=size[1])
            )
            smaller = w * h < size[0] * size[1]
            sheet[y : y + h, x : x + w] = cv2.resize(
                crop, (w, h), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
            )
        return sheet

    return Video.lazy(
        read,
        draw,
        id=group.id,
        source=name,
        root=root,
        frames=tuple(
            Frame(path=relative_path(root, s[0].crop), index=k, width=width, height=height)
            for k, s in enumerate(sheets)
        ),
        annotated=tuple(range(len(sheets))),
        prompt="box",
        order="views",
        note={
            "views": "sheets of crops",
            "crops": [[relative_path(root, cell.crop) for cell in sheet] for sheet in sheets],
        },
    )


def _lay_out_sheet(name: str, group: _Group, crops: CropsByPerson, k: int) -> Sequence[_Cell]:
    """Return the cells of sheet ``k``, in the order of its people; which cell a person gets differs by sheet."""
    chosen = {person: crop for person in group.people if (crop := _choose_crop(name, person, crops[person], k))}
    order = sorted(range(PEOPLE_PER_SHEET), key=lambda cell: _sha256(name, group.id, str(k), str(cell)))
    return [
        _Cell(person, crop, MARGIN + k % COLUMNS * (CELL[0] + MARGIN), MARGIN + k // COLUMNS * (CELL[1] + MARGIN))
        for k, (person, crop) in zip(order, chosen.items(), strict=False)
    ]


def _choose_crop(name: str, person: str, cameras: dict[str, list[Path]], k: int) -> Path | None:
    """Return the crop of a person on sheet ``k``; None when no crop is left.

    Cameras take turns, in an order given by a hash, and each crop is used once.
    """
    ordered = sorted(cameras, key=lambda camera: _sha256(name, person, camera))
    turns = [
        (turn, rank, crop)
        for rank, camera in enumerate(ordered)
        for turn, crop in enumerate(sorted(cameras[camera], key=lambda crop: _sha256(name, person, crop.name)))
    ]
    turns.sort(key=lambda entry: entry[:2])
    return turns[k][2] if k < len(turns) else None


def _fit_crop(cell: _Cell) -> tuple[int, int, int, int]:
    """Return x, y, width and height of a crop on its sheet: as large as its cell allows, centered."""
    width, height = read_image_size(cell.crop)
    if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
        raise InputError(cell.crop, f"a crop of {width} x {height} is no image of a person")
    scale = min(CELL[0] / width, CELL[1] / height)
    w, h = max(round(width * scale), 1), max(round(height * scale), 1)
    return cell.x + (CELL[0] - w) // 2, cell.y + (CELL[1] - h) // 2, w, h


def _sha256(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()
