"""Every cue with its score, measures and words, from distances computed apart from the code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from mmvm_data.cases import cues, prompts
from mmvm_data.cases.appearance import color_name, measure_appearance
from mmvm_data.cases.cues import Surroundings, propose_cues
from mmvm_data.core import masks
from mmvm_data.core.types import Candidate, Case, Cue, Frame, Region
from tests.mmvm_data.cases.scenes import to_lab

FIRST, LAST = (120, 200), (240, 400)
"""Height and width of the two images."""

Rect = tuple[int, int, int, int]
Size = tuple[int, int]


def region(name: str, rect: Rect, size: Size) -> Region:
    return Region(id=name, mask=masks.from_box(rect, *size))


def make_case(
    queries: Sequence[Rect], rects: Mapping[str, Rect], sizes: Sequence[Size] = (FIRST, LAST), as_boxes: bool = False
) -> Case:
    """A case whose answer is "a"; a rectangle without area hides the query."""

    def place(name: str, rect: Rect, size: Size) -> Region:
        return Region(id=name, box=rect) if as_boxes else region(name, rect, size)

    numbers = range(1, len(rects) + 1)
    answer = list(rects).index("a") + 1
    return Case(
        id="c",
        frames=tuple(Frame(path=f"{k}.jpg", index=k, width=w, height=h) for k, (h, w) in enumerate(sizes)),
        query=tuple(place("a", rect, size) for rect, size in zip(queries, sizes[:-1], strict=True)),
        candidates=tuple(
            Candidate(number=n, region=place(name, rect, sizes[-1]))
            for n, (name, rect) in zip(numbers, rects.items(), strict=True)
        ),
        answer=answer,
        prompt="box" if as_boxes else "mask",
        question="?",
        options=prompts.build_options(numbers, answer),
    )


def paint(size: Size, rects: Sequence[Rect], colors: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    image = np.full((*size, 3), 128, np.uint8)
    for k, (x, y, w, h) in enumerate(rects):
        image[y : y + h, x : x + w] = (20, 20, 200) if colors is None else colors[k]
    return image


def cues_of(case: Case, images: Sequence[np.ndarray] | None = None, **options: Any) -> dict[int, Cue]:
    if images is None:
        images = [paint((frame.height, frame.width), []) for frame in case.frames]
    return {cue.type: cue for cue in propose_cues(case, images, **options)}


def judge(distances: Mapping[int, float], answer: int, least: float) -> tuple[float, int] | None:
    """Score and rival, where the answer is nearer than every other by the least difference."""
    others = sorted((distance, number) for number, distance in distances.items() if number != answer)
    if answer not in distances or not others:
        return None
    (second, rival), first = others[0], distances[answer]
    score = (second - first) / (second + first + least)
    return None if second - first < least or score < 0.25 else (score, rival)


def check(cue: Cue | None, distances: Mapping[int, float], answer: int, least: float, tolerance: float = 1e-4) -> bool:
    """Whether there is such a cue; it must have these distances."""
    expected = judge(distances, answer, least)
    assert (cue is None) == (expected is None)
    if cue is None or expected is None:
        return False
    score, rival = expected
    assert cue.measures["rival"] == rival
    assert cue.measures["answer"] == pytest.approx(distances[answer], abs=tolerance)
    assert cue.measures["next"] == pytest.approx(distances[rival], abs=tolerance)
    assert cue.score == pytest.approx(score, abs=tolerance)
    return True


@pytest.fixture
def no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keypoints take most of the time."""
    monkeypatch.setattr(cues, "count_pattern_matches", lambda a, b: 0)


@pytest.mark.parametrize(
    ("distances", "least", "score", "rival"),
    [
        ({1: 2.0, 2: 10.0, 3: 10.0}, 8.0, 0.4, 2),  # the least difference; of two rivals the lower number
        ({1: 2.0, 3: 10.0, 2: 10.0}, 8.0, 0.4, 2),
        ({1: 2.0, 2: 9.9}, 8.0, None, None),
        ({1: 2.0, 2: 4.0}, 2.0, 0.25, 2),  # the lowest score
        ({1: 30.0, 2: 50.0}, 8.0, None, None),
        ({1: 0.0, 2: 16.0, 3: 17.0}, 8.0, 0.6667, 2),
        ({2: 1.0, 3: 9.0}, 1.0, None, None),
        ({1: 1.0}, 1.0, None, None),
    ],
)
def test_score_is_the_margin_over_all_distances(
    distances: dict[int, float], least: float, score: float | None, rival: int | None
) -> None:
    class Measured:
        answer = 1

    found = cues._cue_if_nearest(Measured(), 4, distances, least)  # type: ignore[arg-type]
    if score is None or rival is None:
        assert found is None
        return
    assert found is not None
    cue, number = found
    measures = {"answer": distances[1], "next": distances[rival], "rival": float(rival)}
    assert (cue, number) == (Cue(type=4, score=score, evidence="-", measures=measures), rival)


