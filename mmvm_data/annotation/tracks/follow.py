"""Objects that are marked in one picture, followed through the next ones by optical flow and appearance.

Dense optical flow (Kroeger et al., ECCV 2016, OpenCV's DIS) carries a mask to the next picture; a second guess moves it
to where its pixels differ least from that picture, for steps that are too large for flow. A model for prompts, such
as ``mobile_sam.MobileSam``, then draws the object again from each guess: its box, a point inside, and its mask. Of
what it draws and of the guesses themselves, the mask counts that overlaps its guess and has the object's colors. Where
nothing that it draws overlaps the guess, it draws from the guess's box alone, and area and colors decide. Where nothing
near the guess has the object's colors, as behind something else, the whole picture is searched for them (``colors``).

Where the model gives its features (``matching``) and what was found has another shape than the flow says, as after a
large step, features say where the object is: the model draws what has them, and flow and colors only help to choose.
They fail on small objects and among others of their kind. What has nothing but the object's colors is left out.

This needs no checkpoint of a video model. Where one is at hand, ``sam2.Sam2`` is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.annotation.tracks.colors import color_histogram, likely_boxes
from mmvm_data.annotation.tracks.matching import CellShares, FeatureMemory, Features, likely_parts, match
from mmvm_data.annotation.tracks.sam2 import Prompt, TrackedMask
from mmvm_data.core import masks
from mmvm_data.core.types import Box, Rle

Image = NDArray[np.uint8]
Bitmap = NDArray[np.bool_]

_FLOW_SIZE: Final = 640  # pixels on the longer side
_SEARCH_SIZE: Final = 320
_LOGITS_SIZE: Final = 256
_SURE: Final = 6.0  # logits of a mask that is given as a prompt
_MIN_AREA: Final = 16  # pixels
_MIN_OVERLAP: Final = 0.4  # IoU with the guess, of what the model draws
_MIN_COLOR: Final = 0.25  # below it the object is gone
_MAX_DIFFERENCE: Final = 40.0  # of 255 levels, root mean square over the object's pixels
_COLOR_WEIGHT: Final = 0.5
_SURE_COLOR: Final = 0.55  # from here on, what was found is the object, and its colors are learned
_MIN_GAIN: Final = 0.1  # of what is found elsewhere over what is found near the guess
_MIN_AREA_RATIO: Final = 0.4
_MIN_CELLS: Final = 4  # of an object, below which features say nothing about it
_MIN_PART: Final = 0.15  # of an object's cells
_SURE_AGREEMENT: Final = 0.85  # of what is drawn with what flow says; steps are small then, and flow follows best
_MIN_MATCH: Final = 0.3
_LEAST_MATCH: Final = 0.03  # of what flow or colors find where nothing matches
_MARGIN: Final = 0.05  # of a part's box on each side, and of the picture


class Segmenter(Protocol):
    """A model that draws a mask for a prompt, as ``mobile_sam.MobileSam`` does."""

    def embed(self, bgr: Image) -> Any:
        """Encode an image; see ``MobileSam.embed``."""
        ...

    def features(self, image: Any) -> Features | None:
        """Features of an encoded image, as in ``matching``; None where the model has none."""
        ...

    def segment(
        self,
        image: Any,
        box: Box | None = None,
        clicks: Sequence[tuple[float, float]] = (),
        others: Sequence[tuple[float, float]] = (),
        logits: NDArray[np.float32] | None = None,
    ) -> tuple[Bitmap, NDArray[np.float32], NDArray[np.float32]]:
        """Draw masks; see ``MobileSam.segment``."""
        ...


@dataclass
class _Target:
    """An object that is followed.

    Attributes:
        mask: where it was last.
        frame: the picture of that mask.
        colors: histogram of its pixels, at the start and where it was last found for sure.
        area: pixels of the mask where it was last found for sure.
        score: how sure the mask is, 0..1.
        memory: its features; None where the model has none, or it is too small for them.
        is_lost: whether it was not found in the last picture.
    """

    mask: Bitmap
    frame: Image
    colors: tuple[NDArray[np.float32], NDArray[np.float32]]
    area: int
    score: float
    memory: FeatureMemory | None = None
    is_lost: bool = False

    def likeness(self, frame: Image, mask: Bitmap) -> tuple[float, float]:
        """How far a mask has the colors of the object at the start, and where it was last found for sure, 0..1."""
        colors = color_histogram(frame, mask)
        first, last = (float(np.minimum(colors, known).sum()) for known in self.colors)
        return first, last


class _MaskCandidate(NamedTuple):
    """A mask that may be the object's.

    Attributes:
        mask: in the next picture.
        likeness: of its colors with those at the start, 0..1.
        agreement: of its shape with what the flow says, 0..1.
        rank: the highest counts.
    """

    mask: Bitmap
    likeness: float
    agreement: float
    rank: float


class FlowTracker:
    """Follows objects.

    Args:
        segmenter: draws them in each picture.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    def propagate(self, frames: Iterable[Image], prompts: Mapping[str, Prompt]) -> list[dict[str, Rle]]:
        """Follow objects from the first frame to the last. Masks are ``TrackedMask``.

        Args:
            frames: uint8 [h, w, 3], blue first, all of one size.
            prompts: label of an object -> its mark in the first frame; one or more.

        Returns:
            for each frame, label -> mask of the frame's size; objects without a pixel there are left out.
        """
        targets: dict[str, _Target] = {}
        tracks: list[dict[str, Rle]] = []
        for position, frame in enumerate(frames):
            image = self._segmenter.embed(frame)
            features = self._segmenter.features(image)
            found: dict[str, Rle] = {}
            if not position:
                for label, prompt in prompts.items():
                    mask, score = self._draw(image, prompt)
                    if mask.any():
                        colors = color_histogram(frame, mask)
                        memory = _remember(features, mask)
                        targets[label] = _Target(mask, frame, (colors, colors), int(mask.sum()), score, memory)
                        found[label] = _encode(targets[label])
            flows: dict[int, NDArray[np.float32]] = {}
            for label, target in targets.items() if position else ():
                key = id(target.frame)  # objects that were lost come from earlier frames
                if key not in flows:
                    flows[key] = backward_flow(target.frame, frame)
                if self._step(target, frame, image, flows[key], features):
                    found[label] = _encode(target)
            tracks.append(found)
        return tracks

    def _draw(self, image: Any, prompt: Prompt) -> tuple[Bitmap, float]:
        """The mask that a prompt stands for, and how sure it is: a given one is."""
        if prompt.mask is not None:
            return masks.decode(prompt.mask).astype(bool), 1.0
        drawn, scores, _ = self._segmenter.segment(image, prompt.box, prompt.clicks, prompt.others)
        best = int(np.argmax(scores))
        return drawn[best], float(np.clip(scores[best], 0, 1))

    def _step(
        self, target: _Target, frame: Image, image: Any, flow: NDArray[np.float32], features: Features | None
    ) -> bool:
        """Move a target to the next frame; whether it was found there."""
        guesses = [warp_mask(target.mask, flow)]
        if (moved := search_mask(target.frame, target.mask, frame)) is not None:
            guesses.append(moved)
        near = max(self._draw_near(target, guesses, frame, image), key=lambda found: found.rank, default=None)
        best, shares = None, None
        if target.memory is not None and features is not None and (near is None or near.agreement < _SURE_AGREEMENT):
            shares = target.memory.locate(features, (frame.shape[0], frame.shape[1]))
            drawn = list(self._draw_matched(target, shares, frame, image))
            best = _choose_matched(target, drawn, guesses, shares, frame)
        if best is None:
            best = near
            if near is None or near.likeness < _SURE_COLOR:
                best = self._search(target, frame, image, near.likeness + _MIN_GAIN if near else 0.0) or near
            if best is not None and shares is not None and match(best.mask, shares) < _LEAST_MATCH:
                best = None  # it has the colors, and nothing else of the object
        if best is not None and target.memory is not None and features is not None:
            target.memory.add(features, best.mask)
        target.is_lost = best is None
        if best is None:
            return False
        target.mask, target.frame = best.mask, frame
        target.score = round(math.sqrt(best.agreement * best.likeness), 2)
        if best.likeness >= _SURE_COLOR:  # else the colors of what covers it would be learned
            target.colors, target.area = (target.colors[0], color_histogram(frame, best.mask)), int(best.mask.sum())
        return True

    def _draw_near(
        self, target: _Target, guesses: Sequence[Bitmap], frame: Image, image: Any
    ) -> Iterator[_MaskCandidate]:
        """The guesses and what the model draws from them, where they have the target's colors."""
        for guess in guesses:
            if guess.sum() < _MIN_AREA:
                continue
            box = bounding_box(guess)
            drawn, _, _ = self._segmenter.segment(image, box, [inner_point(guess)], logits=prompt_logits(guess))
            # what the model draws has the object's own edge, so it counts for more than the guess
            overlaps = [(mask, overlap(mask, guess)) for mask in drawn]
            candidates = [(mask, same + 1.0, same) for mask, same in overlaps if same > _MIN_OVERLAP]
            if candidates:
                candidates.append((guess, 1.0, max(same for _, same in overlaps)))
            else:  # no object has the shape of the guess, which a large step has torn; its place may be right
                drawn, _, _ = self._segmenter.segment(image, box)
                area = int(target.mask.sum())
                ratios = [(mask, _area_ratio(mask, area)) for mask in drawn]
                candidates = [(mask, 0.5 + ratio, 0.5 * ratio) for mask, ratio in ratios]
                candidates.append((guess, 0.5, max(same for _, same in overlaps)))
            for mask, shape, agreement in candidates:
                first, last = target.likeness(frame, mask)
                rank = (1 - _COLOR_WEIGHT) * shape + _COLOR_WEIGHT * max(first, last)
                if max(first, last) >= _MIN_COLOR:
                    yield _MaskCandidate(mask, first, agreement, rank)

    def _draw_matched(self, target: _Target, shares: CellShares, frame: Image, image: Any) -> Iterator[Bitmap]:
        """What the model draws from the parts of the picture that have the target's features."""
        height, width = frame.shape[:2]
        cells = int(target.mask.sum()) * (len(shares) / max(height, width)) ** 2
        for part in likely_parts(shares, (height, width), max(1.0, _MIN_PART * cells)):
            box, point = bounding_box(part), [inner_point(part)]
            wide = _widen(box, height, width)
            yield from self._segmenter.segment(image, box)[0]
            yield from self._segmenter.segment(image, wide, point)[0]
            yield from self._segmenter.segment(image, wide, point, logits=prompt_logits(part))[0]

    def _search(self, target: _Target, frame: Image, image: Any, least: float) -> _MaskCandidate | None:
        """The mask in the whole picture that has the target's area and first colors, with a likeness of ``least`` at
        least; None without any."""
        found = []
        for box in likely_boxes(frame, target.colors[0], target.area, bounding_box(target.mask)[2:]):
            for mask in self._segmenter.segment(image, box)[0]:
                ratio, likeness = _area_ratio(mask, target.area), target.likeness(frame, mask)[0]
                if ratio >= _MIN_AREA_RATIO and likeness >= max(_SURE_COLOR, least):
                    found.append(_MaskCandidate(mask, likeness, 0.5 * ratio, ratio + likeness))
        return max(found, key=lambda one: one.rank, default=None)


