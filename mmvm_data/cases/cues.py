"""Proposes match types for a case, each with its evidence: what distinguishes the answer from the other candidates.

For each type, a distance of the query to every candidate is measured. A type is proposed when the answer is nearer than
every other candidate by more than a just noticeable difference. A proposal is no proof; people decide. Measuring a case
takes tens of milliseconds, most of them for keypoints, so a build does not do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases.appearance import (
    Appearance,
    axis_angle,
    color_name,
    count_pattern_matches,
    measure_appearance,
)
from mmvm_data.core import masks
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Case, Cue, Region, Rle

MIN_SCORE = 0.25
"""Cues with a lower score are not proposed."""

TYPES_WITHOUT_SOURCE = (1, 2, 4, 5, 6, 8)
"""Match types that can be proposed without the source and without reading text."""

ReadText = Callable[[NDArray[np.uint8]], frozenset[str]]
"""Image, uint8 [h, w, 3] BGR -> the words that are read in it with confidence, in capital letters and digits."""

Vector = tuple[float, float]

# just noticeable differences; smaller ones are no evidence
_MIN_COLOR = 8.0  # CIELAB
_MIN_SHAPE = 0.15  # log10 of Hu moments
_MIN_SIZE = 0.2  # ln of the ratio of areas: a fifth more
_MIN_PLACE = 0.05  # of the image's diagonal
_MIN_ANGLE = 12.0  # degrees
_MIN_ORDER = 0.25  # of the neighbors' sides
_MIN_MATCHES = 5.0  # keypoints
_MIN_ELONGATION = 1.5  # ratio of the axes from which an object has an orientation
_TOUCH_PIXELS = 3  # pixels between objects that touch
_MIN_SPEED = 0.002  # of the diagonal a frame, below which an object rests


@dataclass(frozen=True)
class Surroundings:
    """What the source tells about a case beyond its record.

    Attributes:
        first_regions: track id -> region in the first image, of the candidates' tracks that are visible there.
        first_motion: track id -> motion (x, y) in pixels a frame around the first image.
        last_motion: the same around the last image.
    """

    first_regions: Mapping[str, Region] = field(default_factory=dict)
    first_motion: Mapping[str, Vector] = field(default_factory=dict)
    last_motion: Mapping[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True)
class _MeasuredCase:
    """A case and the appearances of its objects.

    Attributes:
        query: the query in the first image that shows it.
        answer: number of the right candidate.
        appearances: of the candidates, by number; without those that have no pixels.
        image_sizes: height and width of the image of the query and of the last image.
    """

    case: Case
    query: Appearance
    answer: int
    appearances: dict[int, Appearance]
    image_sizes: tuple[tuple[int, int], tuple[int, int]]
    surroundings: Surroundings

    @property
    def has_boxes(self) -> bool:
        return self.case.prompt == "box"

    @property
    def first_regions(self) -> Mapping[str, Region]:
        """See ``Surroundings``."""
        return self.surroundings.first_regions


def propose_cues(
    case: Case,
    images: Sequence[NDArray[np.uint8]],
    surroundings: Surroundings | None = None,
    read_text: ReadText | None = None,
) -> tuple[Cue, ...]:
    """The cues that distinguish the answer from the other candidates, the one with the highest score first.

    Measures of the evidence: color distances in CIELAB, shapes as the L1 distance of log10 Hu moments, sizes as
    natural logarithms of ratios of areas, places in shares of the image's diagonal, angles in degrees, order in shares
    of neighbors on the same side, patterns in numbers of matching keypoints; ``answer`` of the answer, ``next`` of the
    nearest other candidate, whose number is ``rival``.

    Args:
        case: any case.
        images: its clean images, uint8 [h, w, 3], BGR.
        surroundings: neighbors and motion, when the source is at hand. Without it, position is that in the image, and
            binding and (of two images) motion are not measured.
        read_text: reads text in an image; without it, text is never proposed.

    Returns:
        nothing for a case without an answer, with one candidate, or with a query that no image shows.

    Raises:
        ValueError: a mask is broken or not of its image's size, or there is not one image for each frame.
    """
    if len(images) != len(case.frames):
        raise ValueError(f"{case.id}: {pluralize(len(images), 'image')} for {pluralize(len(case.frames), 'frame')}")
    if case.answer is None or len(case.candidates) < 2:
        return ()
    measured = _measure_case(case, case.answer, images, surroundings or Surroundings())
    if measured is None:
        return ()
    cues = [
        _color_cue(measured),
        _size_cue(measured),
        _place_cue(measured),
        _motion_cue(measured),
        _binding_cue(measured),
    ]
    if not measured.has_boxes:
        cues += [_shape_cue(measured), _orientation_cue(measured)]
    cues.append(_pattern_cue(measured))
    if read_text is not None:
        cues.append(_text_cue(measured, read_text))
    best: dict[int, Cue] = {}
    for cue in cues:
        if cue is not None and (cue.type not in best or cue.score > best[cue.type].score):
            best[cue.type] = cue
    return tuple(sorted(best.values(), key=lambda cue: (-cue.score, cue.type)))


def _measure_case(
    case: Case, answer: int, images: Sequence[NDArray[np.uint8]], surroundings: Surroundings
) -> _MeasuredCase | None:
    """The appearances of a case's objects; None if the query or the answer has no pixels, or one candidate is left."""
    queries = [measure_appearance(images[k], _case_rle(case, k, region)) for k, region in enumerate(case.query)]
    visible = [(position, query) for position, query in enumerate(queries) if query is not None]
    candidates = {c.number: measure_appearance(images[-1], _case_rle(case, -1, c.region)) for c in case.candidates}
    appearances = {number: appearance for number, appearance in candidates.items() if appearance is not None}
    if not visible or answer not in appearances or len(appearances) < 2:
        return None
    position, query = visible[0]
    sizes = _image_size(images[position]), _image_size(images[-1])
    if position:  # the query is hidden in the first image, so that its neighbors there are no evidence
        surroundings = replace(surroundings, first_regions={})
    return _MeasuredCase(case, query, answer, appearances, sizes, surroundings)


