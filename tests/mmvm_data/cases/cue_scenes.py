"""Cases of rectangles for the tests of cues, and the rule by which a cue holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from mmvm_data.cases import prompts
from mmvm_data.cases.cues import propose_cues
from mmvm_data.core import masks
from mmvm_data.core.types import Candidate, Case, Cue, Frame, Region

FIRST, LAST = (120, 200), (240, 400)
"""Height and width of the two images."""

Rect = tuple[int, int, int, int]
Size = tuple[int, int]
MOTION = {"a": (4.0, 0.5), "b": (-4.0, 0.0), "c": (0.0, 4.0)}
ROW = {"b": (20, 20, 40, 40), "a": (90, 20, 40, 40), "c": (150, 20, 40, 40)}


def region(name: str, rect: Rect, size: Size) -> Region:
    return Region(id=name, mask=masks.from_box(rect, *size))


def make_case(
    queries: Sequence[Rect], rects: Mapping[str, Rect], sizes: Sequence[Size] = (FIRST, LAST), as_boxes: bool = False
) -> Case:
    """A case whose answer is "a"; a rectangle without area hides the query."""

    def make_region(name: str, rect: Rect, size: Size) -> Region:
        return Region(id=name, box=rect) if as_boxes else region(name, rect, size)

    numbers = range(1, len(rects) + 1)
    answer = list(rects).index("a") + 1
    return Case(
        id="c",
        frames=tuple(Frame(path=f"{k}.jpg", index=k, width=w, height=h) for k, (h, w) in enumerate(sizes)),
        query=tuple(make_region("a", rect, size) for rect, size in zip(queries, sizes[:-1], strict=True)),
        candidates=tuple(
            Candidate(number=n, region=make_region(name, rect, sizes[-1]))
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
