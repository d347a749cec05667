"""VIPSeg: ``imgs/<video>/*.jpg`` and ``panomasks/<video>/*.png`` (``images`` in the 720p version).

A panomask holds one number per pixel: 0 void, 1 to 124 the category of stuff, and for things category * 100 + instance.
Things are the objects; a thing's number is its identity over the video. Names of categories are in
``panoVIPSeg_categories.json`` in the root or in the parent folder of the masks, with ids that are smaller by one (void
has none); without the file a category is named by its number.

Source: README.md, panoVIPSeg_categories.json and label_num_dic_final.json of VIPSeg-Dataset/VIPSeg-Dataset.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mmvm_data.builders.common.folders import list_subfolders, relative_path
from mmvm_data.builders.common.frames import list_frames, match_annotations, require_two_frames
from mmvm_data.builders.common.json_files import read_json_without_frames
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Region, Video
from mmvm_data.io.files import is_utf8, path_kind, printable_name
from mmvm_data.io.png import read_labels

CATEGORIES_FILE = "panoVIPSeg_categories.json"
NUM_CATEGORIES = 124
"""Also the largest value of stuff in a panomask."""
_BASES = ("", "VIPSeg", "VIPSeg_720P")
_FOLDER_PAIRS = tuple((images, masks) for images in ("imgs", "images") for masks in ("panomasks", "panomask"))
_CACHE_SIZE = 8


def open_vipseg(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open VIPSeg, original or 720p.

    Raises:
        InputError: the two folders do not exist, or the file of categories is broken.
    """
    for base in _BASES:
        for image_folder, mask_folder in _FOLDER_PAIRS:
            images, panomasks = root / base / image_folder, root / base / mask_folder
            if path_kind(images) == path_kind(panomasks) == "folder":
                return _open(name, root, images, panomasks)
    raise InputError(root, "folders imgs (or images) and panomasks are expected here")


def _open(name: str, root: Path, images: Path, panomasks: Path) -> Source:
    categories = _read_categories(root, panomasks)
    mask_folders, rejects = list_subfolders(name, root, panomasks)
    videos = []
    for video in mask_folders:
        if path_kind(images / video) == "folder":
            videos.append(video)
        else:
            rejects.append(Reject(name, video, -1, "masks without frames", relative_path(root, panomasks / video)))
    known_ids = frozenset(videos)

    def load(video: str) -> Video:
        if video not in known_ids:
            raise InputError(panomasks, f"there is no video {printable_name(video)!r}")
        return _load_video(name, root, video, images / video, panomasks / video, categories)

    return Source(name, root, videos, load, tuple(sorted(rejects)))


def _read_categories(root: Path, panomasks: Path) -> dict[int, str]:
    """Return category number in the masks -> name; empty when there is no file of categories."""
    candidates = (root / CATEGORIES_FILE, panomasks.parent / CATEGORIES_FILE)
    file = next((candidate for candidate in candidates if path_kind(candidate) == "file"), None)
    if file is None:
        return {}
    data = read_json_without_frames(file)
    categories: dict[int, str] = {}
    for k, value in enumerate(data if isinstance(data, list) else ()):
        entry = value if isinstance(value, dict) else {}
        number, category = entry.get("id"), entry.get("name")
        if type(number) is not int or not isinstance(category, str) or not category or not is_utf8(category):
            raise InputError(file, "an object with id and name is expected", field=f"[{k}]")
        categories[number + 1] = category
    if not categories:
        raise InputError(file, "a list of categories is expected")
    return categories


def _load_video(name: str, root: Path, video: str, images: Path, panomasks: Path, categories: dict[int, str]) -> Video:
    frames = list_frames(root, images)
    files = match_annotations(panomasks, frames)

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        file, frame = files[position], frames[position]
        ids = read_labels(file, frame.width, frame.height).ids
        regions = []
        for number, rle in masks.encode_labels(ids).items():
            if 0 < number <= NUM_CATEGORIES:
                continue
            if not 0 < number // 100 <= NUM_CATEGORIES:
                reason = f"{number} is neither stuff (to {NUM_CATEGORIES}) nor a thing (category * 100 + instance)"
                raise InputError(file, reason)
            category = categories.get(number // 100, f"category {number // 100}")
            regions.append(Region(id=str(number), mask=rle, category=category))
        return tuple(regions)

    annotated = require_two_frames(panomasks, tuple(files))
    return Video.lazy(read, id=video, source=name, root=root, frames=frames, annotated=annotated)