def _case_rle(case: Case, position: int, region: Region) -> Rle:
    """Mask of a region of the frame at ``position``."""
    frame = case.frames[position]
    return masks.region_mask(region, frame.height, frame.width)


def _image_size(image: NDArray[np.uint8]) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _diagonal(size: tuple[int, int]) -> float:
    return math.hypot(*size)


def _cue_if_nearest(
    measured: _MeasuredCase, type_: int, distances: Mapping[int, float], min_difference: float
) -> tuple[Cue, int] | None:
    """A cue without evidence where the answer is nearest by ``min_difference`` or more, and the number of the rival.

    The score is the margin over the sum of both distances and the just noticeable difference, so that small distances
    to both give a low score.
    """
    answer_distance = distances.get(measured.answer)
    others = {number: distance for number, distance in distances.items() if number != measured.answer}
    if answer_distance is None or not others:
        return None
    rival = min(others, key=lambda number: (others[number], number))
    margin = others[rival] - answer_distance
    score = margin / (others[rival] + answer_distance + min_difference)
    if margin < min_difference or score < MIN_SCORE:
        return None
    measures = {"answer": round(answer_distance, 4), "next": round(others[rival], 4), "rival": float(rival)}
    return Cue(type=type_, score=round(min(score, 1.0), 4), evidence="-", measures=measures), rival


def _with_evidence(cue: Cue, words: str, **measures: float) -> Cue:
    """The cue with its evidence in words, and more measures."""
    return cue.model_copy(update={"evidence": words, "measures": cue.measures | measures})


