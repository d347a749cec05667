"""Answers of many cases at once are those of the baselines one by one; ranks name the candidates that they say."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mmvm_data.audit.baseline_answers import answer_cases, apply_rules, describe_rules
from mmvm_data.audit.case_measures import MeasuredCases, measure_case
from mmvm_data.cases import baselines
from mmvm_data.core.types import Case
from tests.builds import make_case
from tests.mmvm_data.cases.test_baselines import HEIGHT, WIDTH, make_box_case

BOXES = [(1, 1, 4, 4), (20, 10, 8, 8), (60, 30, 12, 12)]


def rules_of(case: Case) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(letters[0].tolist()) for name, letters in apply_rules(MeasuredCases([measure_case(case)])).items()
    }


def random_case(rng: random.Random) -> Case:
    """Few sides and places, so that many candidates are equally near."""
    as_boxes = rng.random() < 0.3
    sides = (5, 6, 9) if as_boxes else (0, 6, 9)
    boxes = [(*rng.choices((0, 12, 30), k=2), *rng.choices(sides, k=2)) for _ in range(rng.randrange(1, 30))]
    boxes[0] = (*boxes[0][:2], 9, 6)
    query = rng.choice([None, (30, 12, 9, 6), (0, 0, 6, 6)])
    case = make_box_case(query, boxes, answer=rng.choice([1, None]), as_boxes=as_boxes)
    options = rng.sample(case.options, len(case.options)) if rng.random() < 0.5 else case.options
    return case.model_copy(update={"options": tuple(options)})


def test_answers_are_those_of_each_baseline() -> None:
    rng, values = random.Random(0), np.random.default_rng(0)
    cases = [random_case(rng) for _ in range(150)]
    images = {k: values.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for k in range(2)}
    colors = [baselines.measure_colors(case, images.__getitem__) if k % 3 else None for k, case in enumerate(cases)]
    measured = MeasuredCases([measure_case(case, own) for case, own in zip(cases, colors, strict=True)])
    found = answer_cases(measured)
    for k, (case, own) in enumerate(zip(cases, colors, strict=True)):
        letters = {name: answers[k] for name, answers in found.items() if answers[k]}
        expected = {name: choose(case) for name, choose in baselines.BASELINES.items() if "color" not in name}
        if own is not None:
            expected["nearest_color"] = baselines.choose_nearest_color(case, images)
        del expected["random"]
        assert letters == expected


def test_rules_name_every_answer() -> None:
    names = describe_rules()
    for k in range(20):
        found = rules_of(make_case(k))
        assert {name: len(answers) for name, answers in found.items()} == {n: len(r) for n, r in names.items()}
        assert all(set(answers) <= {o.letter for o in make_case(k).options} for answers in found.values())
    grown = rules_of(make_box_case((0, 0, 5, 5), BOXES))  # boxes of growing size from left to right
    assert grown["size_rank"][:4] == ("C", "B", "A", "A")
    assert grown["size_rank"][6:9] == ("A", "B", "C")
    assert grown["most_common_answer"][:6] == ("D", "A", "B", "C", "D", "A")
    by_place = dict(zip(names["place_rank"], grown["place_rank"], strict=True))
    assert [by_place[name] for name in ("leftmost", "rightmost", "topmost", "lowest")] == ["A", "C", "A", "C"]
    assert by_place["number 2 of the leftmost"] == "B" and by_place["nearest to the center"] == "B"
    assert by_place["farthest from the center"] == "A"


def test_equal_candidates_rank_by_number_beside_larger_cases() -> None:
    even = make_box_case((0, 0, 5, 5), [(10, 10, 6, 6)] * 3)
    many = make_box_case((0, 0, 5, 5), [(k, k, 4 + k, 4) for k in range(25)])
    together, alone = apply_rules(MeasuredCases([measure_case(case) for case in (even, many)])), rules_of(even)
    assert {name: tuple(letters[0].tolist()) for name, letters in together.items()} == alone
    assert alone["size_rank"][:4] == alone["size_rank"][6:10] == ("A", "B", "C", "A")


@pytest.mark.parametrize("query", [None, (0, 0, 6, 6)])
def test_without_offered_candidates_the_first_option_is_chosen(query: tuple[int, int, int, int] | None) -> None:
    case = make_box_case(query, BOXES[:1], answer=None)
    case = case.model_copy(update={"options": case.options[-1:]})
    letters = answer_cases(MeasuredCases([measure_case(case)]))
    assert {str(own[0]) for own in letters.values()} == {case.options[0].letter, ""}  # colors are not known