def _choose_matched(
    target: _Target, drawn: Sequence[Bitmap], guesses: Sequence[Bitmap], shares: CellShares, frame: Image
) -> _MaskCandidate | None:
    """The mask that covers the cells with the target's features best, has its colors and area, and is near."""
    found = []
    for mask in drawn:
        matched = match(mask, shares) if mask.sum() >= _MIN_AREA else 0.0
        if matched < _MIN_MATCH:
            continue
        likeness = target.likeness(frame, mask)[0]
        near = max(overlap(mask, guess) for guess in guesses)
        rank = matched + _COLOR_WEIGHT * likeness + 0.3 * _area_ratio(mask, target.area) + 0.3 * near
        found.append(_MaskCandidate(mask, likeness, matched, rank))
    return max(found, key=lambda one: one.rank, default=None)


def _remember(features: Features | None, mask: Bitmap) -> FeatureMemory | None:
    """The memory of an object, if the model has features and it is large enough."""
    if features is None or mask.sum() * (features.shape[-1] / max(mask.shape)) ** 2 < _MIN_CELLS:
        return None
    return FeatureMemory(features, mask)


def _widen(box: Box, height: int, width: int) -> Box:
    """A box with a margin on each side, within the picture."""
    x, y, w, h = box
    across, down = _MARGIN * w + 0.01 * width, _MARGIN * h + 0.01 * height
    left, top = max(0.0, x - across), max(0.0, y - down)
    return left, top, min(x + w + across, width) - left, min(y + h + down, height) - top