def _color_cue(measured: _MeasuredCase) -> Cue | None:
    distances = {n: float(np.linalg.norm(measured.query.color - c.color)) for n, c in measured.appearances.items()}
    if (found := _cue_if_nearest(measured, 1, distances, _MIN_COLOR)) is None:
        return None
    cue, rival = found
    mine = cue.measures["answer"]
    words = (
        f"its colour, on average {color_name(measured.query.color)}, is nearest: {mine:.0f} apart in CIELAB, "
        f"object {rival} is {distances[rival]:.0f} apart"
    )
    return _with_evidence(cue, words)


def _shape_cue(measured: _MeasuredCase) -> Cue | None:
    distances = {n: float(np.abs(measured.query.hu - c.hu).sum()) for n, c in measured.appearances.items()}
    if (found := _cue_if_nearest(measured, 2, distances, _MIN_SHAPE)) is None:
        return None
    cue, rival = found
    mine = cue.measures["answer"]
    words = f"its outline is the most similar: Hu moments differ by {mine:.2f}, those of object {rival} by "
    return _with_evidence(cue, f"{words}{distances[rival]:.2f}")


def _size_cue(measured: _MeasuredCase) -> Cue | None:
    # areas are compared as shares of their image, in case the sizes of the two images differ
    scale = math.log(math.prod(measured.image_sizes[1]) / math.prod(measured.image_sizes[0]))
    distances = {n: abs(math.log(c.area / measured.query.area) - scale) for n, c in measured.appearances.items()}
    if (found := _cue_if_nearest(measured, 4, distances, _MIN_SIZE)) is None:
        return None
    cue, rival = found
    rank = 1 + sum(c.area > measured.appearances[measured.answer].area for c in measured.appearances.values())
    before = 100 * measured.query.area / math.prod(measured.image_sizes[0])
    after, other = (
        100 * measured.appearances[n].area / math.prod(measured.image_sizes[1]) for n in (measured.answer, rival)
    )
    words = (
        f"it fills {before:.1f} % of the first image and {after:.1f} % of the last, object {rival} fills {other:.1f} %"
    )
    more = {"rank": float(rank)}
    if measured.first_regions:
        areas = [
            masks.area(masks.region_mask(region, *measured.image_sizes[0]))
            for region in measured.first_regions.values()
        ]
        more["rank_before"] = 1.0 + sum(area > measured.query.area for area in areas)
    return _with_evidence(cue, words, **more)


def _place_cue(measured: _MeasuredCase) -> Cue | None:
    """By the sides on which its neighbors stand, if they are known; otherwise by the place in the image."""
    return _order_cue(measured) if len(measured.first_regions) > 2 else _image_place_cue(measured)


def _image_place_cue(measured: _MeasuredCase) -> Cue | None:
    (h0, w0), (h1, w1) = measured.image_sizes
    x, y = measured.query.center
    far = _diagonal(measured.image_sizes[1])
    distances = {
        n: math.hypot(c.center[0] - x * w1 / w0, c.center[1] - y * h1 / h0) for n, c in measured.appearances.items()
    }
    found = _cue_if_nearest(measured, 5, {n: d / far for n, d in distances.items()}, _MIN_PLACE)
    if found is None:
        return None
    cue, rival = found
    words = (
        f"it is near its place in the first image: {100 * cue.measures['answer']:.0f} % of the diagonal away, "
        f"object {rival} is {100 * cue.measures['next']:.0f} % away"
    )
    return _with_evidence(cue, words)