@pytest.mark.usefixtures("no_pattern")
def test_size_as_a_share_of_each_image() -> None:
    rects = {"b": (200, 20, 80, 60), "a": (20, 20, 80, 40), "c": (20, 160, 40, 20)}
    case = make_case([(20, 20, 40, 20)], rects)
    words = "it fills 3.3 % of the first image and 3.3 % of the last, object 1 fills 5.0 %"
    measures = {"answer": 0.0, "next": 0.4055, "rival": 1.0, "rank": 2.0}
    assert cues_of(case)[4] == Cue(type=4, score=0.6697, evidence=words, measures=measures)
    around = Surroundings({"b": region("b", (0, 0, 60, 15), FIRST), "c": region("c", (0, 0, 20, 20), FIRST)})
    assert cues_of(case, surroundings=around)[4].measures == measures | {"rank_before": 2.0}


@pytest.mark.usefixtures("no_pattern")
def test_random_scenes() -> None:
    rng = np.random.default_rng(0)
    proposed = dict.fromkeys((1, 2, 4, 5, 6), 0)
    for _ in range(150):
        names = [str(name) for name in rng.permutation(list("abcd"))]
        sides = rng.integers(8, 60, (5, 2))
        if rng.random() < 0.5:  # all have an orientation
            sides = np.array([(16, 40), (40, 16)])[rng.integers(0, 2, 5)]
        corners = [(int(rng.integers(0, 400 - w)), int(rng.integers(0, 240 - h))) for w, h in sides]
        *given, last = [(x, y, int(w), int(h)) for (x, y), (w, h) in zip(corners, sides, strict=True)]
        rects = dict(zip(names, given, strict=True))
        query = (last[0] // 2, last[1] // 2, int(last[2] // 2), int(last[3] // 2))
        base = rng.integers(40, 216, 3)
        colors = np.clip(base + rng.integers(-40, 41, (5, 3)), 0, 255)
        case = make_case([query], rects)
        images = [paint(FIRST, [query], colors[4:]), np.full((*LAST, 3), 128, np.uint8)]
        for name, color in zip(names, colors[:4], strict=True):
            x, y, w, h = rects[name]
            images[1][y : y + h, x : x + w] = color
        found = cues_of(case, images)
        assert case.answer is not None
        seen = {n: measure_appearance(images[1], masks.from_box(rects[k], *LAST)) for n, k in enumerate(names, 1)}
        mine = measure_appearance(images[0], masks.from_box(query, *FIRST))
        assert mine is not None
        measured = {number: appearance for number, appearance in seen.items() if appearance is not None}

        color = {n: math.dist(mine.color, other.color) for n, other in measured.items()}
        proposed[1] += check(found.get(1), color, case.answer, 8.0)
        shape = {n: float(sum(abs(mine.hu - other.hu))) for n, other in measured.items()}
        proposed[2] += check(found.get(2), shape, case.answer, 0.15)
        share = query[2] * query[3] / (120 * 200)
        size = {n: abs(math.log(other.area / (240 * 400) / share)) for n, other in measured.items()}
        proposed[4] += check(found.get(4), size, case.answer, 0.2)
        center = (2 * (query[0] + (query[2] - 1) / 2), 2 * (query[1] + (query[3] - 1) / 2))
        place = {
            n: math.dist(center, (x + (w - 1) / 2, y + (h - 1) / 2)) / math.hypot(240, 400)
            for n, (x, y, w, h) in ((n, rects[name]) for n, name in enumerate(names, 1))
        }
        proposed[5] += check(found.get(5), place, case.answer, 0.05)
        long = {n: max(w, h) / min(w, h) >= 1.5 for n, (_, _, w, h) in enumerate(map(rects.get, names), 1)}  # type: ignore[misc]
        upright = {n: rects[name][3] > rects[name][2] for n, name in enumerate(names, 1)}
        angles = {n: 90.0 * (upright[n] != (query[3] > query[2])) for n in long}
        if all(long.values()) and max(query[2:]) / min(query[2:]) >= 1.5:
            proposed[6] += check(found.get(6), angles, case.answer, 12.0)
        else:
            assert 6 not in found
        for type_, cue in found.items():
            rival = int(cue.measures["rival"])
            a, b = cue.measures["answer"], cue.measures["next"]
            rank = 1 + sum(other.area > measured[case.answer].area for other in measured.values())
            shares = [100 * share, *(100 * measured[n].area / (240 * 400) for n in (case.answer, rival))]
            words = {
                1: f"its colour, on average {color_name(mine.color)}, is nearest: {a:.0f} apart in CIELAB, "
                f"object {rival} is {color[rival]:.0f} apart",
                2: f"its outline is the most similar: Hu moments differ by {a:.2f}, those of object {rival} by "
                f"{shape[rival]:.2f}",
                4: f"it fills {shares[0]:.1f} % of the first image and {shares[1]:.1f} % of the last, object {rival} "
                f"fills {shares[2]:.1f} %",
                5: f"it is near its place in the first image: {100 * a:.0f} % of the diagonal away, object {rival} is "
                f"{100 * b:.0f} % away",
                6: f"it is turned the same way: its long axis by {a:.0f} degrees, that of object {rival} by {b:.0f}",
            }
            assert cue.evidence == words[type_]
            assert set(cue.measures) == {"answer", "next", "rival"} | ({"rank"} if type_ == 4 else set())
            assert cue.source == "proposed"
            assert type_ != 4 or cue.measures["rank"] == rank
    assert min(proposed.values()) >= 2


def test_colors_by_their_definition() -> None:
    rects = {"b": (20, 20, 40, 40), "a": (90, 20, 40, 40), "c": (150, 20, 40, 40)}
    colors = [(60, 60, 200), (30, 30, 190), (200, 40, 20)]
    images = [paint(FIRST, [(30, 30, 20, 20)], [(20, 20, 200)]), paint(LAST, list(rects.values()), colors)]
    cue = cues_of(make_case([(30, 30, 20, 20)], rects), images)[1]
    lab = [to_lab(np.array(color, float)) for color in ((20, 20, 200), *colors)]
    distances = {n: math.dist(lab[0], lab[n]) for n in (1, 2, 3)}
    assert check(cue, distances, 2, 8.0, tolerance=0.3)
    assert cue.evidence.startswith("its colour, on average red, is nearest: ")


def sides(point: tuple[float, float], others: Mapping[int, tuple[float, float]]) -> dict[int, tuple[bool, bool]]:
    return {n: (x < point[0], y < point[1]) for n, (x, y) in others.items()}


@pytest.mark.usefixtures("no_pattern")
def test_order_of_neighbors_in_random_scenes() -> None:
    rng = np.random.default_rng(1)
    proposed = 0
    for _ in range(150):
        names = list("abcde")
        answer = int(rng.integers(0, 5))
        names[0], names[answer] = names[answer], names[0]
        before = {name: (int(rng.integers(0, 180)), int(rng.integers(0, 100)), 14, 12) for name in names}
        moved = {
            n: (2 * x + int(rng.integers(-30, 31)), 2 * y + int(rng.integers(-30, 31)))
            for n, (x, y, _, _) in before.items()
        }
        after = {n: (min(max(x, 0), 370), min(max(y, 0), 210), 28, 24) for n, (x, y) in moved.items()}
        hidden = str(rng.choice(list("bcde")))
        first = {n: region(n, (0, 0, 0, 0) if n == hidden else rect, FIRST) for n, rect in before.items() if n != "a"}
        found = cues_of(make_case([before["a"]], after), surroundings=Surroundings(first))
        numbers = {name: n for n, name in enumerate(after, 1)}
        known = {numbers[n]: (x + w / 2, float(y + h)) for n, (x, y, w, h) in before.items() if n not in ("a", hidden)}
        x, y, w, h = before["a"]
        here = (x + (w - 1) / 2, float(y + h))
        now = {numbers[n]: (x + (w - 1) / 2, float(y + h)) for n, (x, y, w, h) in after.items()}
        distances = {}
        for number in now:
            neighbors = {n: place for n, place in known.items() if n != number}
            was, are = sides(here, neighbors), sides(now[number], {n: now[n] for n in neighbors})
            changed = sum((was[n][k] != are[n][k]) for n in neighbors for k in (0, 1))
            distances[number] = changed / (2 * len(neighbors))
        cue = found.get(5)
        if check(cue, distances, numbers["a"], 0.25):
            assert cue is not None
            proposed += 1
            rival = int(cue.measures["rival"])
            kept, other = (100 * (1 - cue.measures[name]) for name in ("answer", "next"))
            assert cue.evidence == (
                f"its neighbours stand as before: {kept:.0f} % of their sides (left or right, in front or behind) are "
                f"kept, around object {rival} {other:.0f} %"
            )
            assert cue.measures["neighbours"] == 3 - (rival != numbers[hidden])
    assert proposed > 10


@pytest.mark.usefixtures("no_pattern")
def test_two_known_neighbors_are_no_order() -> None:
    rects = {"a": (20, 20, 40, 40), "b": (90, 20, 40, 40), "c": (150, 20, 40, 40)}
    first = {name: region(name, (10 * k, 10, 8, 8), FIRST) for k, name in enumerate("bc")}
    cue = cues_of(make_case([(10, 10, 20, 20)], rects), surroundings=Surroundings(first))[5]
    assert cue.evidence.startswith("it is near its place in the first image")


MOTION = {"a": (4.0, 0.5), "b": (-4.0, 0.0), "c": (0.0, 4.0)}
ROW = {"b": (20, 20, 40, 40), "a": (90, 20, 40, 40), "c": (150, 20, 40, 40)}


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
    assert str(caught.value) == "c: 1 images for 2 frames"
