"""Videos as two folders, one of frames and one of annotation PNGs of the same names.

    DAVIS 2016, 2017   [DAVIS/]JPEGImages/480p/<video>/00000.jpg  and  Annotations/480p/<video>/00000.png
    MOSE               [train/ or valid/]JPEGImages/<video>       and  Annotations/<video>
    YouTube-VOS        [train/]JPEGImages/<video>, Annotations/<video> (every fifth frame) and meta.json
    frames             images, frames or JPEGImages beside masks or Annotations, with a folder a video or without

A frame is annotated when its PNG exists. Numbers in the PNGs are identities over the video; see ``png`` for void and
for other kinds of PNG.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmvm_data.builders.common.folders import (
    list_frames,
    list_subfolders,
    read_json_without_frames,
    relative_path,
    require_two_frames,
)
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name, safe_join
from mmvm_data.io.media import IMAGE_SUFFIXES
from mmvm_data.io.png import make_regions_reader

RESOLUTIONS = ("480p", "Full-Resolution", "1080p")
"""Folders between JPEGImages and the videos in DAVIS; the first that is there is read."""
PAIRS = tuple(
    (frames, masks)
    for frames in ("JPEGImages", "images", "frames")
    for masks in ("Annotations", "masks", "annotations")
)
"""Names of the two folders that ``frames`` looks for."""

GetCategories = Callable[[str], Mapping[str, str]]


def open_davis(name: str, root: Path, cache: Path | None = None) -> Source:
    """DAVIS 2017 (many objects, palette PNGs), and sets that are laid out like it."""
    return _open_pair(name, root, *_find_davis_folders(root))


def open_davis2016(name: str, root: Path, cache: Path | None = None) -> Source:
    """DAVIS 2016: grey PNGs of 0 and 255, one object a video, which gets the identity "1"."""
    return _open_pair(name, root, *_find_davis_folders(root), single=True)


def open_mose(name: str, root: Path, cache: Path | None = None) -> Source:
    """MOSE. Of ``train`` and ``valid`` under the root, ``train`` is read: ``valid`` marks only first frames."""
    return _open_pair(name, root, *_find_folder_pair(root, ("train", "", "valid"), (("JPEGImages", "Annotations"),)))


def open_frames(name: str, root: Path, cache: Path | None = None) -> Source:
    """Folders of frames and folders of PNGs, however many levels (up to three) lie above the files.

    A video's id is its path below the folder of frames; a lone video is named after that folder.
    """
    frames, masks = _find_folder_pair(root, ("",), PAIRS)
    if list_names(frames, IMAGE_SUFFIXES):
        return Source(
            name, root, (frames.name,), lambda video: _load_video(name, root, _check_id(frames, video), frames, masks)
        )
    level = frames
    for _ in range(3):
        children = [child for child in list_names(level) if is_utf8(child)]
        if not children:
            break
        if list_names(level / children[0], IMAGE_SUFFIXES) or not list_names(level / children[0]):
            below = level.relative_to(frames)
            return _open_pair(name, root, level, masks / below, prefix=f"{below.as_posix()}/" if below.parts else "")
        level = level / children[0]
    raise InputError(frames, "no folder of images lies in it")


def open_ytvos(name: str, root: Path, cache: Path | None = None) -> Source:
    """YouTube-VOS (2018, 2019): PNGs for every fifth frame, categories from meta.json.

    Frames come from ``train/JPEGImages`` or, where that is missing, from ``train_all_frames/JPEGImages``. The valid
    and test parts are refused: they mark an object only where it first appears, so that an object that is not in a
    PNG may still be in the frame. Their meta.json gives no categories, which tells them apart. An object that
    meta.json does not list has no category.
    """
    places = (("train", "train"), ("train_all_frames", "train"), ("", ""))
    for frames_in, masks_in in places:
        frames, masks = root / frames_in / "JPEGImages", root / masks_in / "Annotations"
        if path_kind(frames) == path_kind(masks) == "folder":
            break
    else:
        raise InputError(root, "neither train/JPEGImages and train/Annotations nor JPEGImages and Annotations lie here")
    meta = masks.parent / "meta.json"
    if path_kind(meta) != "file":
        raise InputError(meta, "file is missing; it names the objects' categories")

    data = read_json_without_frames(meta)
    videos = data.get("videos") if isinstance(data, dict) else None
    if not isinstance(videos, dict):
        raise InputError(meta, f"an object is expected, found {type(videos).__name__}", field="videos")
    return _open_pair(name, root, frames, masks, categories=lambda video: _parse_categories(meta, videos, video))


def _parse_categories(file: Path, videos: dict[str, Any], video: str) -> Mapping[str, str]:
    entry = videos.get(video)
    objects = entry.get("objects") if isinstance(entry, dict) else None
    field = f"videos.{video}.objects"
    if not isinstance(objects, dict):
        found = "the video is not listed" if entry is None else f"found {type(objects).__name__}"
        raise InputError(file, f"an object is expected, {found}", field=field)
    categories: dict[str, str] = {}
    for label, info in objects.items():
        category = info.get("category") if isinstance(info, dict) else None
        if not label.isdecimal() or not isinstance(category, str) or not category or not is_utf8(category):
            reason = "a number with a category is expected (the valid and test parts have none, and are not whole)"
            raise InputError(file, f"{reason}, found category {category!r}", field=f"{field}.{label}")
        if str(int(label)) in categories:
            raise InputError(file, f"object {int(label)} is listed twice", field=field)
        categories[str(int(label))] = category
    return categories


def _open_pair(
    name: str,
    root: Path,
    frames: Path,
    masks: Path,
    categories: GetCategories | None = None,
    single: bool = False,
    prefix: str = "",
) -> Source:
    """A folder a video in ``frames`` and in ``masks``; ``prefix`` goes before the folder's name to make the id."""
    with_frames, rejects = list_subfolders(name, root, frames)
    with_masks, more = list_subfolders(name, root, masks)
    rejects += [r for r in more if r.video not in {seen.video for seen in rejects}]
    refused = {r.video for r in rejects}
    videos = sorted((set(with_frames) & set(with_masks)) - refused)
    for video in sorted((set(with_frames) ^ set(with_masks)) - refused):
        if video in with_masks:
            rejects.append(Reject(name, video, -1, "masks without frames", relative_path(root, masks / video)))
        else:
            rejects.append(Reject(name, video, -1, "frames without masks", relative_path(root, frames / video)))

    def load(video: str) -> Video:
        if video not in known:
            raise InputError(frames, f"there is no video {printable_name(video)!r}")
        folder = video.removeprefix(prefix)
        found = categories(video) if categories else None
        return _load_video(
            name, root, video, safe_join(frames, folder, frames), safe_join(masks, folder, masks), found, single
        )

    ids = [prefix + video for video in videos]
    known = frozenset(ids)
    return Source(name, root, ids, load, tuple(sorted(rejects)))