def _order_cue(measured: _MeasuredCase) -> Cue | None:
    """By the share of neighbors that stand on another side than before: left or right, in front or behind."""
    tracks = {c.number: c.region.id for c in measured.case.candidates}
    was = {
        n: _ground_point(measured, measured.first_regions[t]) for n, t in tracks.items() if t in measured.first_regions
    }
    known = {n: place for n, place in was.items() if place and n in measured.appearances and n != measured.answer}
    here = (measured.query.center[0], measured.query.bottom)
    distances = {}
    for number, candidate in measured.appearances.items():
        neighbors = [n for n in known if n != number]
        if len(neighbors) < 2:
            continue
        there = (candidate.center[0], candidate.bottom)
        now = {n: (measured.appearances[n].center[0], measured.appearances[n].bottom) for n in neighbors}
        turned_over = sum((known[n][k] < here[k]) != (now[n][k] < there[k]) for n in neighbors for k in (0, 1))
        distances[number] = turned_over / (2 * len(neighbors))
    if (found := _cue_if_nearest(measured, 5, distances, _MIN_ORDER)) is None:
        return None
    cue, rival = found
    words = (
        f"its neighbours stand as before: {100 * (1 - cue.measures['answer']):.0f} % of their sides (left or right, in "
        f"front or behind) are kept, around object {rival} {100 * (1 - cue.measures['next']):.0f} %"
    )
    return _with_evidence(cue, words, neighbours=float(len([n for n in known if n != rival])))


def _ground_point(measured: _MeasuredCase, region: Region) -> Vector | None:
    """Center (x) and lower edge (y) of a region of the first image, in pixels; lower means nearer to the camera."""
    x, y, w, h = masks.bbox(masks.region_mask(region, *measured.image_sizes[0]))
    return (x + w / 2, float(y + h)) if w else None


def _orientation_cue(measured: _MeasuredCase) -> Cue | None:
    if (
        measured.query.elongation < _MIN_ELONGATION
        or measured.appearances[measured.answer].elongation < _MIN_ELONGATION
    ):
        return None
    # a round object has no orientation that could be compared
    distances = {
        n: axis_angle(measured.query.angle, c.angle)
        for n, c in measured.appearances.items()
        if c.elongation >= _MIN_ELONGATION
    }
    if (
        len(distances) < len(measured.appearances)
        or (found := _cue_if_nearest(measured, 6, distances, _MIN_ANGLE)) is None
    ):
        return None
    cue, rival = found
    words = f"it is turned the same way: its long axis by {cue.measures['answer']:.0f} degrees, that of object {rival} "
    return _with_evidence(cue, f"{words}by {cue.measures['next']:.0f}")


def _motion_cue(measured: _MeasuredCase) -> Cue | None:
    tracks = {c.number: c.region.id for c in measured.case.candidates}
    before = measured.surroundings.first_motion.get(measured.case.query[0].id)
    least = _MIN_SPEED * _diagonal(measured.image_sizes[0])
    if before is None or math.hypot(*before) < least:
        return None
    moving = {
        n: measured.surroundings.last_motion[t] for n, t in tracks.items() if t in measured.surroundings.last_motion
    }
    after = {n: v for n, v in moving.items() if math.hypot(*v) >= least and n in measured.appearances}
    distances = {n: abs(_signed_angle(before, v)) for n, v in after.items()}
    if (found := _cue_if_nearest(measured, 6, distances, 2 * _MIN_ANGLE)) is None:
        return None
    cue, rival = found
    words = (
        f"it goes on moving {_describe_direction(before)}: {cue.measures['answer']:.0f} degrees off its way, "
        f"object {rival} {cue.measures['next']:.0f}"
    )
    return _with_evidence(cue, words, speed=round(math.hypot(*before), 2))


def _signed_angle(a: Vector, b: Vector) -> float:
    """Angle from one direction to the other, -180..180."""
    return math.degrees(math.atan2(a[0] * b[1] - a[1] * b[0], a[0] * b[0] + a[1] * b[1]))


def _describe_direction(v: Vector) -> str:
    if abs(v[0]) >= abs(v[1]):
        return "to the right" if v[0] > 0 else "to the left"
    return "down" if v[1] > 0 else "up"


