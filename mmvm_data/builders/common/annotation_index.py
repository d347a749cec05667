"""Where the videos and annotations of a YouTube-VIS-style file lie, so that one video can be read without the rest.

The first reading goes through the whole file once and checks everything that spans entries: identities, unknown videos
and categories, one segmentation for each frame. What it keeps is a few numbers an entry. Kept between runs, it is a
file of one JSON line and the numbers, with a digest over both; one that is damaged, or whose annotation file has
another size or time, is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.builders.common.json_spans import JsonItem, iter_items
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import atomic_write, is_utf8

KEYS = ("videos", "annotations", "categories")
_FORMAT = 2
_DIGEST = 16


@dataclass(frozen=True)
class AnnotationIndex:
    """What the first reading keeps.

    Attributes:
        videos: ids of the usable videos, in the file's order.
        video_spans: int64 [n, 2], first byte and number of bytes of each.
        first: int64 [n + 1]; the annotations of video k are rows first[k] to first[k + 1].
        annotation_spans: int64 [m, 2], those of crowds left out.
        categories: id (as text) -> name.
        rejects: (video id or "", reason, field) of what cannot be used.
    """

    videos: tuple[str, ...]
    video_spans: NDArray[np.int64]
    first: NDArray[np.int64]
    annotation_spans: NDArray[np.int64]
    categories: dict[str, str]
    rejects: tuple[tuple[str, str, str], ...]


def open_index(
    file: Path, cache: Path | None, form: str = "ytvis", build: Callable[[Path], AnnotationIndex] | None = None
) -> AnnotationIndex:
    """The index of ``file``, from ``cache`` if one that fits lies there, else made, and kept there if possible.

    Args:
        file: the annotation file.
        cache: folder, made when missing; None keeps nothing. One that cannot be written to only costs time.
        form: name of the format; a file that is read as another one has another index.
        build: makes the index of this format; None: ``build_ytvis_index``.

    Raises:
        InputError: the file cannot be read as a whole, see ``build_ytvis_index``.
    """
    build = build or build_ytvis_index
    if cache is None:
        return build(file)
    try:
        facts = os.stat(file)
    except OSError as error:
        raise InputError(file, f"cannot be read: {error.strerror}") from error
    stamp = [_FORMAT, form, str(file.absolute()), facts.st_size, facts.st_mtime_ns]
    name = hashlib.blake2b(os.fsencode(file.absolute()), digest_size=8).hexdigest()
    kept = cache / f"{name}.index"
    try:
        found = _unpack_index(kept.read_bytes(), stamp)
    except OSError:
        found = None
    if found is not None:
        return found
    made = build(file)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept, "wb") as handle:
            handle.write(_pack_index(made, stamp))
    except OSError:
        pass  # a read-only or full disk: the next run reads the file again
    return made


def build_ytvis_index(file: Path) -> AnnotationIndex:
    """Read the whole file once.

    Raises:
        InputError: not JSON, cut short, or without lists under ``videos``, ``annotations`` and ``categories``.
    """
    gathered = _IndexBuilder()
    take = {"videos": gathered.video, "annotations": gathered.annotation, "categories": gathered.category}
    seen = set()
    for item in iter_items(file):
        if item.key not in take:
            continue
        if item.place is not None:
            take[item.key](item)
            continue
        seen.add(item.key)
        if not isinstance(item.value, list):
            reason = f"a list is expected, found {type(item.value).__name__}"
            if item.key == "annotations" and item.value is None:
                reason += "; splits for a test server hold no annotations"
            raise InputError(file, reason, field=item.key)
    for key in KEYS:
        if key not in seen:
            raise InputError(file, f"the key {key!r} is missing; a video-level file has {', '.join(KEYS)}")
    return gathered.index()


def parse_id(value: Any) -> str | None:
    """An id of the file as text; None when it is neither a whole number nor a text that can be written to a file."""
    if isinstance(value, str):
        return value if value and is_utf8(value) else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


@dataclass
class _IndexBuilder:
    """What was seen so far. Annotations may come before the videos and categories that they name."""

    videos: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    bad: dict[str, tuple[str, str]] = field(default_factory=dict)
    rejects: list[tuple[str, str, str]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """Texts that annotations use as video or category, numbered."""
    rows: array[int] = field(default_factory=lambda: array("q"))
    """An annotation each: place in the list, video, category, offset, length, number of segmentations."""
    tracks: set[tuple[str, str]] = field(default_factory=set)

    def video(self, item: JsonItem) -> None:
        where = f"videos[{item.place}]"
        value = item.value if isinstance(item.value, dict) else {}
        name = parse_id(value.get("id"))
        if name is None:
            self.rejects.append(("", f"an object with an id is expected, found {_short_repr(item.value)}", where))
        elif name in self.videos:
            self.bad.setdefault(name, ("two videos have this id", f"{where}.id"))
        else:
            files = value.get("file_names")
            self.videos[name] = (item.offset, item.length, len(files) if isinstance(files, list) else -1)

    def category(self, item: JsonItem) -> None:
        where = f"categories[{item.place}]"
        value = item.value if isinstance(item.value, dict) else {}
        key, name = parse_id(value.get("id")), value.get("name")
        if key is None or not isinstance(name, str) or not name or not is_utf8(name):
            self.rejects.append(("", f"an object with id and name is expected, found {_short_repr(item.value)}", where))
        elif self.categories.setdefault(key, name) != name:
            self.rejects.append(("", f"category {key} has two names, {self.categories[key]!r} is used", where))

    def annotation(self, item: JsonItem) -> None:
        where = f"annotations[{item.place}]"
        value = item.value if isinstance(item.value, dict) else {}
        video = parse_id(value.get("video_id"))
        if video is None:
            self.rejects.append(("", f"an object with a video_id is expected, found {_short_repr(item.value)}", where))
            return
        crowd, track, kind = value.get("iscrowd", 0), parse_id(value.get("id")), parse_id(value.get("category_id"))
        parts = value.get("segmentations")
        if crowd not in (0, 1, None):
            self.bad.setdefault(video, (f"0 or 1 is expected, found {_short_repr(crowd)}", f"{where}.iscrowd"))
        elif crowd:
            return
        elif track is None:
            self.bad.setdefault(video, (f"an id is expected, found {_short_repr(value.get('id'))}", f"{where}.id"))
        elif (video, track) in self.tracks:
            self.bad.setdefault(video, (f"track {track} is there twice", f"{where}.id"))
        elif kind is None:
            reason = f"a category is expected, found {_short_repr(value.get('category_id'))}"
            self.bad.setdefault(video, (reason, f"{where}.category_id"))
        elif not isinstance(parts, list):
            reason = f"a list with one entry a frame is expected, found {type(parts).__name__}"
            self.bad.setdefault(video, (reason, f"{where}.segmentations"))
        else:
            self.tracks.add((video, track))
            texts = (self.numbers.setdefault(text, len(self.numbers)) for text in (video, kind))
            self.rows.extend((item.place or 0, *texts, item.offset, item.length, len(parts)))

    def index(self) -> AnnotationIndex:
        rows = np.frombuffer(self.rows, np.int64).reshape(-1, 6)
        texts = list(self.numbers)
        strangers: dict[str, list[int]] = {}
        for place, video, kind, _, _, parts in rows.tolist():
            name, where = texts[video], f"annotations[{place}]"
            frames = self.videos.get(name, (0, 0, -1))[2]
            if name not in self.videos:
                strangers.setdefault(name, []).append(place)
            elif frames not in (-1, parts):
                reason = f"{parts} segmentations for the {frames} frames of the video"
                self.bad.setdefault(name, (reason, f"{where}.segmentations"))
            elif texts[kind] not in self.categories:
                reason = f"category {texts[kind]} is not in the list of categories"
                self.bad.setdefault(name, (reason, f"{where}.category_id"))
        for name in self.bad.keys() - self.videos.keys():
            strangers.setdefault(name, [])
        self.rejects += [(name, *why) for name, why in self.bad.items() if name in self.videos]
        for name, places in sorted(strangers.items()):
            where = f"annotations[{places[0]}]" if places else self.bad[name][1]
            self.rejects.append((name, f"annotations name video {name}, which is not in the list of videos", where))
        usable = {name: k for k, name in enumerate(n for n in self.videos if n not in self.bad)}
        owner = np.array([usable.get(text, -1) for text in texts], np.int64)
        owners = owner[rows[:, 1]] if len(rows) else np.zeros(0, np.int64)
        order = np.argsort(owners, kind="stable")
        order = order[owners[order] >= 0]
        return AnnotationIndex(
            videos=tuple(usable),
            video_spans=np.array([self.videos[name][:2] for name in usable], np.int64).reshape(-1, 2),
            first=np.searchsorted(owners[order], np.arange(len(usable) + 1)).astype(np.int64),
            annotation_spans=rows[order, 3:5].copy(),
            categories=self.categories,
            rejects=tuple(sorted(self.rejects)),
        )


def _pack_index(index: AnnotationIndex, stamp: list[Any]) -> bytes:
    """Digest, then one line of JSON, then video_spans, first and annotation_spans as little-endian int64."""
    head = {
        "stamp": stamp,
        "videos": index.videos,
        "annotations": len(index.annotation_spans),
        "categories": index.categories,
        "rejects": index.rejects,
    }
    tables = (index.video_spans, index.first, index.annotation_spans)
    body = json.dumps(head).encode() + b"\n" + b"".join(table.astype("<i8").tobytes() for table in tables)
    return hashlib.blake2b(body, digest_size=_DIGEST).digest() + body


def _unpack_index(data: bytes, stamp: list[Any]) -> AnnotationIndex | None:
    """The index in ``data``; None when it is damaged or of another annotation file."""
    body = data[_DIGEST:]
    if hashlib.blake2b(body, digest_size=_DIGEST).digest() != data[:_DIGEST]:
        return None
    line, _, rest = body.partition(b"\n")
    head = json.loads(line)
    if head["stamp"] != stamp:
        return None
    numbers = np.frombuffer(rest, "<i8").astype(np.int64)
    n = len(head["videos"])
    return AnnotationIndex(
        videos=tuple(head["videos"]),
        video_spans=numbers[: 2 * n].reshape(n, 2),
        first=numbers[2 * n : 3 * n + 1],
        annotation_spans=numbers[3 * n + 1 :].reshape(head["annotations"], 2),
        categories=head["categories"],
        rejects=tuple((video, reason, where) for video, reason, where in head["rejects"]),
    )


def _short_repr(value: Any) -> str:
    text = repr(value) if not isinstance(value, (dict, list)) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."
