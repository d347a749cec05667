"""Videos as two folders, one of frames and one of annotation PNGs with the same names.

    DAVIS 2016, 2017   [DAVIS/]JPEGImages/480p/<video>/00000.jpg  and  Annotations/480p/<video>/00000.png
    MOSE               [train/ or valid/]JPEGImages/<video>       and  Annotations/<video>
    YouTube-VOS        [train/]JPEGImages/<video>, Annotations/<video> (every fifth frame) and meta.json
    frames             images, frames or JPEGImages beside masks or Annotations, with or without a folder per video; or
                       <video>/JPEGImages and <video>/Annotations; and labelmap.txt, which names colors

A frame is annotated when its PNG exists. Pixel values are identities over the video; see ``mmvm_data.io.png`` for void
and for other kinds of PNG.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from mmvm_data.builders.common import label_maps
from mmvm_data.builders.common.folders import list_subfolders, relative_path, walk_folders
from mmvm_data.builders.common.frames import (
    find_masks_without_frames,
    list_frames,
    match_annotations,
    require_two_frames,
)
from mmvm_data.builders.common.json_files import read_json_without_frames
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name, safe_join
from mmvm_data.io.media import IMAGE_SUFFIXES
from mmvm_data.io.png import ColorNames, make_regions_reader
from mmvm_data.io.remote import folder_name

RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
"""Folders between JPEGImages and the videos in DAVIS; the first that exists is read."""
FOLDER_PAIRS = tuple(
    (frames, masks)
    for frames in ("JPEGImages", "images", "frames")
    for masks in ("Annotations", "masks", "annotations", "SegmentationClass")
)
"""Names of the two folders that the source ``frames`` looks for."""

NESTED_DEPTH = 3
"""Levels below the root that the source ``frames`` searches for videos with the two folders in them."""

GetCategories = Callable[[str], Mapping[str, str]]
"""Video id -> category of each object."""


def open_davis(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open DAVIS 2017 (many objects, palette PNGs), or a data set with the same layout.

    Raises:
        InputError: the two folders do not exist, or have no resolution in common.
    """
    return _open_folder_pair(name, root, *_find_davis_folders(root))