def _binding_cue(measured: _MeasuredCase) -> Cue | None:
    """By a marked object that touches the query in the first image, the answer in the last, and no other candidate."""
    if measured.has_boxes or not measured.first_regions:
        return None
    shapes = {
        c.number: _case_rle(measured.case, -1, c.region)
        for c in measured.case.candidates
        if c.number in measured.appearances
    }
    found: list[tuple[float, int]] = []
    for candidate in measured.case.candidates:
        partner, track = candidate.number, candidate.region.id
        if partner == measured.answer or partner not in shapes or track not in measured.first_regions:
            continue
        before = _contact_strength(
            measured.query.rle, masks.region_mask(measured.first_regions[track], *measured.image_sizes[0])
        )
        after = _contact_strength(shapes[measured.answer], shapes[partner])
        others = [
            _contact_strength(rle, shapes[partner]) for n, rle in shapes.items() if n not in (partner, measured.answer)
        ]
        score = min(before, after) - max(others, default=0.0)
        if score >= MIN_SCORE and others:
            found.append((score, partner))
    if not found:
        return None
    score, partner = max(found, key=lambda pair: (pair[0], -pair[1]))
    words = f"it touches object {partner} in both images, and no other candidate does so as closely"
    return Cue(type=7, score=round(min(score, 1.0), 4), evidence=words, measures={"partner": float(partner)})


def _contact_strength(a: Rle, b: Rle) -> float:
    """How closely two masks touch: pixels of ``b`` within 3 px of ``a`` over half the side of a square as large as the
    smaller of the two, at most 1."""
    boxes = masks.bboxes([a, b])
    low = boxes[:, :2].max(axis=0) - _TOUCH_PIXELS
    high = (boxes[:, :2] + boxes[:, 2:]).min(axis=0) + _TOUCH_PIXELS
    if (low >= high).any() or a.size != b.size:
        return 0.0
    first, second = masks.decode(a), masks.decode(b)
    (x0, y0), (x1, y1) = np.maximum(low - _TOUCH_PIXELS, 0).astype(int), (high + _TOUCH_PIXELS).astype(int)
    grown = cv2.dilate(first[y0:y1, x0:x1], np.ones((2 * _TOUCH_PIXELS + 1,) * 2, np.uint8))
    near = int(np.count_nonzero(grown[second[y0:y1, x0:x1] > 0]))
    return min(1.0, near / (_TOUCH_PIXELS * 0.5 * math.sqrt(min(masks.area(a), masks.area(b)))))


def _pattern_cue(measured: _MeasuredCase) -> Cue | None:
    """By marks on the object: keypoints that the query shares with the answer, and fewer with any other candidate."""
    matches = {n: count_pattern_matches(measured.query, c) for n, c in measured.appearances.items()}
    others = {n: count for n, count in matches.items() if n != measured.answer}
    rival = max(others, key=lambda n: (others[n], -n))
    mine, most = matches[measured.answer], others[rival]
    score = (mine - most) / (mine + most + _MIN_MATCHES)
    if mine - most < _MIN_MATCHES or score < MIN_SCORE:
        return None
    words = f"its pattern recurs: {mine} details are found again, on object {rival} only {most}"
    measures = {"answer": float(mine), "next": float(most), "rival": float(rival)}
    return Cue(type=8, score=round(score, 4), evidence=words, measures=measures)


def _text_cue(measured: _MeasuredCase, read_text: ReadText) -> Cue | None:
    words = {n: read_text(c.pixels) for n, c in measured.appearances.items()}
    mine = read_text(measured.query.pixels) & words[measured.answer]
    others: frozenset[str] = frozenset().union(*(found for n, found in words.items() if n != measured.answer))
    if not (alone := sorted(mine - others, key=lambda w: (-len(w), w))):
        return None
    score = min(1.0, 0.5 + 0.1 * len(alone[0]))  # a longer word is less likely misread
    evidence = f'the text "{alone[0]}" is written on it in both images, and on no other candidate'
    return Cue(type=3, score=round(score, 4), evidence=evidence, measures={"letters": float(len(alone[0]))})
