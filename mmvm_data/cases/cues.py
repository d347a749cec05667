"""Proposals for the eight match types, each with its evidence: by what can the answer be told from the others?

For each type a distance of the query to every candidate is measured. A type is proposed when the answer is nearer
than every other candidate by more than a just visible difference. Nothing here is certain: people have the last word.
Measuring a case takes tens of milliseconds, most of them for keypoints, so a build does not do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from mmvm_data.cases.appearance import Look, color_name, look, pattern_matches, turned
from mmvm_data.core import masks
from mmvm_data.core.types import Case, Cue, Region

MIN_SCORE = 0.25
"""Weaker evidence is no proposal."""

ReadText = Callable[[np.ndarray], frozenset[str]]
"""Image, uint8 [h, w, 3] BGR -> the words that are surely written in it, in capital letters and digits."""

Vector = tuple[float, float]

# differences that are just plain to see; smaller ones say nothing
_COLOR = 8.0  # CIELAB
_SHAPE = 0.15  # log10 of Hu moments
_SIZE = 0.2  # ln of the ratio of areas: a fifth more
_PLACE = 0.05  # of the image's diagonal
_ANGLE = 12.0  # degrees
_ORDER = 0.25  # of the neighbours' sides
_MATCHES = 5.0  # keypoints
_LONG = 1.5  # axes of an object whose orientation means something
_TOUCH = 3  # pixels between objects that touch
_MOVES = 0.002  # of the diagonal a frame, below which an object rests


@dataclass(frozen=True)
class Surroundings:
    """What the source knows beside the case (``cases.surroundings``).

    Attributes:
        first: track -> region in the first image, of the candidates' tracks that are visible there.
        moving_first: track -> motion (x, y) in pixels a frame around the first image.
        moving_last: the same around the last image.
    """

    first: Mapping[str, Region] = field(default_factory=dict)
    moving_first: Mapping[str, Vector] = field(default_factory=dict)
    moving_last: Mapping[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True)
class _View:
    """A case measured: the query in the first image that shows it, and the candidates by number."""

    case: Case
    query: Look
    answer: int
    looks: dict[int, Look]
    sizes: tuple[tuple[int, int], tuple[int, int]]
    around: Surroundings

    @property
    def boxes(self) -> bool:
        return self.case.prompt == "box"


def propose(
    case: Case,
    images: Sequence[np.ndarray],
    around: Surroundings | None = None,
    read_text: ReadText | None = None,
) -> tuple[Cue, ...]:
    """The cues that tell the answer from the other candidates, the clearest first.

    Measures of the evidence: colour distances in CIELAB, shapes as the L1 distance of log10 Hu moments, sizes as
    natural logarithms of ratios of areas, places in shares of the image's diagonal, angles in degrees, order in shares
    of neighbours on the same side, patterns in numbers of matching keypoints; ``answer`` of the answer, ``next`` of the
    nearest other candidate, whose number is ``rival``.

    Args:
        case: any case.
        images: its clean images, uint8 [h, w, 3], BGR.
        around: neighbours and motion, when the source is at hand. Without, position is that in the image, and binding
            and (of two images) motion are not measured.
        read_text: a reader of text; without, text is never proposed.

    Returns:
        nothing for a case without an answer, with one candidate, or with a query that no image shows.

    Raises:
        ValueError: a mask is broken or not of its image's size, or there is not one image for each frame.
    """
    if len(images) != len(case.frames):
        raise ValueError(f"{case.id}: {len(images)} images for {len(case.frames)} frames")
    if case.answer is None or len(case.candidates) < 2:
        return ()
    view = _measure(case, images, around or Surroundings())
    if view is None:
        return ()
    found = [_color(view), _size(view), _place(view), _motion(view), _binding(view)]
    if not view.boxes:
        found += [_shape(view), _orientation(view)]
    found.append(_pattern(view))
    if read_text is not None:
        found.append(_text(view, read_text))
    best: dict[int, Cue] = {}
    for cue in found:
        if cue is not None and (cue.type not in best or cue.score > best[cue.type].score):
            best[cue.type] = cue
    return tuple(sorted(best.values(), key=lambda cue: (-cue.score, cue.type)))


def _measure(case: Case, images: Sequence[np.ndarray], around: Surroundings) -> _View | None:
    assert case.answer is not None  # propose asks before
    shown = [(k, look(images[k], _rle(case, k, region))) for k, region in enumerate(case.query)]
    seen = [(k, found) for k, found in shown if found is not None]
    candidates = {c.number: look(images[-1], _rle(case, -1, c.region)) for c in case.candidates}
    looks = {number: found for number, found in candidates.items() if found is not None}
    if not seen or case.answer not in looks or len(looks) < 2:
        return None
    position, query = seen[0]
    sizes = _size_of(images[position]), _size_of(images[-1])
    if position:  # the query is hidden in the first image, so that its neighbours there say nothing
        around = replace(around, first={})
    return _View(case, query, case.answer, looks, sizes, around)


def _rle(case: Case, position: int, region: Region) -> masks.Rle:
    frame = case.frames[position]
    return _pixels(region, (frame.height, frame.width))


def _pixels(region: Region, size: tuple[int, int]) -> masks.Rle:
    if region.mask is not None:
        return region.mask
    assert region.box is not None  # a region has one of the two
    return masks.from_box(region.box, *size)


def _size_of(image: np.ndarray) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _diagonal(size: tuple[int, int]) -> float:
    return math.hypot(*size)


def _told_apart(view: _View, type_: int, distances: Mapping[int, float], visible: float) -> tuple[Cue, int] | None:
    """A cue without words where the answer is nearest by more than ``visible``, and the number of the next candidate.

    The score is the margin over the sum of both distances, the just visible difference added to it, so that small
    distances to both are no certainty.
    """
    mine = distances.get(view.answer)
    others = {number: d for number, d in distances.items() if number != view.answer}
    if mine is None or not others:
        return None
    rival = min(others, key=lambda number: (others[number], number))
    margin = others[rival] - mine
    score = margin / (others[rival] + mine + visible)
    if margin < visible or score < MIN_SCORE:
        return None
    measures = {"answer": round(mine, 4), "next": round(others[rival], 4), "rival": float(rival)}
    return Cue(type=type_, score=round(min(score, 1.0), 4), evidence="-", measures=measures), rival


def _said(cue: Cue, words: str, **more: float) -> Cue:
    return cue.model_copy(update={"evidence": words, "measures": cue.measures | more})


def _color(view: _View) -> Cue | None:
    distances = {n: float(np.linalg.norm(view.query.color - c.color)) for n, c in view.looks.items()}
    if (found := _told_apart(view, 1, distances, _COLOR)) is None:
        return None
    cue, rival = found
    mine = cue.measures["answer"]
    words = (
        f"its colour, on average {color_name(view.query.color)}, is nearest: {mine:.0f} apart in CIELAB, "
        f"object {rival} is {distances[rival]:.0f} apart"
    )
    return _said(cue, words)


def _shape(view: _View) -> Cue | None:
    distances = {n: float(np.abs(view.query.hu - c.hu).sum()) for n, c in view.looks.items()}
    if (found := _told_apart(view, 2, distances, _SHAPE)) is None:
        return None
    cue, rival = found
    mine = cue.measures["answer"]
    words = f"its outline is the most similar: Hu moments differ by {mine:.2f}, those of object {rival} by "
    return _said(cue, f"{words}{distances[rival]:.2f}")


def _size(view: _View) -> Cue | None:
    scale = math.log(math.prod(view.sizes[1]) / math.prod(view.sizes[0]))  # shares of the image, if the two differ
    distances = {n: abs(math.log(c.area / view.query.area) - scale) for n, c in view.looks.items()}
    if (found := _told_apart(view, 4, distances, _SIZE)) is None:
        return None
    cue, rival = found
    rank = 1 + sum(c.area > view.looks[view.answer].area for c in view.looks.values())
    before = 100 * view.query.area / math.prod(view.sizes[0])
    after, other = (100 * view.looks[n].area / math.prod(view.sizes[1]) for n in (view.answer, rival))
    words = (
        f"it fills {before:.1f} % of the first image and {after:.1f} % of the last, object {rival} fills {other:.1f} %"
    )
    more = {"rank": float(rank)}
    if view.around.first:
        areas = [masks.area(_pixels(region, view.sizes[0])) for region in view.around.first.values()]
        more["rank_before"] = 1.0 + sum(area > view.query.area for area in areas)
    return _said(cue, words, **more)


def _place(view: _View) -> Cue | None:
    """Sides on which its neighbours stand, where these are known, else the place in the image."""
    return _order(view) if len(view.around.first) > 2 else _place_in_image(view)


def _place_in_image(view: _View) -> Cue | None:
    (h0, w0), (h1, w1) = view.sizes
    x, y = view.query.center
    far = _diagonal(view.sizes[1])
    distances = {n: math.hypot(c.center[0] - x * w1 / w0, c.center[1] - y * h1 / h0) for n, c in view.looks.items()}
    found = _told_apart(view, 5, {n: d / far for n, d in distances.items()}, _PLACE)
    if found is None:
        return None
    cue, rival = found
    words = (
        f"it is near its place in the first image: {100 * cue.measures['answer']:.0f} % of the diagonal away, "
        f"object {rival} is {100 * cue.measures['next']:.0f} % away"
    )
    return _said(cue, words)


def _order(view: _View) -> Cue | None:
    """The share of neighbours that stand on another side than before: left or right, in front or behind."""
    tracks = {c.number: c.region.id for c in view.case.candidates}
    was = {n: _place_of(view, view.around.first[t]) for n, t in tracks.items() if t in view.around.first}
    known = {n: place for n, place in was.items() if place and n in view.looks and n != view.answer}
    here = (view.query.center[0], view.query.bottom)
    distances = {}
    for number, candidate in view.looks.items():
        neighbours = [n for n in known if n != number]
        if len(neighbours) < 2:
            continue
        there = (candidate.center[0], candidate.bottom)
        now = {n: (view.looks[n].center[0], view.looks[n].bottom) for n in neighbours}
        turned_over = sum((known[n][k] < here[k]) != (now[n][k] < there[k]) for n in neighbours for k in (0, 1))
        distances[number] = turned_over / (2 * len(neighbours))
    if (found := _told_apart(view, 5, distances, _ORDER)) is None:
        return None
    cue, rival = found
    words = (
        f"its neighbours stand as before: {100 * (1 - cue.measures['answer']):.0f} % of their sides (left or right, in "
        f"front or behind) are kept, around object {rival} {100 * (1 - cue.measures['next']):.0f} %"
    )
    return _said(cue, words, neighbours=float(len([n for n in known if n != rival])))


def _place_of(view: _View, region: Region) -> Vector | None:
    """Centre (x) and lower edge (y) of a region of the first image, in pixels; the lower, the nearer."""
    x, y, w, h = masks.bbox(_pixels(region, view.sizes[0]))
    return (x + w / 2, float(y + h)) if w else None


def _orientation(view: _View) -> Cue | None:
    if view.query.elongation < _LONG or view.looks[view.answer].elongation < _LONG:
        return None
    # what is as round as a ball has no direction: it differs, but not by an angle
    distances = {n: turned(view.query.angle, c.angle) for n, c in view.looks.items() if c.elongation >= _LONG}
    if len(distances) < len(view.looks) or (found := _told_apart(view, 6, distances, _ANGLE)) is None:
        return None
    cue, rival = found
    words = f"it is turned the same way: its long axis by {cue.measures['answer']:.0f} degrees, that of object {rival} "
    return _said(cue, f"{words}by {cue.measures['next']:.0f}")


def _motion(view: _View) -> Cue | None:
    tracks = {c.number: c.region.id for c in view.case.candidates}
    before = view.around.moving_first.get(view.case.query[0].id)
    least = _MOVES * _diagonal(view.sizes[0])
    if before is None or math.hypot(*before) < least:
        return None
    moving = {n: view.around.moving_last[t] for n, t in tracks.items() if t in view.around.moving_last}
    after = {n: v for n, v in moving.items() if math.hypot(*v) >= least and n in view.looks}
    distances = {n: abs(_degrees(before, v)) for n, v in after.items()}
    if (found := _told_apart(view, 6, distances, 2 * _ANGLE)) is None:
        return None
    cue, rival = found
    words = f"it goes on moving {_direction(before)}: {cue.measures['answer']:.0f} degrees off its way, object {rival} "
    return _said(cue, f"{words}{cue.measures['next']:.0f}", speed=round(math.hypot(*before), 2))


def _degrees(a: Vector, b: Vector) -> float:
    """Angle from one direction to the other, -180..180."""
    return math.degrees(math.atan2(a[0] * b[1] - a[1] * b[0], a[0] * b[0] + a[1] * b[1]))


def _direction(v: Vector) -> str:
    if abs(v[0]) >= abs(v[1]):
        return "to the right" if v[0] > 0 else "to the left"
    return "down" if v[1] > 0 else "up"


def _binding(view: _View) -> Cue | None:
    """A marked object that touches the query in the first image, the answer in the last, and no other candidate."""
    if view.boxes or not view.around.first:
        return None
    shapes = {c.number: _rle(view.case, -1, c.region) for c in view.case.candidates if c.number in view.looks}
    found: list[tuple[float, int]] = []
    for candidate in view.case.candidates:
        partner, track = candidate.number, candidate.region.id
        if partner == view.answer or partner not in shapes or track not in view.around.first:
            continue
        before = _contact(view.query.rle, _pixels(view.around.first[track], view.sizes[0]))
        after = _contact(shapes[view.answer], shapes[partner])
        others = [_contact(rle, shapes[partner]) for n, rle in shapes.items() if n not in (partner, view.answer)]
        score = min(before, after) - max(others, default=0.0)
        if score >= MIN_SCORE and others:
            found.append((score, partner))
    if not found:
        return None
    score, partner = max(found, key=lambda pair: (pair[0], -pair[1]))
    words = f"it touches object {partner} in both images, and no other candidate does so as closely"
    return Cue(type=7, score=round(min(score, 1.0), 4), evidence=words, measures={"partner": float(partner)})


def _contact(a: masks.Rle, b: masks.Rle) -> float:
    """How closely two masks touch: pixels of ``b`` within 3 px of ``a`` over half the side of a square as large as the
    smaller of the two, at most 1."""
    boxes = masks.bboxes([a, b])
    low = boxes[:, :2].max(axis=0) - _TOUCH
    high = (boxes[:, :2] + boxes[:, 2:]).min(axis=0) + _TOUCH
    if (low >= high).any() or a.size != b.size:
        return 0.0
    first, second = masks.decode(a), masks.decode(b)
    (x0, y0), (x1, y1) = np.maximum(low - _TOUCH, 0).astype(int), (high + _TOUCH).astype(int)
    grown = cv2.dilate(first[y0:y1, x0:x1], np.ones((2 * _TOUCH + 1,) * 2, np.uint8))
    near = int(np.count_nonzero(grown[second[y0:y1, x0:x1] > 0]))
    return min(1.0, near / (_TOUCH * 0.5 * math.sqrt(min(masks.area(a), masks.area(b)))))


def _pattern(view: _View) -> Cue | None:
    """Marks on the object: keypoints that the query shares with the answer, and with no other candidate as many."""
    matches = {n: pattern_matches(view.query, c) for n, c in view.looks.items()}
    others = {n: count for n, count in matches.items() if n != view.answer}
    rival = max(others, key=lambda n: (others[n], -n))
    mine, most = matches[view.answer], others[rival]
    score = (mine - most) / (mine + most + _MATCHES)
    if mine - most < _MATCHES or score < MIN_SCORE:
        return None
    words = f"its pattern recurs: {mine} details are found again, on object {rival} only {most}"
    measures = {"answer": float(mine), "next": float(most), "rival": float(rival)}
    return Cue(type=8, score=round(score, 4), evidence=words, measures=measures)


def _text(view: _View, read_text: ReadText) -> Cue | None:
    words = {n: read_text(c.pixels) for n, c in view.looks.items()}
    mine = read_text(view.query.pixels) & words[view.answer]
    others: frozenset[str] = frozenset().union(*(found for n, found in words.items() if n != view.answer))
    if not (alone := sorted(mine - others, key=lambda w: (-len(w), w))):
        return None
    score = min(1.0, 0.5 + 0.1 * len(alone[0]))  # a longer word is less likely misread
    evidence = f'the text "{alone[0]}" is written on it in both images, and on no other candidate'
    return Cue(type=3, score=round(score, 4), evidence=evidence, measures={"letters": float(len(alone[0]))})
