"""CVAT for video: XML files of tracks with keyframes, as CVAT exports tasks, jobs and projects.

``annotations.xml`` beside ``images/frame_000000.png …`` or beside the video file that ``meta`` names (in the same
folder, ``videos`` or ``data``), one pair a folder; or ``<name>.xml`` beside ``<name>.mp4`` or a folder ``<name>``.
Images are those of the frames in their names (``frame_000012.png``); other images, as of a task that was made of
images, are the frames in the order of their names.

A project's file numbers the frames of its tasks on: the tasks of one subset follow each other, in the order of the
file, and each has as many numbers as its last frame needs. Their images are together in ``images/<subset>``, with these
numbers. Tasks whose shapes are numbered from their own start, and images in ``images/<task>`` or ``<task>``, are read
too.

An object is visible from a shape on until one that is outside; frames between shapes are interpolated by CVAT's rule
(``common.cvat_shapes``). A frame in which a mask, which cannot be interpolated, may have been is not annotated. Tracks
of one group and label that consist of polygons, ellipses and masks are parts of one object, and so are tracks whose
shapes have the same attribute ``track_id``. A video with a box anywhere is read as boxes, those around its masks
included; others are read as masks. Polylines, points, cuboids and skeletons are not read.

Source: docs.cvat.ai, "XML annotation format" and "CVAT for video". Files of CVAT for images are refused.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

from mmvm_data.builders.common import cvat_shapes
from mmvm_data.builders.common.cvat_shapes import Geometry
from mmvm_data.builders.common.cvat_xml import CvatFile, Shape, Task, Track, read_cvat
from mmvm_data.builders.common.folders import add_unique, reject_from_error, relative_path, walk_folders
from mmvm_data.builders.common.frames import list_frames, list_video_frames, require_two_frames, trailing_number
from mmvm_data.builders.common.text_files import parse_natural
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Rle, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name, safe_join
from mmvm_data.io.media import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from mmvm_data.io.remote import folder_name

DEPTH = 3
"""Levels below the root that are searched for files."""
FILE_NAME = "annotations.xml"
_IMAGE_FOLDERS = ("images", "frames", "JPEGImages")
_VIDEO_FOLDERS = ("", "videos", "data", "../data", "../videos")
_DEFAULT_SUBSET = "default"
_NAME_OF_FRAME = re.compile(r"frame_(\d{6,9})", re.ASCII)
_STEP = re.compile(r"step=(\d{1,6})", re.ASCII)
_CACHE_SIZE = 8


@dataclass(frozen=True)
class _TaskRef:
    """A video before its tracks are read: its file, the task's position in it, and the number of tasks."""

    file: Path
    position: int
    count: int


