"""Masks for what somebody clicks while drawing: in the picture of the click, and in the pictures after it.

Pictures are read from the folder of clips, never from the addresses of a task.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmvm_data.annotation.labelstudio.history import timestamp
from mmvm_data.annotation.labelstudio.shapes import Result, check_results, results_to_region
from mmvm_data.annotation.tracks.follow import Segmenter, overlap
from mmvm_data.annotation.tracks.interpret import CLICK_TYPE, SHAPE_TYPES, group_shapes
from mmvm_data.annotation.tracks.layout import Shot, iter_shots
from mmvm_data.annotation.tracks.propose import Propagator, make_prompt
from mmvm_data.annotation.tracks.sam2 import Prompt
from mmvm_data.annotation.tracks.task import NAME_KEY, is_same_shot, object_slot, tracks_to_results
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Region, Rle
from mmvm_data.io import media

_CACHED_IMAGES: Final = 48  # of 4 MB each
_SAME_MASK: Final = 0.99  # IoU from which a mask is taken for the one that was suggested


class CachedSegmenter:
    """A segmenter that encodes a picture once, however often somebody clicks on it. It may be used from threads.

    Args:
        segmenter: the model.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._images: OrderedDict[bytes, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.segment, self.features = segmenter.segment, segmenter.features

    def embed(self, bgr: NDArray[np.uint8]) -> Any:
        """Encode an image; see ``Segmenter``."""
        key = bgr.tobytes()
        with self._lock:  # one picture at a time: two would not be faster
            if key not in self._images:
                self._images[key] = self._segmenter.embed(bgr)
            self._images.move_to_end(key)
            while len(self._images) > _CACHED_IMAGES:
                self._images.popitem(last=False)
            return self._images[key]


class Assistant:
    """Answers what people draw with smart tools (``labelstudio.ml_backend.Model``).

    Args:
        directory: what ``cut_clips`` wrote.
        propagator: the model.
        encode: encodes a picture ahead of time, where the model can.

    Raises:
        InputError: no clip was cut into this folder, or a record is broken.
    """

    name = "mmvm-data assist"

    def __init__(
        self, directory: Path, propagator: Propagator, encode: Callable[[NDArray[np.uint8]], object] | None = None
    ) -> None:
        self._directory = directory
        self._shots = dict(iter_shots(directory))
        self._propagator, self._encode = propagator, encode
        self._lock = threading.Lock()
        self._answers: dict[tuple[Any, str], _Answers] = {}  # by task and number
        self._preparing: threading.Thread | None = None

    def suggest(self, task: dict[str, Any], marks: list[Any]) -> list[Result]:
        """Masks of the object that was marked last, in the picture of the mark and in those around it.

        The object is followed to the next picture in which somebody marked or drew it. Where there is such a picture
        before, it is also followed back, and masks that were suggested between the two are made again: each comes from
        the nearer of them. What a person drew or corrected stays as it is.

        A click inside a drawn mask carries the mask on as it is.

        Args:
            task: with its data and drafts.
            marks: clicks, on the object and beside it, or a rectangle.

        Raises:
            ValueError: the task is of no shot of this folder, or the marks cannot be used; one line.
            InputError: a picture cannot be read.
        """
        shot = self._find_shot(task)
        mark = _last_mark(marks, shot)
        if mark is None:
            return []
        position, label, prompt = mark
        with self._lock:  # one model, and a server that asks from several threads
            answers = self._answers.setdefault((task.get("id"), label), _Answers())
            present = _read_drawn(task, shot, label)
            drawn = {k: region for k, region in present.items() if not _is_same(region, answers.masks.get(k))}
            starts = drawn | {k: region for k, region in present.items() if k in answers.marked}
            prompts = {k: Prompt(region.mask, region.box) for k, region in starts.items()}
            if position not in drawn or not _is_inside(prompt, drawn[position]):
                prompts[position] = prompt
            after = min((k for k in prompts if k > position), default=len(shot.frames))
            before = max((k for k in prompts if k < position), default=position)
            known = {k for k in range(len(shot.frames)) if k in present or answers.is_gone(k)}
            wanted = {k for k in known if before < k < position}
            wanted |= {k for k in range(position + 1, len(shot.frames)) if k < after or k not in known}
            wanted -= prompts.keys() - {position}
            made = self._follow(shot, label, prompts, wanted | {position})
            answers.masks |= made
            answers.marked.add(position)
        regions = {k: [Region(id=label, mask=rle)] for k, rle in made.items() if rle is not None}
        return tracks_to_results(shot, regions, "brush")

    def _follow(
        self, shot: Shot, label: str, prompts: Mapping[int, Prompt], wanted: Collection[int]
    ) -> dict[int, Rle | None]:
        """Masks in the wanted pictures, each from the nearest prompt before or after it; None where it is gone."""
        tracks: dict[int, Rle | None] = {}
        for start, end in pairwise([*sorted(prompts), len(shot.frames)]):
            if not any(start <= k < end for k in wanted):
                continue
            frames = [media.read_frame_bgr(self._directory, frame) for frame in shot.frames[start : end + 1]]
            turn = (end - start) // 2 + 1 if end in prompts else len(frames)  # from here on, the end is nearer
            forward = self._propagator.propagate(frames[:turn], {label: prompts[start]})
            tracks |= {start + k: found.get(label) for k, found in enumerate(forward)}
            if turn < len(frames):
                backward = self._propagator.propagate(frames[turn:][::-1], {label: prompts[end]})
                tracks |= {end - k: found.get(label) for k, found in enumerate(backward)}
        return {k: rle for k, rle in sorted(tracks.items()) if k in wanted}

    def prepare(self, task: dict[str, Any]) -> None:
        """Encode the pictures of a task that somebody opened, in the background; one task at a time."""
        shot = self._shots.get(str((task.get("data") or {}).get(NAME_KEY, "")))
        if shot is None or self._encode is None or (self._preparing is not None and self._preparing.is_alive()):
            return
        self._preparing = threading.Thread(target=self._encode_pictures, args=(shot,), daemon=True)
        self._preparing.start()

    def _encode_pictures(self, shot: Shot) -> None:
        assert self._encode is not None
        for frame in shot.frames:
            try:
                self._encode(media.read_frame_bgr(self._directory, frame))
            except InputError:  # said when somebody clicks on it
                return

    def _find_shot(self, task: Mapping[str, Any]) -> Shot:
        data = task.get("data") or {}
        name = str(data.get(NAME_KEY, ""))
        shot = self._shots.get(name)
        if shot is None or not is_same_shot(data, shot):
            raise ValueError(f"there is no shot {name!r} in this folder, or it was cut again; push again")
        return shot


@dataclass
class _Answers:
    """What was suggested for one object of a task.

    Attributes:
        masks: by position; None where the object was not found.
        marked: positions in which somebody marked it.
    """

    masks: dict[int, Rle | None] = field(default_factory=dict)
    marked: set[int] = field(default_factory=set)

    def is_gone(self, position: int) -> bool:
        """Whether the object was looked for there, and not found."""
        return position in self.masks and self.masks[position] is None


def _read_drawn(task: Mapping[str, Any], shot: Shot, label: str) -> dict[int, Region]:
    """An object by position, in what this person has saved last."""
    works = [w for key in ("drafts", "annotations") for w in task.get(key) or [] if isinstance(w, dict)]
    if not works:
        return {}
    results = check_results(max(works, key=timestamp).get("result") or [])
    ids = {r.get("id") for r in results if r.get("type") == "labels" and r["value"].get("labels") == [label]}
    shapes = group_shapes([r for r in results if r.get("id") in ids], shot, SHAPE_TYPES)
    drawn = {}
    for (position, _), pieces in shapes.items():
        try:
            region = results_to_region(label, object_slot(shot, position, label), pieces)
        except ValueError:  # a polygon that is not closed yet: reported by the pull, if it stays so
            continue
        if region is not None:
            drawn[position] = region
    return drawn


def _last_mark(marks: list[Any], shot: Shot) -> tuple[int, str, Prompt] | None:
    """Position, number and prompt of what was marked last: all of its clicks in that picture, or its last rectangle."""
    types = (CLICK_TYPE, *SHAPE_TYPES)
    groups = group_shapes(marks, shot, types)
    if not groups:
        return None
    last: Result = [mark for mark in marks if mark.get("type") in types][-1]
    (position, label), pieces = next((k, p) for k, p in groups.items() if any(piece is last for piece in p))
    pieces = [piece for piece in pieces if piece["type"] == CLICK_TYPE] if last["type"] == CLICK_TYPE else [last]
    prompt = make_prompt(label, pieces, shot, position)
    return None if prompt is None else (position, label, prompt)


def _is_inside(prompt: Prompt, region: Region) -> bool:
    """Whether a prompt is nothing but clicks inside an object's mask."""
    if region.mask is None or prompt.box is not None or prompt.mask is not None or prompt.others:
        return False
    bitmap = masks.decode(region.mask)
    return all(bitmap[min(int(y), len(bitmap) - 1), min(int(x), len(bitmap[0]) - 1)] for x, y in prompt.clicks)


def _is_same(region: Region, suggested: Rle | None) -> bool:
    """Whether a mask is the one that was suggested."""
    if suggested is None or region.mask is None:
        return False
    pair: Sequence[NDArray[np.bool_]] = [masks.decode(rle).astype(bool) for rle in (region.mask, suggested)]
    return overlap(*pair) >= _SAME_MASK
