"""Cues of motion, contact, pattern and text, and which of them stay, from distances computed apart from the code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest

from mmvm_data.cases import cues
from mmvm_data.cases.cues import Surroundings, propose_cues
from mmvm_data.core import masks
from mmvm_data.core.types import Cue
from tests.mmvm_data.cases.cue_scenes import (
    FIRST,
    LAST,
    MOTION,
    ROW,
    Rect,
    cues_of,
    make_case,
    paint,
    region,
)


def motion_cue(before: tuple[float, float], after: Mapping[str, tuple[float, float]], name: str = "a") -> Cue | None:
    around = Surroundings({}, {name: before}, after)
    return cues_of(make_case([(30, 30, 20, 20)], ROW), surroundings=around).get(6)


@pytest.mark.usefixtures("no_pattern")
def test_motion_by_angle() -> None:
    cue = motion_cue((4.0, 0.0), MOTION)
    words = "it goes on moving to the right: 7 degrees off its way, object 3 90"
    measures = {"answer": 7.125, "next": 90.0, "rival": 3.0, "speed": 4.0}
    assert cue == Cue(type=6, score=0.6842, evidence=words, measures=measures)
    # an object that rests has no direction: below 0.002 of the diagonal a frame
    least = 0.002 * math.hypot(*FIRST)
    assert motion_cue((least * 1.01, 0.0), MOTION) is not None
    assert motion_cue((least * 0.99, 0.0), MOTION) is None
    resting = motion_cue((4.0, 0.0), MOTION | {"c": (0.0, least * 0.99)})
    assert resting is not None
    assert resting.measures["rival"] == 1
    assert motion_cue((4.0, 0.0), {"a": (4.0, 0.0)}) is None
    assert motion_cue((4.0, 0.0), MOTION, name="b") is None
    # the least difference is 24 degrees
    for degrees, exists in ((23.5, False), (24.5, True)):
        vector = (math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
        assert (motion_cue((4.0, 0.0), {"a": (3.0, 0.0), "b": vector}) is not None) == exists


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ((3.0, 3.0), "to the right"),
        ((-3.0, 3.0), "to the left"),
        ((-3.0, 2.9), "to the left"),
        ((2.9, 3.0), "down"),
        ((2.9, -3.0), "up"),
        ((0.0, -3.0), "up"),
    ],
)
@pytest.mark.usefixtures("no_pattern")
def test_motion_in_words(before: tuple[float, float], words: str) -> None:
    cue = motion_cue(before, {"a": before, "b": (-before[0], -before[1])})
    assert cue is not None
    speed = round(math.hypot(*before), 2)
    assert cue.measures == {"answer": 0.0, "next": 180.0, "rival": 1.0, "speed": speed}
    assert cue.evidence == f"it goes on moving {words}: 0 degrees off its way, object 1 180"


def contact(a: np.ndarray, b: np.ndarray) -> float:
    """Pixels of b within a square of 3 pixels around those of a, over half the side of a square, 3 pixels deep."""
    grown = np.zeros_like(a)
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            ys, xs = np.nonzero(a)
            ys, xs = ys + dy, xs + dx
            inside = (ys >= 0) & (ys < a.shape[0]) & (xs >= 0) & (xs < a.shape[1])
            grown[ys[inside], xs[inside]] = 1
    return min(1.0, float((grown & b).sum()) / (3 * 0.5 * math.sqrt(min(a.sum(), b.sum()))))


def test_contact_of_random_masks() -> None:
    rng = np.random.default_rng(0)
    values = []
    for _ in range(150):
        a, b = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
        for bitmap in (a, b):
            h, w = rng.integers(4, 22, 2)
            y, x = rng.integers(0, 30 - h + 1), rng.integers(0, 40 - w + 1)
            bitmap[y : y + h, x : x + w] = cv2.GaussianBlur(rng.random((h, w)), (0, 0), 1.5) > 0.49
        if a.any() and b.any():
            values.append(contact(a, b))
            assert cues._contact_strength(masks.encode(a), masks.encode(b)) == pytest.approx(values[-1])
    assert 0 in values and 1 in values
    assert sum(0 < value < 1 for value in values) > 10
    assert cues._contact_strength(masks.encode(np.ones((5, 5))), masks.encode(np.ones((5, 6)))) == 0


@pytest.mark.parametrize("gap", range(6))
def test_contact_at_a_distance(gap: int) -> None:
    a, b = np.zeros((30, 50), np.uint8), np.zeros((30, 50), np.uint8)
    a[5:15, 5:15] = b[5:15, 15 + gap : 25 + gap] = 1
    expected = min(1.0, max(3 - gap, 0) * 10 / 15)
    for first, second in ((a, b), (b, a), (a.T, b.T)):
        assert cues._contact_strength(masks.encode(first), masks.encode(second)) == pytest.approx(expected)


BEFORE = {"a": (60, 40, 20, 20), "b": (80, 40, 20, 20), "c": (150, 40, 20, 20), "d": (10, 90, 20, 20)}


def binding_cue(after: Mapping[str, Rect], known: str = "bcd", as_boxes: bool = False) -> Cue | None:
    first = {name: region(name, BEFORE[name], FIRST) for name in known}
    case = make_case([BEFORE["a"]], after, as_boxes=as_boxes)
    return cues_of(case, surroundings=Surroundings(first)).get(7)


@pytest.mark.usefixtures("no_pattern")
def test_binding() -> None:
    after = {"d": (20, 180, 40, 40), "a": (120, 80, 40, 40), "b": (160, 80, 40, 40), "c": (300, 80, 40, 40)}
    words = "it touches object 3 in both images, and no other candidate does so as closely"
    assert binding_cue(after) == Cue(type=7, score=1.0, evidence=words, measures={"partner": 3.0})
    assert binding_cue(after, known="cd") is None
    assert binding_cue(after, known="") is None
    assert binding_cue(after, as_boxes=True) is None
    assert binding_cue({name: after[name] for name in "ab"}) is None  # nothing else could touch it
    # c touches the partner as closely
    assert binding_cue(after | {"c": (200, 80, 40, 40)}) is None
    # 2 pixels between c and b: one row of the three touches, a third of the strength is lost
    nearly = binding_cue(after | {"c": (202, 80, 40, 40)})
    assert nearly is not None
    assert nearly.score == pytest.approx(1 - min(1, 40 / 60), abs=1e-4)
    # the lesser of both contacts counts: 2 pixels between answer and partner
    apart = binding_cue(after | {"b": (162, 80, 40, 40)})
    assert apart is not None
    assert apart.score == pytest.approx(40 / 60, abs=1e-4)
    # 9 of 40 rows touch, which is less than the lowest score; of 15 rows it is enough
    assert binding_cue(after | {"b": (163, 80, 40, 40)}) is None
    # a partner without pixels in the last image
    assert binding_cue(after | {"b": (0, 0, 0, 0)}) is None


@pytest.mark.usefixtures("no_pattern")
def test_closest_partner_is_named() -> None:
    first = {"b": (80, 40, 20, 20), "c": (38, 40, 20, 20)}  # c is 2 pixels away
    after = {"a": (120, 80, 40, 40), "b": (160, 80, 40, 40), "c": (80, 80, 40, 40), "d": (300, 180, 40, 40)}
    for swapped, partner in ((False, 2.0), (True, 3.0)):
        around = {name: first["bc"["cb".index(name)] if swapped else name] for name in "bc"}
        regions = {name: region(name, rect, FIRST) for name, rect in around.items()}
        cue = cues_of(make_case([BEFORE["a"]], after), surroundings=Surroundings(regions))[7]
        assert (cue.measures, cue.score) == ({"partner": partner}, 1.0)
    even = {name: region(name, rect, FIRST) for name, rect in {"b": (80, 40, 20, 20), "c": (40, 40, 20, 20)}.items()}
    cue = cues_of(make_case([BEFORE["a"]], after), surroundings=Surroundings(even))[7]
    assert cue.measures == {"partner": 2.0}


@pytest.mark.parametrize(
    ("counts", "score", "rival"),
    [
        ((3, 20, 9), 0.3235, 3),  # (20 - 9) / (20 + 9 + 5)
        ((9, 20, 9), 0.3235, 1),
        ((0, 5, 0), 0.5, 1),
        ((0, 4, 0), None, None),
        ((30, 50, 9), None, None),  # 20 / 85
        ((5, 10, 4), 0.25, 1),
        ((50, 3, 4), None, None),
    ],
)
def test_pattern(
    counts: tuple[int, int, int], score: float | None, rival: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_left = {ROW[name][0]: count for name, count in zip("bac", counts, strict=True)}

    def count(query: Any, candidate: Any) -> int:
        assert query.center == (39.5, 39.5)
        return by_left[round(candidate.center[0] - 19.5)]

    monkeypatch.setattr(cues, "count_pattern_matches", count)
    cue = cues_of(make_case([(30, 30, 20, 20)], ROW)).get(8)
    if score is None or rival is None:
        assert cue is None
        return
    second = counts[rival - 1]
    words = f"its pattern recurs: {counts[1]} details are found again, on object {rival} only {second}"
    measures = {"answer": float(counts[1]), "next": float(second), "rival": float(rival)}
    assert cue == Cue(type=8, score=score, evidence=words, measures=measures)


@pytest.mark.parametrize(
    ("query", "words", "text", "score"),
    [
        ("TAXI BUS 12", ("BUS", "TAXI 12", ""), "TAXI", 0.9),
        ("TAXI BUS 12", ("TAXI", "TAXI BUS 12", ""), "BUS", 0.8),
        ("ZOO BUS", ("", "BUS ZOO", ""), "BUS", 0.8),
        ("AB", ("", "AB", ""), "AB", 0.7),
        ("POLICE1", ("", "POLICE1", "POLICE"), "POLICE1", 1.0),
        ("TAXI", ("", "TAXI", "TAXI"), None, None),
        ("TAXI", ("", "BUS", ""), None, None),
    ],
)
@pytest.mark.usefixtures("no_pattern")
def test_text(query: str, words: tuple[str, str, str], text: str | None, score: float | None) -> None:
    colors = [(0, 0, 50), (0, 0, 100), (0, 0, 150)]
    images = [paint(FIRST, [(30, 30, 20, 20)], [(0, 0, 200)]), paint(LAST, list(ROW.values()), colors)]
    by_level = {200: query, **dict(zip((50, 100, 150), words, strict=True))}

    def read(pixels: np.ndarray) -> frozenset[str]:
        return frozenset(by_level[int(pixels[0, 0, 2])].split())

    cue = cues_of(make_case([(30, 30, 20, 20)], ROW), images, read_text=read).get(3)
    if text is None or score is None:
        assert cue is None
        return
    evidence = f'the text "{text}" is written on it in both images, and on no other candidate'
    assert cue == Cue(type=3, score=score, evidence=evidence, measures={"letters": float(len(text))})


@pytest.mark.usefixtures("no_pattern")
def test_of_two_cues_of_a_type_the_clearer_one_stays_and_the_clearest_type_comes_first() -> None:
    rects = {"a": (90, 20, 60, 20), "b": (20, 90, 20, 60), "c": (200, 90, 20, 60)}
    case = make_case([(45, 10, 30, 10)], rects)
    turned = cues_of(case)[6]
    assert (turned.score, turned.measures["next"]) == (0.8824, 90.0)  # 90 / (90 + 12)
    for second, is_motion in (((-4.0, 0.0), True), ((-4.0, 0.5), False), ((0.0, 4.0), False)):
        around = Surroundings({}, {"a": (4.0, 0.0)}, {"a": (4.0, 0.0), "b": second})
        cue = cues_of(case, surroundings=around)[6]
        assert ("goes on moving" in cue.evidence) == is_motion
    scores = [(-cue.score, cue.type) for cue in propose_cues(case, [paint(FIRST, []), paint(LAST, [])])]
    assert scores == sorted(scores)
    assert len(scores) > 1
    types = set(cues_of(make_case([(45, 10, 30, 10)], rects, as_boxes=True)))
    assert not types & {2, 6, 7}
    assert 5 in types


@pytest.mark.usefixtures("no_pattern")
def test_query_that_the_first_image_hides_is_measured_in_the_second() -> None:
    sizes = (FIRST, (100, 100), LAST)
    rects = {"b": (200, 20, 80, 60), "a": (20, 20, 80, 40), "c": (20, 160, 40, 20)}
    queries: list[Rect] = [(0, 0, 0, 0), (5, 10, 25, 12)]
    around = Surroundings({name: region(name, (90, 90, 8, 8), FIRST) for name in "bcd"})
    found = cues_of(make_case(queries, rects, sizes), surroundings=around)
    # 3 % of the second image; the neighbors in the first image are no evidence
    assert found[4].evidence == "it fills 3.0 % of the first image and 3.3 % of the last, object 1 fills 5.0 %"
    assert "rank_before" not in found[4].measures
    assert found[5].evidence.startswith("it is near its place in the first image")
    nothing: Rect = (0, 0, 0, 0)
    for broken in (make_case([nothing, nothing], rects, sizes), make_case(queries, rects | {"a": nothing}, sizes)):
        assert cues_of(broken) == {}
    assert cues_of(make_case(queries, {"a": rects["a"], "b": nothing}, sizes)) == {}


def test_message_about_the_number_of_images() -> None:
    with pytest.raises(ValueError) as caught:
        propose_cues(make_case([(5, 10, 20, 10)], ROW), [paint(FIRST, [])])
    assert str(caught.value) == "c: 1 image for 2 frames"
