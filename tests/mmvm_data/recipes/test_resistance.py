"""Selections in which no blind baseline beats chance or falls below it, and what is said where there is none."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mmvm_data.audit import gradient_boosting
from mmvm_data.audit.case_table import CaseTable, LearnedCase
from mmvm_data.cases import baselines
from mmvm_data.recipes.resistance import select_resistant
from mmvm_data.recipes.selection_scores import ALL_SOURCES, Selection
from tests.mmvm_data.audit.learned_cases import learn_case
from tests.mmvm_data.cases.test_baselines import make_box_case


def make_pool(count: int, near: float, seed: int = 0) -> tuple[list[str], list[LearnedCase]]:
    """Cases of four boxes of two sources; the answer is where the query was in a share ``near`` of the first source,
    and half as often in the second."""
    rng = random.Random(seed)
    cases = []
    for k in range(count):
        source = "ab"[k % 2]
        boxes = [(rng.randrange(60), rng.randrange(40), *rng.choices(range(6, 18), k=2)) for _ in range(4)]
        query = (rng.randrange(60), rng.randrange(40), 11, 11)
        case = make_box_case(query, boxes, answer=1)
        nearest = baselines.choose_nearest_place(case)
        number = next(option.number for option in case.options if option.letter == nearest)
        others = [c.number for c in case.candidates if c.number != number]
        is_near = rng.random() < (near if source == "a" else near / 2)
        case = make_box_case(query, boxes, answer=number if is_near else rng.choice(others))
        cases.append(learn_case(case, str(k // 8), source))
    return [f"case_{k:06d}" for k in range(count)], cases


def _deviations(selection: Selection) -> dict[tuple[str, str], float]:
    return {(c.chosen.baseline, c.source): c.chosen.score - c.chosen.chance for c in selection.comparisons}


@pytest.mark.usefixtures("no_boosting")
def test_baselines_end_at_chance_on_all_sources_and_on_each() -> None:
    ids, cases = make_pool(800, near=0.7)
    table = CaseTable.from_cases(cases)
    selection = select_resistant(ids, table, 220, seed=0)
    assert selection.chosen.sum() == 220
    before = {c.source: c.pool for c in selection.comparisons if c.pool.baseline == "nearest_place"}
    assert before[ALL_SOURCES].beats_chance() and before["a"].score > 0.6
    deviations = _deviations(selection)
    for name in ("first", "largest", "nearest_place", "same_size"):
        for source in (ALL_SOURCES, "a", "b"):
            assert abs(deviations[name, source]) < 0.02, (name, source)
    assert not selection.warnings
    sources = [case.source for case, is_chosen in zip(cases, selection.chosen, strict=True) if is_chosen]
    assert abs(sources.count("a") - 110) <= 3
    again = select_resistant(ids, table, 220, seed=0)
    assert (again.chosen == selection.chosen).all() and again.to_json() == selection.to_json()
    assert (select_resistant(ids, table, 220, seed=1).chosen != selection.chosen).any()


@pytest.mark.usefixtures("no_boosting")
def test_all_cases_of_a_pool_can_be_chosen() -> None:
    ids, cases = make_pool(40, near=0.3)
    table = CaseTable.from_cases(cases)
    assert select_resistant(ids, table, 40, seed=0).chosen.all()


@pytest.mark.slow
def test_gradient_boosting_is_pushed_toward_chance() -> None:
    pytest.importorskip("sklearn")
    ids, cases = make_pool(500, near=0.8)
    table = CaseTable.from_cases(cases)
    chosen = select_resistant(ids, table, 120, seed=0)
    boosted = next(c for c in chosen.comparisons if c.pool.baseline == "gradient_boosting")
    assert boosted.pool.score > 0.4
    assert boosted.deviation == 0
    assert chosen.reachable is not None and 100 < chosen.reachable < 400
    much = select_resistant(ids, table, 450, seed=0)
    assert much.warnings[-1].startswith(
        f"the pool has about {much.reachable} cases of which gradient_boosting knows nothing"
    )
    assert gradient_boosting.predict_held_out(table, np.zeros(len(table), bool)) is None