def backward_flow(before: Image, after: Image) -> NDArray[np.float32]:
    """Dense flow from ``after`` back to ``before``, in pixels of the image: float32 [h, w, 2], x first."""
    height, width = after.shape[:2]
    scale = min(1.0, _FLOW_SIZE / max(height, width))
    small = [
        cv2.cvtColor(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        for image in (after, before)
    ]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(small[0], small[1], np.empty(0))
    scales = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    full: NDArray[np.float32] = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * scales
    return full


def warp_mask(mask: Bitmap, flow: NDArray[np.float32]) -> Bitmap:
    """A mask [h, w] carried along a backward flow."""
    height, width = mask.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(mask.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)
    return moved > 0.5


def search_mask(before: Image, mask: Bitmap, after: Image) -> Bitmap | None:
    """A mask moved to where its pixels are most like another image of one size; None where nothing is like them."""
    height, width = mask.shape
    scale = min(1.0, _SEARCH_SIZE / max(height, width))
    small_before, small_after = (
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for image in (before, after)
    )
    small_mask = cv2.resize(mask.astype(np.float32), small_after.shape[1::-1], interpolation=cv2.INTER_AREA)
    rows, columns = (np.flatnonzero((small_mask > 0.5).any(axis)) for axis in (1, 0))
    if len(rows) < 3 or len(columns) < 3:
        return None
    top, left = int(rows[0]), int(columns[0])
    part = np.s_[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    inside = (small_mask[part] > 0.5).astype(np.float32)
    # squared differences: a correlation is not defined for an object of one color
    squared = cv2.matchTemplate(
        small_after.astype(np.float32),
        small_before[part].astype(np.float32),
        cv2.TM_SQDIFF,
        mask=np.repeat(inside[..., None], 3, axis=2),
    )
    least, _, (found_x, found_y), _ = cv2.minMaxLoc(squared)
    if not inside.any() or least > 3 * float(inside.sum()) * _MAX_DIFFERENCE**2:
        return None
    shift = np.array([[1, 0, (found_x - left) / scale], [0, 1, (found_y - top) / scale]], np.float32)
    return cv2.warpAffine(mask.astype(np.float32), shift, (width, height)) > 0.5


def overlap(a: Bitmap, b: Bitmap) -> float:
    """Intersection over union of two masks of one size."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def bounding_box(mask: Bitmap) -> Box:
    """x, y, width and height of a mask with pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return float(x), float(y), float(int(columns[-1]) + 1 - x), float(int(rows[-1]) + 1 - y)


def inner_point(mask: Bitmap) -> tuple[float, float]:
    """x and y of the pixel that lies deepest inside a mask."""
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return float(column) - 0.5, float(row) - 0.5  # the middle of the pixel, without the padding


def prompt_logits(mask: Bitmap) -> NDArray[np.float32]:
    """A mask as the prompt of a segmenter, [256, 256] over the square that it sees."""
    height, width = mask.shape
    scale = _LOGITS_SIZE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    square = np.zeros((_LOGITS_SIZE, _LOGITS_SIZE), np.float32)
    square[: size[1], : size[0]] = small
    return (2 * square - 1) * _SURE


def _area_ratio(mask: Bitmap, area: int) -> float:
    """The smaller of two areas in pixels over the larger one, 0..1."""
    small, large = sorted((int(mask.sum()), area))
    return small / large if large else 0.0


def _encode(target: _Target) -> TrackedMask:
    rle = masks.encode(target.mask.astype(np.uint8))
    return TrackedMask(size=rle.size, counts=rle.counts, score=target.score)
