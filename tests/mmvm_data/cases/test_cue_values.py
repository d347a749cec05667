"""Cues of appearance, size and order with score, measures and words, from distances computed apart from the code."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from mmvm_data.cases import cues
from mmvm_data.cases.appearance import color_name, measure_appearance
from mmvm_data.cases.cues import Surroundings
from mmvm_data.core import masks
from mmvm_data.core.types import Cue
from tests.mmvm_data.cases.cue_scenes import (
    FIRST,
    LAST,
    check,
    cues_of,
    make_case,
    paint,
    region,
)
from tests.mmvm_data.cases.scenes import to_lab


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
