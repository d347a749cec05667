"""Datumaro's own format: ``annotations/<subset>.json``, with ``images/`` or ``videos/``; CVAT exports it too.

``categories.label.labels[] {name}`` and ``items[] {id, attr {frame}, image {path, size} or video_frame {video_path,
frame_index}, annotations[] {type, label_id, attributes, bbox or points or rle}}``. Images are in ``images/<subset>/``
or ``images/``, video files in ``videos/<subset>/`` or ``videos/``.

Annotations with an attribute ``track_id``, or an ``object_id``, are of objects that have an identity: items whose ids
have one folder are the frames of a video, in the order of ``attr.frame``, else of the numbers that their names end in.
``bbox`` is a box, ``polygon`` and ``mask`` are masks, and several of one object in a frame are its parts, as are those
of several tracks that share group and label in a frame; other types are not read. A video with a box anywhere is read
as boxes. In a file without such annotations, items are still images with masks; views of one image stand for the frames
of a video (``common.image_views``).

Source: docs/data-formats/formats/datumaro.md of open-edge-platform/datumaro.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mmvm_data.builders.common.annotation_index import parse_id
from mmvm_data.builders.common.folders import reject_from_error, relative_path
from mmvm_data.builders.common.frames import list_video_frames, number_paths, require_two_frames
from mmvm_data.builders.common.image_views import check_not_boxes_only, make_view_video
from mmvm_data.builders.common.json_content import find_json_files
from mmvm_data.builders.common.json_fields import parse_box, parse_side
from mmvm_data.builders.common.json_files import read_json
from mmvm_data.builders.common.segmentations import compact_segmentation, parse_segmentation
from mmvm_data.builders.source import ImageObject, Source, StillImage
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Rle, Video
from mmvm_data.io.files import is_utf8, path_kind, printable_name, safe_join
from mmvm_data.io.media import read_image_size
from mmvm_data.io.remote import folder_name

_SHAPES = ("bbox", "polygon", "mask")
_CACHE_SIZE = 8


@dataclass(frozen=True)
class _Subset:
    """One annotation file: labels by position, and the positions of items by video."""

    file: Path
    root: Path
    labels: tuple[str | None, ...]
    items: list[dict[str, Any]]


def open_datumaro(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open every annotation file of a folder, or one file.

    A video's id is the folder in its items' ids, or the name of the root; before it stands the subset's name if there
    are several. A still image has its item's id.

    Raises:
        InputError: the root holds no annotation file of this form.
    """
    if path_kind(root) == "file":
        files = [root.absolute()]
        root = files[0].parent.parent if files[0].parent.name == "annotations" else files[0].parent
    else:
        files = sorted(find_json_files(root, "datumaro"))
    if not files:
        raise InputError(root, "no annotation file such as annotations/default.json exists here")
    rejects: list[Reject] = []
    videos: dict[str, tuple[_Subset, list[int]]] = {}
    images: dict[str, tuple[_Subset, int]] = {}
    for file in files:
        prefix = f"{file.stem}/" if len(files) > 1 else ""
        try:
            subset = _read_subset(root, file)
        except InputError as error:
            if len(files) == 1:
                raise
            rejects.append(reject_from_error(name, root, file.stem, error))
            continue
        is_tracked = any(_track_of(entry) for item in subset.items for entry in _annotations(item))
        for k, item in enumerate(subset.items):
            if is_tracked:
                folder = PurePosixPath(item["id"]).parent.as_posix()
                video = prefix + (folder if folder != "." else folder_name(root) or file.stem)
                videos.setdefault(video, (subset, []))[1].append(k)
            elif prefix + item["id"] in images:
                reason, field = "two items have this id", f"items[{k}].id"
                rejects.append(Reject(name, prefix + item["id"], -1, reason, relative_path(root, file), field))
            else:
                images[prefix + item["id"]] = subset, k

    def load_image(image: str) -> StillImage:
        if image not in images:
            raise InputError(root, f"there is no usable image {printable_name(image)!r}")
        subset, k = images[image]
        frame = _list_image_frames(subset, [k])[0]
        return StillImage(frame, lambda: _read_objects(subset, k, (frame.height, frame.width)))

    def load(video: str) -> Video:
        if video in images:
            return make_view_video(name, root, video, load_image(video))
        if video not in videos:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        return _load_video(name, video, *videos[video], cache)

    ids = sorted({*videos, *images})
    return Source(name, root, ids, load, tuple(sorted(rejects)), load_image if images and not videos else None)