def _load_video(
    name: str,
    root: Path,
    video: str,
    frames_in: Path,
    masks_in: Path,
    categories: Mapping[str, str] | None = None,
    single: bool = False,
) -> Video:
    frames = list_frames(root, frames_in)
    marked = {Path(file).stem: masks_in / file for file in list_names(masks_in, (".png",))}
    stems = [Path(frame.path).stem for frame in frames]
    paths = {position: marked[stem] for position, stem in enumerate(stems) if stem in marked}
    if marked and not paths:
        raise InputError(masks_in, "no PNG has the name of a frame")
    return Video.lazy(
        make_regions_reader(paths, lambda at: (frames[at].width, frames[at].height), categories, single),
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(masks_in, tuple(paths)),
    )


def _find_davis_folders(root: Path) -> tuple[Path, Path]:
    frames, masks = _find_folder_pair(
        root, ("", "DAVIS"), (("JPEGImages", "Annotations"), ("JPEGImages", "Annotations_unsupervised"))
    )
    shared = sorted(set(list_names(frames)) & set(list_names(masks)))
    for resolution in RESOLUTIONS:
        if resolution in shared:
            return frames / resolution, masks / resolution
    if len(shared) == 1 and list_names(frames / shared[0]):
        return frames / shared[0], masks / shared[0]
    if shared and list_names(frames / shared[0]) and not list_names(frames / shared[0], IMAGE_SUFFIXES):
        raise InputError(frames, f"which resolution? none of {', '.join(RESOLUTIONS)} is among {', '.join(shared[:5])}")
    return frames, masks


def _find_folder_pair(root: Path, bases: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> tuple[Path, Path]:
    for base in bases:
        for frames, masks in pairs:
            if path_kind(root / base / frames) == path_kind(root / base / masks) == "folder":
                return root / base / frames, root / base / masks
    expected = " or ".join(f"{frames} and {masks}" for frames, masks in pairs)
    raise InputError(root, f"folders {expected} are expected here" + "".join(f" or in {b}" for b in bases if b))


def _check_id(frames: Path, video: str) -> str:
    if video != frames.name:
        raise InputError(frames, f"there is no video {printable_name(video)!r}")
    return video
