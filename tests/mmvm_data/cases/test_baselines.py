"""Blind baselines: each rule chooses what it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmvm_data.cases import baselines, prompts
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Candidate, Case, Frame, Region

HEIGHT, WIDTH = 60, 80


def make_box_case(
    query: tuple[int, int, int, int] | None,
    boxes: list[tuple[int, int, int, int]],
    answer: int | None = 1,
    as_boxes: bool = False,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Case:
    def region(name: str, box: tuple[int, int, int, int] | None) -> Region:
        if as_boxes and box:
            return Region(id=name, box=box)
        return Region(id=name, mask=masks.from_box(box or (0, 0, 0, 0), size[1], size[0]))

    numbers = range(1, len(boxes) + 1)
    return Case(
        id="c",
        frames=tuple(Frame(path=f"{k}.jpg", index=k, width=size[0], height=size[1]) for k in range(2)),
        query=(region("q", query),),
        candidates=tuple(Candidate(number=n, region=region(str(n), b)) for n, b in zip(numbers, boxes, strict=True)),
        answer=answer,
        question=prompts.format_question(),
        options=prompts.build_options(numbers, answer),
    )


BOXES = [(0, 0, 10, 10), (40, 30, 20, 20), (60, 2, 6, 6)]


@pytest.mark.parametrize("as_boxes", [False, True])
@pytest.mark.parametrize(
    ("name", "query", "expected"),
    [
        ("first", (1, 1, 3, 3), "A"),
        ("largest", (1, 1, 3, 3), "B"),
        ("nearest_place", (58, 0, 8, 8), "C"),
        ("nearest_place", (45, 40, 2, 2), "B"),
        ("same_size", (70, 50, 6, 5), "C"),
        ("same_size", (0, 0, 11, 11), "A"),
    ],
)
def test_each_baseline_follows_its_rule(
    name: str, query: tuple[int, int, int, int], expected: str, as_boxes: bool
) -> None:
    assert baselines.BASELINES[name](make_box_case(query, BOXES, as_boxes=as_boxes)) == expected


def test_without_a_visible_query_the_first_option_is_chosen() -> None:
    for name in ("nearest_place", "same_size", "nearest_color"):
        assert baselines.BASELINES[name](make_box_case(None, BOXES)) == "A"


def test_only_offered_candidates_are_chosen() -> None:
    boxes = [(k, 0, 1, 1 + k % 3) for k in range(30)]
    boxes[28] = (0, 0, 50, 50)  # the largest, which no letter stands for
    many = make_box_case((0, 0, 2, 2), boxes)
    assert baselines.choose_largest(many) in {o.letter for o in many.options}


def test_random_is_fixed_by_case_and_seed_and_covers_all_options() -> None:
    one = make_box_case((0, 0, 3, 3), BOXES)
    assert baselines.choose_random(one) == baselines.choose_random(one)
    found = Counter(baselines.choose_random(one, seed) for seed in range(4000))
    assert set(found) == {"A", "B", "C", "D"}
    assert all(abs(count - 1000) < 120 for count in found.values())


@pytest.mark.parametrize("scale", [1, 20])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_colors_are_read_at_any_size(tmp_path: Path, scale: int, suffix: str) -> None:
    size = (WIDTH * scale, HEIGHT * scale)
    boxes = [tuple(v * scale for v in box) for box in BOXES]
    made = make_box_case((2 * scale, 40 * scale, 9 * scale, 9 * scale), boxes, size=size)
    colors = [(0, 0, 200), (0, 180, 0), (200, 80, 0)]
    second = np.full((size[1], size[0], 3), 90, np.uint8)
    for (x, y, w, h), color in zip(boxes, colors, strict=True):
        second[y : y + h, x : x + w] = color
    for expected, color in zip("ABC", colors, strict=True):
        first = np.full_like(second, 90)
        first[40 * scale : 49 * scale, 2 * scale : 11 * scale] = np.array(color) + 20
        for k, image in enumerate((first, second)):
            cv2.imwrite(str(tmp_path / f"{k}.{suffix}"), image)
        frames = tuple(f.model_copy(update={"path": f"{k}.{suffix}"}) for k, f in enumerate(made.frames))
        placed = made.model_copy(update={"frames": frames}).with_root(tmp_path)
        assert baselines.choose_nearest_color(placed) == expected


def test_a_thin_object_of_a_large_image_has_a_color(tmp_path: Path) -> None:
    size = (3840, 2160)
    made = make_box_case((101, 103, 1, 1), [(1001, 1001, 3, 1), (2001, 1003, 1, 3)], size=size)
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[:, :1500] = (0, 0, 220)
    image[:, 1500:] = (0, 220, 0)
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"{k}.jpg"), image)
    assert baselines.choose_nearest_color(made.with_root(tmp_path)) == "A"


def test_missing_images_raise_an_error(tmp_path: Path) -> None:
    made = make_box_case((0, 0, 5, 5), BOXES)
    with pytest.raises(InputError, match="does not say in which folder"):
        baselines.choose_nearest_color(made)
    with pytest.raises(InputError, match="cannot be read"):
        baselines.choose_nearest_color(made.with_root(tmp_path))