def _read_subset(root: Path, file: Path) -> _Subset:
    data = read_json(file)
    items = data.get("items") if isinstance(data, dict) else None
    if not isinstance(items, list):
        raise InputError(file, f"a list is expected, found {type(items).__name__}", field="items")
    for k, item in enumerate(items):
        key = item.get("id") if isinstance(item, dict) else None
        if not isinstance(key, str) or not key or not is_utf8(key):
            raise InputError(file, f"an object with an id is expected, found {str(item)[:40]!r}", field=f"items[{k}]")
    value: Any = data
    for part in ("categories", "label", "labels"):
        value = value.get(part) if isinstance(value, dict) else None
    if value is not None and not isinstance(value, list):
        reason = f"a list is expected, found {type(value).__name__}"
        raise InputError(file, reason, field="categories.label.labels")
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in value or ()]
    labels = tuple(name if isinstance(name, str) and name and is_utf8(name) else None for name in names)
    return _Subset(file, root, labels, items)


def _annotations(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the annotations of an item that are shapes."""
    entries = item.get("annotations")
    shapes = entries if isinstance(entries, list) else []
    return [entry for entry in shapes if isinstance(entry, dict) and entry.get("type") in _SHAPES]


def _track_of(entry: dict[str, Any]) -> str | None:
    attributes = entry.get("attributes")
    track = parse_id(attributes.get("track_id")) if isinstance(attributes, dict) else None
    number = entry.get("object_id")
    return track or (parse_id(number) if isinstance(number, int) and number >= 0 else None)


def _has_attribute(entry: dict[str, Any], name: str) -> bool:
    attributes = entry.get("attributes")
    return isinstance(attributes, dict) and attributes.get(name) is True


def _load_video(name: str, video: str, subset: _Subset, positions: list[int], cache: Path | None) -> Video:
    file = subset.file
    entries = [subset.items[k] for k in positions]
    if all(isinstance(item.get("video_frame"), dict) for item in entries):
        frames, item_of = _list_video_file(subset, positions, cache)
    else:
        frames, item_of = _list_images(subset, positions)
    shapes = [entry for item in entries for entry in _annotations(item) if _track_of(entry)]
    prompt: Literal["mask", "box"] = "box" if any(entry["type"] == "bbox" for entry in shapes) else "mask"
    objects = _join_groups(entries) if prompt == "mask" else {}

    @lru_cache(_CACHE_SIZE)
    def read(position: int) -> tuple[Region, ...]:
        frame = frames[position]
        return _read_regions(subset, item_of[position], (frame.height, frame.width), prompt, objects)

    return Video.lazy(
        read,
        id=video,
        source=name,
        root=subset.root,
        frames=frames,
        annotated=require_two_frames(file, tuple(sorted(item_of))),
        prompt=prompt,
    )


def _join_groups(items: list[dict[str, Any]]) -> dict[str, str]:
    """Return track -> the first of the tracks that it is one object with, for tracks that share a group in a frame."""
    first: dict[str, str] = {}

    def find(track: str) -> str:
        while first.get(track, track) != track:
            track = first[track]
        return track

    for item in items:
        groups: dict[tuple[int, str], str] = {}
        for entry in _annotations(item):
            track, group = _track_of(entry), entry.get("group")
            if track is None or not isinstance(group, int) or group <= 0:
                continue
            other = groups.setdefault((group, repr(entry.get("label_id"))), track)
            a, b = sorted((find(track), find(other)), key=lambda name: (len(name), name))
            first[b] = a
    return {track: find(track) for track in first}


def _list_video_file(
    subset: _Subset, positions: list[int], cache: Path | None
) -> tuple[tuple[Frame, ...], dict[int, int]]:
    """Return the frames of a video file, and the item of each annotated one."""
    references = [subset.items[k]["video_frame"] for k in positions]
    names = {str(reference.get("video_path")) for reference in references}
    if len(names) > 1:
        raise InputError(subset.file, f"items of one video name {len(names)} files", field="video_frame.video_path")
    path = _find_file(subset, "videos", names.pop(), f"items[{positions[0]}].video_frame.video_path")
    frames = list_video_frames(subset.root, path, cache)
    item_of: dict[int, int] = {}
    for k, reference in zip(positions, references, strict=True):
        index = reference.get("frame_index")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(frames) or index in item_of:
            reason = f"another frame from 0 to {len(frames) - 1} is expected, found {index!r:.40}"
            raise InputError(subset.file, reason, field=f"items[{k}].video_frame.frame_index")
        item_of[index] = k
    return frames, item_of


def _list_images(subset: _Subset, positions: list[int]) -> tuple[tuple[Frame, ...], dict[int, int]]:
    """Return the images of items in time order, and the item of each."""
    attributes = [subset.items[k].get("attr") for k in positions]
    numbers = [value.get("frame") if isinstance(value, dict) else None for value in attributes]
    frames = _list_image_frames(subset, positions)
    is_numbered = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 53 for n in numbers)
    if not is_numbered or len(set(numbers)) != len(numbers):
        order = sorted(range(len(frames)), key=lambda k: frames[k].path)
        by_path = number_paths([frames[k].path for k in order])
        numbers = [number for _, number in sorted(zip(order, by_path, strict=True))]
    rows = sorted((number, k) for k, number in enumerate(numbers) if isinstance(number, int))
    ordered = tuple(frames[k].model_copy(update={"index": number}) for number, k in rows)
    return ordered, {position: positions[k] for position, (_, k) in enumerate(rows)}


def _list_image_frames(subset: _Subset, positions: list[int]) -> tuple[Frame, ...]:
    frames = []
    for k in positions:
        image, field = subset.items[k].get("image"), f"items[{k}].image"
        name = image.get("path") if isinstance(image, dict) else None
        if not isinstance(image, dict) or not isinstance(name, str) or not name:
            raise InputError(subset.file, "an image with a path is expected", field=field)
        path = _find_file(subset, "images", name, f"{field}.path")
        size = image.get("size")
        if isinstance(size, list) and len(size) == 2:
            sides = {"height": size[0], "width": size[1]}
            height, width = (parse_side(subset.file, f"{field}.size", sides, key) for key in sides)
        else:
            width, height = read_image_size(path)
        frames.append(Frame(path=relative_path(subset.root, path), index=0, width=width, height=height))
    return tuple(frames)


def _find_file(subset: _Subset, folder: str, name: str, field: str) -> Path:
    """Return the file of an item, in the subset's folder or the one above."""
    for place in (f"{folder}/{subset.file.stem}", folder, "."):
        path = safe_join(subset.root / place, name, subset.file, field)
        if path_kind(path) == "file":
            return path
    raise InputError(
        subset.file, f"there is no file {name[:200]!r} in {folder}/{subset.file.stem} or {folder}", field=field
    )


def _label_of(subset: _Subset, field: str, entry: dict[str, Any]) -> str | None:
    number = entry.get("label_id")
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(subset.labels):
        reason = f"a position in the list of {len(subset.labels)} labels is expected, found {number!r:.40}"
        raise InputError(subset.file, reason, field=f"{field}.label_id")
    return subset.labels[number]


def _parse_mask(subset: _Subset, field: str, entry: dict[str, Any], size: tuple[int, int]) -> Rle | None:
    value = entry.get("rle") if entry["type"] == "mask" else [entry.get("points")]
    rle = parse_segmentation(subset.file, field, compact_segmentation(value, size), size)
    return rle if rle is not None and masks.has_pixels(rle) else None


def _read_regions(
    subset: _Subset, k: int, size: tuple[int, int], prompt: Literal["mask", "box"], objects: dict[str, str]
) -> tuple[Region, ...]:
    regions: dict[str, Region] = {}
    for n, entry in enumerate(_annotations(subset.items[k])):
        field, track = f"items[{k}].annotations, shape {n}", _track_of(entry)
        if track is None or _has_attribute(entry, "outside"):
            continue
        track = objects.get(track, track)
        shape: dict[str, Any] = {}
        if entry["type"] == "bbox":
            shape["box"] = parse_box(subset.file, field, entry)
        elif (rle := _parse_mask(subset, field, entry, size)) is None:
            continue
        elif prompt == "box":
            shape["box"] = tuple(float(value) for value in masks.bbox(rle))
        else:
            other = regions.get(track)
            bitmap = masks.decode(rle) | masks.decode(other.mask) if other and other.mask else None
            shape["mask"] = rle if bitmap is None else masks.encode(bitmap)
        if "box" in shape and track in regions:
            raise InputError(subset.file, f"object {track[:100]} occurs twice in one frame", field=field)
        extra = {"occluded": True} if _has_attribute(entry, "occluded") else {}
        regions[track] = Region(id=track, category=_label_of(subset, field, entry), extra=extra, **shape)
    return tuple(regions.values())


def _read_objects(subset: _Subset, k: int, size: tuple[int, int]) -> list[ImageObject]:
    entries: Sequence[dict[str, Any]] = _annotations(subset.items[k])
    objects = []
    for n, entry in enumerate(entries):
        field = f"items[{k}].annotations, shape {n}"
        if entry["type"] != "bbox" and (rle := _parse_mask(subset, field, entry, size)) is not None:
            objects.append(ImageObject(str(n), _label_of(subset, field, entry), rle))
    if not objects:
        boxes = [{"bbox": entry.get("bbox")} for entry in entries]
        check_not_boxes_only(subset.file, f"items[{k}]", boxes)
    return objects