def open_davis2016(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open DAVIS 2016: gray PNGs of 0 and 255, one object per video with the identity "1"; see ``open_davis``."""
    return _open_folder_pair(name, root, *_find_davis_folders(root), is_single_object=True)


def open_mose(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open MOSE. If ``train`` and ``valid`` exist, ``train`` is read: ``valid`` annotates only first frames.

    Raises:
        InputError: the two folders do not exist.
    """
    images, masks = _find_folder_pair(root, ("train", "", "valid"), (("JPEGImages", "Annotations"),))
    return _open_folder_pair(name, root, images, masks)


def open_frames(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open folders of frames and folders of PNGs, with up to three levels of folders above the files.

    A video's id is its path below the folder of frames; a single video without a folder of its own is named after the
    root. If the root has no such folders, each folder below it that has them is a video, named by its path; where they
    hold a folder per video, as in ``train/JPEGImages/<video>``, the videos are ``train/<video>``.

    Colors identify the objects of RGB PNGs; ``labelmap.txt``, beside the folder of PNGs or in it, names them, and then
    an object's id and category are the name of its color.

    Raises:
        InputError: the two folders do not exist, or contain no images; or the label map is broken.
    """
    rejects: list[Reject] = []
    if path_kind(root) == "folder" and not _has_folder_pair(root):
        videos: dict[str, tuple[Path, Path]] = {}
        for folder in walk_folders(name, root, NESTED_DEPTH, rejects, lambda path: not _has_folder_pair(path.parent)):
            if folder != root and _has_folder_pair(folder):
                videos |= _list_nested_videos(name, root, folder, rejects)
        if videos:
            return _open_nested_videos(name, root, videos, rejects)
    images, masks = _find_folder_pair(root, ("",), FOLDER_PAIRS)
    colors = _find_colors(root, masks)
    if list_names(images, IMAGE_SUFFIXES):
        return _open_nested_videos(name, root, {folder_name(root) or images.name: (images, masks)}, [])
    folder = images
    for _ in range(3):
        children = [child for child in list_names(folder) if is_utf8(child)]
        if not children:
            break
        if list_names(folder / children[0], IMAGE_SUFFIXES) or not list_names(folder / children[0]):
            below = folder.relative_to(images)
            prefix = f"{below.as_posix()}/" if below.parts else ""
            return _open_folder_pair(name, root, folder, masks / below, prefix=prefix, colors=colors)
        folder = folder / children[0]
    raise InputError(images, "contains no folder of images")


def _list_nested_videos(name: str, root: Path, folder: Path, rejects: list[Reject]) -> dict[str, tuple[Path, Path]]:
    """Return the folders of frames and of PNGs of the video in a folder, or, as in ``train``, of the videos in it."""
    images, masks = _find_folder_pair(folder, ("",), FOLDER_PAIRS)
    prefix = relative_path(root, folder)
    children, image_rejects = list_subfolders(name, root, images)
    if list_names(images, IMAGE_SUFFIXES) or not children:
        return {prefix: (images, masks)}
    mask_folders, mask_rejects = list_subfolders(name, root, masks)
    rejects += image_rejects + mask_rejects
    for child in sorted(set(children) ^ set(mask_folders)):
        folder, reason = (images, "frames without masks") if child in children else (masks, "masks without frames")
        rejects.append(Reject(name, f"{prefix}/{child}", -1, reason, relative_path(root, folder / child)))
    return {f"{prefix}/{child}": (images / child, masks / child) for child in children if child in mask_folders}


def _open_nested_videos(name: str, root: Path, videos: dict[str, tuple[Path, Path]], rejects: list[Reject]) -> Source:
    """Return the source of videos that have a folder of frames and one of PNGs each."""

    def load(video: str) -> Video:
        if video not in videos:
            raise InputError(root, f"there is no video {printable_name(video)!r}")
        images, masks = videos[video]
        colors = _find_colors(root, masks)
        return _load_video(name, root, video, images, masks, colors=colors)

    return Source(name, root, sorted(videos), load, tuple(sorted(rejects)))


def _has_folder_pair(folder: Path) -> bool:
    try:
        return any(
            path_kind(folder / images) == path_kind(folder / masks) == "folder" for images, masks in FOLDER_PAIRS
        )
    except InputError:
        return False


def _find_colors(root: Path, masks: Path) -> ColorNames:
    """Return the names of colors in a label map; without one, each color of RGB PNGs is an object."""
    for folder in (masks, masks.parent, root):
        if path_kind(folder / label_maps.NAME) == "file":
            return label_maps.read_label_map(folder / label_maps.NAME)
    return ColorNames()


def open_ytvos(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open YouTube-VOS (2018, 2019): PNGs for every fifth frame, categories from meta.json.

    Frames are in ``train/JPEGImages`` or, if that is missing, in ``train_all_frames/JPEGImages``. The valid and test
    splits are refused: they annotate an object only where it first appears, so that an object that is not in a PNG may
    still be in the frame. They are recognized by their meta.json, which has no categories. An object that meta.json
    does not list has no category.

    Raises:
        InputError: the folders or meta.json do not exist, or meta.json is broken.
    """
    locations = (("train", "train"), ("train_all_frames", "train"), ("", ""))
    for image_split, mask_split in locations:
        images, masks = root / image_split / "JPEGImages", root / mask_split / "Annotations"
        if path_kind(images) == path_kind(masks) == "folder":
            break
    else:
        raise InputError(
            root, "train/JPEGImages and train/Annotations, or JPEGImages and Annotations are expected here"
        )
    meta = masks.parent / "meta.json"
    if path_kind(meta) != "file":
        raise InputError(meta, "file is missing; it holds the objects' categories")
    data = read_json_without_frames(meta)
    videos = data.get("videos") if isinstance(data, dict) else None
    if not isinstance(videos, dict):
        raise InputError(meta, f"an object is expected, found {type(videos).__name__}", field="videos")
    # as text, the entries of many videos take a fifth of the memory
    entries = {video: json.dumps(videos.pop(video)) for video in list(videos)}
    return _open_folder_pair(
        name, root, images, masks, get_categories=lambda video: _parse_categories(meta, entries, video)
    )


def _parse_categories(file: Path, entries: Mapping[str, str], video: str) -> Mapping[str, str]:
    """Return object -> category of a video in meta.json."""
    entry = json.loads(entries[video]) if video in entries else None
    objects = entry.get("objects") if isinstance(entry, dict) else None
    field = f"videos.{video}.objects"
    if not isinstance(objects, dict):
        problem = "the video is not listed" if entry is None else f"found {type(objects).__name__}"
        raise InputError(file, f"an object is expected, {problem}", field=field)
    categories: dict[str, str] = {}
    for key, value in objects.items():
        category = value.get("category") if isinstance(value, dict) else None
        if not key.isdecimal() or not isinstance(category, str) or not category or not is_utf8(category):
            reason = "a number with a category is expected (the valid and test splits have none, and are incomplete)"
            raise InputError(file, f"{reason}, found category {category!r}", field=f"{field}.{key}")
        if str(int(key)) in categories:
            raise InputError(file, f"object {int(key)} is listed twice", field=field)
        categories[str(int(key))] = category
    return categories


def _open_folder_pair(
    name: str,
    root: Path,
    images: Path,
    masks: Path,
    get_categories: GetCategories | None = None,
    is_single_object: bool = False,
    prefix: str = "",
    colors: ColorNames | None = None,
) -> Source:
    """Return the source of two folders that contain one folder per video each.

    Args:
        name, root: of the source.
        images, masks: the two folders.
        get_categories: of the objects of a video; None: they have no category.
        is_single_object: whether every pixel above 0 belongs to one object.
        prefix: is put before a folder's name to form the video's id.
        colors: of RGB PNGs; see ``make_regions_reader``.
    """
    image_folders, rejects = list_subfolders(name, root, images)
    mask_folders, mask_rejects = list_subfolders(name, root, masks)
    rejects += [r for r in mask_rejects if r.video not in {reject.video for reject in rejects}]
    rejected = {r.video for r in rejects}
    videos = sorted((set(image_folders) & set(mask_folders)) - rejected)
    for video in sorted((set(image_folders) ^ set(mask_folders)) - rejected):
        if video in mask_folders:
            rejects.append(Reject(name, video, -1, "masks without frames", relative_path(root, masks / video)))
        else:
            rejects.append(Reject(name, video, -1, "frames without masks", relative_path(root, images / video)))
    ids = [prefix + video for video in videos]
    known_ids = frozenset(ids)

    def load(video: str) -> Video:
        if video not in known_ids:
            raise InputError(images, f"there is no video {printable_name(video)!r}")
        folder = video.removeprefix(prefix)
        categories = get_categories(video) if get_categories else None
        image_folder, mask_folder = safe_join(images, folder, images), safe_join(masks, folder, masks)
        return _load_video(name, root, video, image_folder, mask_folder, categories, is_single_object, colors)

    return Source(name, root, ids, load, tuple(sorted(rejects)))


def _load_video(
    name: str,
    root: Path,
    video: str,
    images: Path,
    masks: Path,
    categories: Mapping[str, str] | None = None,
    is_single_object: bool = False,
    colors: ColorNames | None = None,
) -> Video:
    frames = list_frames(root, images)
    files = match_annotations(masks, frames)
    if not files and list_names(masks, (".png",)):
        raise InputError(masks, "no PNG has the name of a frame")
    return Video.lazy(
        make_regions_reader(files, lambda p: (frames[p].width, frames[p].height), categories, is_single_object, colors),
        problems=find_masks_without_frames(masks, frames),
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(masks, tuple(files)),
    )


def _find_davis_folders(root: Path) -> tuple[Path, Path]:
    images, masks = _find_folder_pair(
        root, ("", "DAVIS"), (("JPEGImages", "Annotations"), ("JPEGImages", "Annotations_unsupervised"))
    )
    common = sorted(set(list_names(images)) & set(list_names(masks)))
    for resolution in RESOLUTIONS:
        if resolution in common:
            return images / resolution, masks / resolution
    if len(common) == 1 and list_names(images / common[0]):
        return images / common[0], masks / common[0]
    if common and list_names(images / common[0]) and not list_names(images / common[0], IMAGE_SUFFIXES):
        reason = f"one of the resolutions {', '.join(RESOLUTIONS)} is expected, found {', '.join(common[:5])}"
        raise InputError(images, reason)
    return images, masks


def _find_folder_pair(root: Path, bases: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> tuple[Path, Path]:
    """Return the first pair of existing folders below the first base that has one."""
    for base in bases:
        for images, masks in pairs:
            if path_kind(root / base / images) == path_kind(root / base / masks) == "folder":
                return root / base / images, root / base / masks
    expected = " or ".join(f"{images} and {masks}" for images, masks in pairs)
    raise InputError(root, f"folders {expected} are expected here" + "".join(f" or in {b}" for b in bases if b))
