"""Blind baselines: each rule chooses what it says."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmvm_data.cases import baselines, prompts
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Candidate, Case, Frame, Region
from tests.mmvm_data.cases.scenes import to_lab

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


def test_a_wide_image_and_masks_of_another_orientation(tmp_path: Path) -> None:
    """Masks lie in frames of their own sides: a box near the right edge of a wide image has the color there."""
    made = make_box_case((100, 5, 9, 9), [(140, 20, 12, 12), (3, 2, 12, 12)], as_boxes=True, size=(160, 40))
    image = np.full((40, 160, 3), 90, np.uint8)
    image[:, 90:] = (0, 0, 220)
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), image)
    frames = tuple(f.model_copy(update={"path": f"{k}.png"}) for k, f in enumerate(made.frames))
    assert baselines.choose_nearest_color(made.model_copy(update={"frames": frames}).with_root(tmp_path)) == "A"


def test_the_latest_image_that_shows_the_query_is_measured() -> None:
    shown, hidden = (Region(id="q", mask=masks.from_box(box, HEIGHT, WIDTH)) for box in ((60, 2, 6, 6), (0, 0, 0, 0)))
    one = make_box_case((0, 0, 10, 10), BOXES)
    frames = (*one.frames[:1] * 3, one.frames[1])
    case = one.model_copy(update={"frames": frames, "query": (one.query[0], shown, hidden)})
    assert baselines.choose_nearest_place(case) == "C"
    assert baselines.choose_same_size(case) == "C"


def test_places_and_sizes_are_shares_of_each_image() -> None:
    case = make_box_case((40, 30, 20, 20), [(70, 50, 40, 40), (40, 30, 20, 20)])
    frames = (case.frames[0], case.frames[1].model_copy(update={"width": 2 * WIDTH, "height": 2 * HEIGHT}))
    regions = [Region(id="a", box=(80, 60, 40, 40)), Region(id="b", box=(40, 30, 20, 20))]
    candidates = tuple(Candidate(number=n, region=region) for n, region in enumerate(regions, 1))
    case = case.model_copy(update={"frames": frames, "candidates": candidates})
    assert baselines.choose_nearest_place(case) == "A"
    assert baselines.choose_same_size(case) == "A"
    twins = [Candidate(number=n, region=regions[0]) for n in (2, 1)]
    tied = case.model_copy(update={"candidates": tuple(twins)})
    for choose in (baselines.choose_largest, baselines.choose_nearest_place, baselines.choose_same_size):
        assert choose(tied) == "A"


def test_numbers_of_regions() -> None:
    box, mask = Region(id="1", box=(1.5, 2, 3.5, 4)), Region(id="1", mask=masks.from_box((4, 6, 5, 3), HEIGHT, WIDTH))
    assert (baselines.region_size(box), baselines.box_center(box)) == (14.0, (3.25, 4))
    assert (baselines.region_size(mask), baselines.box_center(mask)) == (15.0, (6.5, 7.5))
    case = make_box_case((0, 0, 3, 3), BOXES)
    assert [baselines.option_letter(case, number) for number in (1, 3, None, 4)] == ["A", "C", "D", None]
    backwards = case.model_copy(update={"candidates": case.candidates[::-1], "options": case.options[1:]})
    assert [c.number for c in baselines.offered_candidates(backwards)] == [2, 3]
    unnumbered = case.model_copy(update={"options": case.options[3:]})
    assert baselines.choose_largest(unnumbered) == "D"


def test_random_choices_of_a_few_cases_never_change() -> None:
    case = make_box_case((0, 0, 3, 3), BOXES)
    letters = [baselines.choose_random(case.model_copy(update={"id": f"case_{k}"}), k % 3) for k in range(24)]
    digests = [hashlib.sha256(f"{k % 3}\0case_{k}".encode()).hexdigest() for k in range(24)]
    assert letters == ["ABCD"[int(digest, 16) % 4] for digest in digests]


def test_colors_of_cells_at_a_fraction_of_the_size() -> None:
    """At a quarter of the size, the corner pixel of each cell of 4 x 4 says whether the cell belongs to the object."""
    frame = Frame(path="0.jpg", index=0, width=64, height=48)
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    for x, y, w, h in (
        (0, 0, 64, 48),
        (5, 3, 20, 18),
        (8, 12, 9, 5),
        (61, 45, 3, 3),
        (1, 1, 3, 3),
        (1, 1, 2, 3),
        (9, 14, 3, 1),
    ):
        cells = [(r, c) for r in range(12) for c in range(16) if x <= 4 * c < x + w and y <= 4 * r < y + h]
        if not cells:  # the middle pixel of the mask, row by row
            pixels = [(y + r, x + c) for r in range(h) for c in range(w)]
            cells = [(pixels[len(pixels) // 2][0] // 4, pixels[len(pixels) // 2][1] // 4)]
        expected = to_lab(np.mean([image[cell] for cell in cells], axis=0))
        region = Region(id="1", mask=masks.from_box((x, y, w, h), 48, 64))
        assert baselines.measure_in_image(image, region, frame)[2] == pytest.approx(expected, abs=0.3)
    empty = Region(id="1", mask=masks.from_box((0, 0, 0, 0), 48, 64))
    assert baselines.measure_in_image(image, empty, frame) == (0, (0, 0, 0, 0), None)
    a, b = np.array([1.0, 2.0, 3.0]), np.array([4.0, 6.0, 3.0])
    assert baselines.color_distance(a, b) == 5
    assert baselines.color_distance(None, b) == baselines.color_distance(a, None) == math.inf


def test_images_that_were_read_already_are_used() -> None:
    case = make_box_case((2, 2, 9, 9), BOXES)
    first, last = np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    first[2:11, 2:11] = last[30:50, 40:60] = (0, 180, 0)
    assert baselines.choose_nearest_color(case, {0: first, 1: last}) == "B"
    with pytest.raises(InputError, match="does not say in which folder its images lie"):
        baselines.choose_nearest_color(case, {0: first})
