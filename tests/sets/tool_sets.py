"""The world of ``world`` as exports of annotation tools, to their specifications."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from tests.sets.world import (
    CATEGORIES,
    FRAMES,
    OBJECTS,
    VIDEOS,
    H,
    SetWriter,
    W,
    WrittenSet,
    draw_bitmap,
    encode_rle,
    list_frames,
    tight_box,
)


def cvat_meta(size: int = FRAMES, task: str = "1", name: str = "clip", kind: str = "task", more: str = "") -> str:
    """Return the description of one task in a file of CVAT for video."""
    return (
        f"<{kind}><id>{task}</id><name>{name}</name><size>{size}</size><mode>interpolation</mode>"
        f"<start_frame>0</start_frame><stop_frame>{size - 1}</stop_frame>{more}<labels><label><name>car</name></label>"
        f"</labels><original_size><width>{W}</width><height>{H}</height></original_size></{kind}>"
    )


def cvat_file(tracks: Iterable[str], meta: str = "") -> str:
    """Return the content of a file of CVAT for video."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>"]
    return "\n".join([*lines, f"<meta>{meta or cvat_meta()}</meta>", *tracks, "</annotations>", ""])


def cvat_track(number: int | str, label: str, shapes: Sequence[str], more: str = "") -> str:
    """Return one track of a file."""
    return "\n".join([f'<track id="{number}" label="{label}" source="manual"{more}>', *shapes, "</track>"])


def cvat_shape(kind: str, frame: int, outside: bool = False, keyframe: bool = True, **values: Any) -> str:
    """Return one shape of a track."""
    texts = "".join(f' {key}="{value}"' for key, value in values.items())
    head = f'frame="{frame}" keyframe="{keyframe:d}" outside="{outside:d}" occluded="0"'
    return f'<{kind} {head}{texts} z_order="0"></{kind}>'


def cvat_mask(frame: int, bitmap: np.ndarray, **more: Any) -> str:
    """Return a mask: runs of its box row by row, zeros first."""
    rows, columns = np.nonzero(bitmap)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    flat = bitmap[top:bottom, left:right].ravel().tolist()
    runs = [(value, len(list(items))) for value, items in groupby(flat)]
    counts = [0] * (runs[0][0] == 1) + [length for _, length in runs]
    values = {
        "rle": ", ".join(map(str, counts)),
        "left": left,
        "top": top,
        "width": right - left,
        "height": bottom - top,
    }
    return cvat_shape("mask", frame, **values, **more)


def _box_track(v: int, k: int, more: str = "") -> str:
    """An object that moves by one pixel each frame: keyframes where it appears and leaves say everything."""
    boxes = {f: box for f in range(FRAMES) if (box := tight_box(v, f, k))}
    shapes = []
    for f in (0, max(boxes)):
        x, y, width, height = boxes[f]
        shapes.append(cvat_shape("box", f, xtl=f"{x:.2f}", ytl=f"{y:.2f}", xbr=x + width, ybr=y + height))
    if max(boxes) + 1 < FRAMES:
        shapes.append(
            shapes[-1]
            .replace(f'frame="{max(boxes)}"', f'frame="{max(boxes) + 1}"')
            .replace('outside="0"', 'outside="1"')
        )
    return cvat_track(k, CATEGORIES[k], shapes, more)


def cvat_boxes(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v, f in list_frames(videos):
        written.frame(f"clip{v}/images/frame_{f:06d}.png", v, f)
        for k in range(OBJECTS):
            written.expect_region(f"clip{v}", f, str(k), tight_box(v, f, k), CATEGORIES[k])
    for v in range(videos):
        written.text(f"clip{v}/annotations.xml", cvat_file(_box_track(v, k) for k in range(OBJECTS)))
    return written


def cvat_masks(root: Path, videos: int = VIDEOS) -> WrittenSet:
    written = WrittenSet(root)
    for v, f in list_frames(videos):
        written.frame(f"clip{v}/{f:05d}.jpg", v, f)
        for k in range(OBJECTS):
            written.expect_region(f"clip{v}", f, str(k), draw_bitmap(v, f, k), CATEGORIES[k])
    for v in range(videos):
        tracks = []
        for k in range(OBJECTS):
            bitmaps = [draw_bitmap(v, f, k) for f in range(FRAMES)]
            shapes = [cvat_mask(f, bitmap) for f, bitmap in enumerate(bitmaps) if bitmap.any()]
            if len(shapes) < FRAMES:
                shapes.append(cvat_mask(len(shapes), bitmaps[0], outside=True))
            tracks.append(cvat_track(k, CATEGORIES[k], shapes))
        written.text(f"clip{v}.xml", cvat_file(tracks))
    return written


def cvat_project(root: Path, videos: int = VIDEOS) -> WrittenSet:
    """Tasks of one subset, whose frames are numbered on, with their images in one folder."""
    written = WrittenSet(root)
    for v, f in list_frames(videos):
        written.frame(f"images/default/frame_{FRAMES * v + f:06d}.jpg", v, f)
        for k in range(OBJECTS):
            written.expect_region(f"{root.name}/clip{v}", f, str(3 * v + k), tight_box(v, f, k), CATEGORIES[k])
    tasks = "".join(cvat_meta(task=str(10 + v), name=f"clip{v}") for v in range(videos))
    tracks = []
    for v in range(videos):
        for k in range(OBJECTS):
            track = _box_track(v, k, f' task_id="{10 + v}" subset="default"')
            track = track.replace(f'track id="{k}"', f'track id="{3 * v + k}"')
            tracks.append(re.sub(r' frame="(\d+)"', lambda m: f' frame="{int(m[1]) + FRAMES * v}"', track))  # noqa: B023
    written.text("annotations.xml", cvat_file(tracks, f"<project><id>1</id><tasks>{tasks}</tasks></project>"))
    return written


def datumaro(prompt: str) -> SetWriter:
    """Return a writer of tracks, ``mask`` or ``box``, or of ``stills``."""

    def write(root: Path, videos: int = VIDEOS) -> WrittenSet:
        written = WrittenSet(root)
        names = sorted(set(CATEGORIES))
        items = []
        for v, f in list_frames(videos):
            path = f"clip{v}/frame_{f:06d}.jpg"
            written.frame(f"images/{'default/' if v else ''}{path}", v, f)
            annotations = []
            for k in range(OBJECTS):
                bitmap, box = draw_bitmap(v, f, k), tight_box(v, f, k)
                attributes = {} if prompt == "stills" else {"track_id": k, "keyframe": True, "occluded": False}
                label = {"id": 0, "group": 0, "label_id": names.index(CATEGORIES[k]), "attributes": attributes}
                if prompt == "box" and box:
                    annotations.append(label | {"type": "bbox", "bbox": box})
                elif prompt != "box" and bitmap.any():
                    annotations.append(label | {"type": "mask", "rle": encode_rle(bitmap)})
                if prompt != "stills":
                    shape = box if prompt == "box" else bitmap
                    written.expect_region(f"clip{v}", f, str(k), shape, CATEGORIES[k])
            image = {"path": path} | ({"size": [H, W]} if v else {})
            items.append({"id": path[:-4], "annotations": annotations, "attr": {"frame": f}, "image": image})
        labels = {"labels": [{"name": name, "parent": "", "attributes": []} for name in names], "attributes": []}
        written.json("annotations/default.json", {"info": {}, "categories": {"label": labels}, "items": items})
        return written

    return write