def open_cvat(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the files below a folder, or one file.

    A video's id is the path of its file without the suffix, or of the file's folder if it is ``annotations.xml``, and
    for a file of a project also the task's name. A single ``annotations.xml`` is named after the root.

    Raises:
        InputError: the root cannot be read, or holds no such file.
    """
    rejects: list[Reject] = []
    refs: dict[str, _TaskRef] = {}
    paths: dict[str, Path] = {}
    if path_kind(root) == "file":
        file = root.absolute()
        root, files = file.parent, iter([file])
    else:
        files = _find_files(name, root, rejects)
    is_found = False
    for file in files:
        video = _name_video(root, file)
        try:
            content = read_cvat(file, is_meta_enough=True)
        except InputError as error:
            rejects.append(reject_from_error(name, root, video, error))
            continue
        if content is None:
            continue
        is_found = True
        ids = _name_tasks(video, content.tasks)
        for position, task_id in enumerate(ids):
            add_unique(name, root, task_id, file, paths, rejects, "videos")
            if paths.get(task_id) == file:
                refs.setdefault(task_id, _TaskRef(file, position, len(ids)))
    if not is_found and not rejects:
        raise InputError(root, f"no {FILE_NAME} of CVAT for video exists here")
    read_file = lru_cache(1)(read_cvat)  # the tasks of a project follow each other

    def load(video: str) -> Video:
        if video not in refs:
            raise InputError(root, f"there is no usable video {printable_name(video)!r}")
        content = read_file(refs[video].file)
        if content is None or len(content.tasks) not in (refs[video].count, 0):
            raise InputError(refs[video].file, "the file was changed after it was opened")
        return _load_video(name, root, video, refs[video], content, cache)

    return Source(name, root, sorted(refs), load, tuple(sorted(rejects)))


def _find_files(name: str, root: Path, rejects: list[Reject]) -> Iterator[Path]:
    def may_hold_files(folder: Path) -> bool:
        return folder.name not in _IMAGE_FOLDERS

    for folder in walk_folders(name, root, DEPTH, rejects, may_hold_files):
        for file in list_names(folder, (".xml",)):
            if is_utf8(file):
                yield folder / file


def _name_video(root: Path, file: Path) -> str:
    if file.name != FILE_NAME:
        return relative_path(root, file.with_suffix(""))
    return relative_path(root, file.parent) or folder_name(root) or file.stem


def _name_tasks(video: str, tasks: Sequence[Task]) -> list[str]:
    """Return the ids of a file's tasks; one that says nothing of tasks is one video."""
    if len(tasks) < 2:
        return [video]
    names = [task.fields.get("name") or task.fields.get("id") or "task" for task in tasks]
    return [
        f"{video}/{name}" if names.count(name) == 1 else f"{video}/{name} {task.fields.get('id') or position}"
        for position, (name, task) in enumerate(zip(names, tasks, strict=True))
    ]


def _load_video(name: str, root: Path, video: str, ref: _TaskRef, content: CvatFile, cache: Path | None) -> Video:
    file = ref.file
    if content.has_images and not content.tracks:
        raise InputError(file, "the file is one of CVAT for images, without tracks: export it as CVAT for video")
    task = content.tasks[ref.position] if content.tasks else Task("task")
    tracks = content.tracks
    if ref.count > 1:
        tracks = [track for track in tracks if track.task == task.fields.get("id", "")]
    others = sorted(set().union(*(track.other_kinds for track in tracks)))
    offset = _find_offset(file, content.tasks, ref.position, tracks)
    tracks = [_check_track(file, track, offset) for track in tracks if track.shapes]
    if not tracks:
        found = f" (found {', '.join(others)})" if others else ""
        raise InputError(file, f"no track of boxes, polygons, masks or ellipses{found}")
    frames = _list_frames(root, ref, task, tracks, offset, cache)
    size = task.size(file)
    if size is not None and size != (frames[0].width, frames[0].height):
        reason = f"frames are of {size[0]} x {size[1]}, but the first has {frames[0].width} x {frames[0].height}"
        raise InputError(file, f"{reason}: shapes would not fit", field="meta, original_size")
    prompt: Literal["mask", "box"] = "box" if any(s.kind == "box" for t in tracks for s in t.shapes) else "mask"
    annotated = _find_annotated(file, task, tracks, [frame.index for frame in frames])
    return Video.lazy(
        lru_cache(_CACHE_SIZE)(partial(_read_regions, file, tuple(map(_Object, tracks)), frames, prompt)),
        id=video,
        source=name,
        root=root,
        frames=frames,
        annotated=require_two_frames(file, annotated),
        prompt=prompt,
    )


def _find_offset(file: Path, tasks: Sequence[Task], position: int, tracks: Sequence[Track]) -> int:
    """Return by how much the frames of a task are numbered on behind those of the tasks before it."""
    if len(tasks) < 2:
        return 0
    offset, subset = 0, tasks[position].fields.get("subset", "")
    for task in tasks[:position]:
        if task.fields.get("subset", "") == subset:
            start, step = _start_and_step(file, task)
            offset += start + step * (task.number(file, "size") or 0)
    first = min((shape.frame for track in tracks for shape in track.shapes), default=0)
    return offset if first >= offset else 0


def _check_track(file: Path, track: Track, offset: int) -> Track:
    """Return a track with its shapes in time order, numbered from the task's own start; one that is listed twice counts
    once."""
    shapes = sorted(dict.fromkeys(track.shapes), key=lambda shape: shape.frame)
    for a, b in pairwise(shapes):
        if a.frame == b.frame:
            raise InputError(file, f"frame {a.frame} has two shapes", field=f"track {track.id}")
    return replace(track, shapes=[shape._replace(frame=shape.frame - offset) for shape in shapes])


def _list_frames(
    root: Path, ref: _TaskRef, task: Task, tracks: Sequence[Track], offset: int, cache: Path | None
) -> tuple[Frame, ...]:
    """Return the frames of a task with the numbers that its shapes use."""
    folder, is_shared = _find_images(ref, task)
    if folder is None:
        path = _find_video_file(root, ref, task)
        if path is None:
            source = task.fields.get("source")
            reason = f"no frames: a folder images or the video file{f' {source[:100]}' if source else ''} is expected"
            raise InputError(ref.file, f"{reason} beside the file")
        return list_video_frames(root, path, cache)
    frames = list_frames(root, folder)
    matches = [_NAME_OF_FRAME.fullmatch(Path(frame.path).stem) for frame in frames]
    start, step, size = *_start_and_step(ref.file, task), task.number(ref.file, "size")
    if all(matches) and is_shared:
        stop = offset + start + step * (size or 0)
        frames = tuple(frame for frame in frames if offset + start <= frame.index < stop)
        if not frames:
            raise InputError(folder, f"holds no image of the frames {offset + start} to {stop - 1}")
        return tuple(frame.model_copy(update={"index": frame.index - offset}) for frame in frames)
    if all(matches):
        return frames  # their numbers are those in their names
    if size is not None and len(frames) == size:
        by_name = sorted(frames, key=lambda frame: frame.path)
        return tuple(frame.model_copy(update={"index": start + step * k}) for k, frame in enumerate(by_name))
    is_numbered = all(trailing_number(Path(frame.path).stem) is not None for frame in frames)
    numbers = {frame.index for frame in frames if is_numbered}
    if not all(shape.frame in numbers for track in tracks for shape in track.shapes if not shape.is_outside):
        count = "an unknown number of" if size is None else str(size)
        reason = f"{len(frames)} images for {count} frames, and their names do not end in the numbers of the frames"
        raise InputError(folder, reason)
    return frames


def _find_images(ref: _TaskRef, task: Task) -> tuple[Path | None, bool]:
    """Return the folder of a task's images, None when there is none, and whether other tasks have images there too."""
    base, file, is_single = ref.file.parent, ref.file, ref.count == 1
    subset, name = task.fields.get("subset") or _DEFAULT_SUBSET, task.fields.get("name", "")
    if is_single:
        paths = [*_IMAGE_FOLDERS, f"images/{subset}"]
        named = [file.stem, *(f"{images}/{file.stem}" for images in _IMAGE_FOLDERS)]
        paths = [*paths, ""] if file.name == FILE_NAME else named + paths
    else:
        paths = [*(f"{images}/{name}" for images in _IMAGE_FOLDERS), name] if name else []
        paths.append(f"images/{subset}")
    for path in paths:
        try:
            folder = safe_join(base, path, file) if path else base
            if path_kind(folder) == "folder" and list_names(folder, IMAGE_SUFFIXES):
                return folder, not is_single and path == paths[-1]
        except InputError:
            continue
    return None, False


def _find_video_file(root: Path, ref: _TaskRef, task: Task) -> Path | None:
    names = [task.fields.get("source", "")]
    stems = [task.fields.get("name", "")] if ref.count > 1 else [ref.file.stem]
    names += [f"{stem}{suffix}" for stem in stems for suffix in VIDEO_SUFFIXES if stem]
    for place in _VIDEO_FOLDERS:
        folder = ref.file.parent.parent / place[3:] if place.startswith("..") else ref.file.parent / place
        if place.startswith("..") and ref.file.parent == root:
            continue  # outside the root
        for name in names:
            try:
                if name.lower().endswith(VIDEO_SUFFIXES) and path_kind(safe_join(folder, name, ref.file)) == "file":
                    return safe_join(folder, name, ref.file)
            except InputError:
                continue
    return None


def _start_and_step(file: Path, task: Task) -> tuple[int, int]:
    match = _STEP.search(task.fields.get("frame_filter", ""))
    return task.number(file, "start_frame") or 0, max(1, parse_natural(match[1]) or 1) if match else 1


def _find_annotated(file: Path, task: Task, tracks: Sequence[Track], numbers: Sequence[int]) -> tuple[int, ...]:
    """Return the positions of the frames of a task in which all of its objects are known."""
    start, step = _start_and_step(file, task)
    size, stop = task.number(file, "size"), task.number(file, "stop_frame")
    first, last = min(t.shapes[0].frame for t in tracks), max(t.shapes[-1].frame for t in tracks)
    if stop is None:
        stop = start + step * (size - 1) if size else max(last, numbers[-1])
    if not start <= first <= last <= stop:
        start, stop = first, last  # what the file says of its frames is not about its shapes
    gaps = [(a.frame, b) for track in tracks for a, b in _unknown_spans(track)]
    known = []
    for position, number in enumerate(numbers):
        if start <= number <= stop and (number - start) % step == 0:
            known.append((position, number))
    for a, b in gaps:
        known = [item for item in known if not a < item[1] < b]
    return tuple(position for position, _ in known)


def _unknown_spans(track: Track) -> Iterator[tuple[Shape, int]]:
    """Yield the shapes after which an object cannot be interpolated, with the number of the frame where it is known
    again."""
    for a, b in pairwise(track.shapes):
        if not a.is_outside and not (a.kind == b.kind and a.kind in cvat_shapes.MOVING):
            yield a, b.frame
    last = track.shapes[-1]
    if not last.is_outside and last.kind not in cvat_shapes.MOVING:
        yield last, 1 << 62


class _Object:
    """A track, with the name of the object that it is a part of."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self.frames = [shape.frame for shape in track.shapes]
        is_part = track.group > 0 and all(shape.kind != "box" for shape in track.shapes)
        self.id = track.name or (f"group {track.group} {track.label}".strip() if is_part else track.id)
        self.is_part = is_part or bool(track.name)

    def shape_at(self, file: Path, number: int) -> tuple[Shape, Geometry | None] | None:
        """Return the shape in a frame, with its coordinates unless it is a mask; None when nothing is visible."""
        k = bisect_right(self.frames, number) - 1
        if k < 0 or self.track.shapes[k].is_outside:
            return None
        shape = self.track.shapes[k]
        if shape.kind not in cvat_shapes.MOVING:
            return (shape, None) if shape.frame == number else None
        geometry = cvat_shapes.parse_geometry(file, self.where(shape), shape)
        if shape.frame == number or k + 1 == len(self.frames):
            return shape, geometry
        after = self.track.shapes[k + 1]
        if after.kind != shape.kind:
            return None
        right = cvat_shapes.parse_geometry(file, self.where(after), after)
        share = (number - shape.frame) / (after.frame - shape.frame)
        return shape, cvat_shapes.interpolate(shape.kind, geometry, right, share)

    def where(self, shape: Shape) -> str:
        return f"track {self.track.id}, frame {shape.frame}"


def _read_regions(
    file: Path, objects: Sequence[_Object], frames: Sequence[Frame], prompt: Literal["mask", "box"], position: int
) -> tuple[Region, ...]:
    frame = frames[position]
    size = (frame.height, frame.width)
    regions: dict[str, Region] = {}
    for item in objects:
        found = item.shape_at(file, frame.index)
        if found is None:
            continue
        shape, geometry = found
        field = item.where(shape)
        rle = None
        if geometry is None:
            rle = cvat_shapes.parse_mask(file, field, shape, size)
        elif prompt == "mask":
            rle = cvat_shapes.to_mask(file, field, shape.kind, geometry, size)
        if rle is not None and not masks.has_pixels(rle):
            continue
        region = _make_region(item, shape, geometry, rle, prompt)
        if region is None:
            continue
        other = regions.get(region.id)
        if other is None:
            regions[region.id] = region
        elif item.is_part and region.mask is not None and other.mask is not None and other.category == region.category:
            bitmap = masks.decode(other.mask) | masks.decode(region.mask)
            regions[region.id] = other.model_copy(update={"mask": masks.encode(bitmap)})
        else:
            raise InputError(file, f"object {region.id[:100]} occurs twice in frame {frame.index}", field=field)
    return tuple(regions.values())


def _make_region(
    item: _Object, shape: Shape, geometry: Geometry | None, rle: Rle | None, prompt: Literal["mask", "box"]
) -> Region | None:
    category = item.track.label or None
    extra = {"occluded": True} if shape.is_occluded else {}
    if prompt == "mask":
        return Region(id=item.id, mask=rle, category=category, extra=extra)
    if rle is not None:
        x, y, width, height = masks.bbox(rle)
        return Region(id=item.id, box=(x, y, width, height), category=category, extra=extra)
    assert geometry is not None  # only masks have no coordinates
    box = cvat_shapes.to_box(shape.kind, geometry)
    return Region(id=item.id, box=box, category=category, extra=extra) if box else None
