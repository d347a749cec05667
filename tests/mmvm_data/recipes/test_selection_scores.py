"""What is said where a pool does not allow that every baseline ends at chance: by how much, and what is lacking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmvm_data.audit.case_table import CaseTable
from mmvm_data.recipes.resistance import select_resistant
from mmvm_data.recipes.selection_scores import compare_cases
from tests.mmvm_data.recipes.test_resistance import make_pool


@pytest.mark.usefixtures("no_boosting")
def test_what_the_pool_lacks_is_counted() -> None:
    pairs = [pair for pair in zip(*make_pool(800, near=1.0), strict=True) if pair[1].source == "b"]
    ids, cases = [name for name, _ in pairs], [case for _, case in pairs]
    table = CaseTable.from_cases(cases)
    selection = select_resistant(ids, table, 350, seed=0)
    misses = sum(case.answers.letters["nearest_place"] != case.answers.answer for case in cases)
    [nearest] = [c for c in selection.comparisons if c.chosen.baseline == "nearest_place"]
    points = 100 * (nearest.chosen.score - nearest.chosen.chance)
    assert points > 15
    text = next(text for text in selection.warnings if text.startswith("nearest_place scores"))
    assert f" {points:.1f} points above chance, which is 25.0%; " in text
    assert text.endswith(f"350 cases need 262 that it answers wrong, the pool has {misses}, {262 - misses} too few")
    assert "nearest_place" in selection.warnings[-2]
    assert f"it has {selection.missed_by_all} of 400 cases" in selection.warnings[-2]
    # with every wrong case of the pool and a third as many right ones it would be at chance
    reachable = selection.reachable_fixed
    assert reachable == pytest.approx(misses / 0.75, rel=0.05)
    assert selection.warnings[-1].startswith(f"the pool has about {reachable} cases on which the baselines that do not")
    assert f"350 need a pool of about {-(-400 * 350 // reachable)} such cases" in selection.warnings[-1]
    assert select_resistant(ids, table, reachable * 9 // 10, seed=0).reachable_fixed is None


@pytest.mark.usefixtures("no_boosting")
def test_a_pool_of_whose_sources_one_is_always_solved() -> None:
    """The sources keep their shares, so that half of the cases are solved however few are chosen."""
    ids, cases = make_pool(400, near=1.0)
    selection = select_resistant(ids, CaseTable.from_cases(cases), 120, seed=0)
    assert selection.reachable_fixed == 0
    assert selection.warnings[-1] == (
        "the pool has no cases on which the baselines that do not learn are at chance together, "
        "and a larger pool like it would have none"
    )


@pytest.mark.usefixtures("no_boosting")
def test_what_a_pool_lacks_in_which_a_baseline_is_never_right() -> None:
    ids, cases = make_pool(400, near=0.0)
    selection = select_resistant(ids, CaseTable.from_cases(cases), 200, seed=0)
    text = next(text for text in selection.warnings if text.startswith("nearest_place scores 0.0%"))
    assert "25.0 points below chance, which is 25.0%; " in text
    assert text.endswith("200 cases need 50 that it answers right, the pool has 0, 50 too few")
    assert selection.warnings[-1] == (
        "the pool has no cases on which the baselines that do not learn are at chance together, "
        "and a larger pool like it would have none"
    )


@pytest.mark.usefixtures("no_boosting")
def test_cases_without_a_right_candidate_are_not_wanted_for_a_baseline() -> None:
    """A baseline that names a candidate is wrong there by definition, and their share is fixed."""
    _, cases = make_pool(400, near=1.0)
    changed = [replace(case, answers=replace(case.answers, answer=case.answers.none)) for case in cases[:80]]
    selection = compare_cases(CaseTable.from_cases([*changed, *cases[80:]]), np.ones(400, bool))
    [nearest] = [c for c in selection.comparisons if c.chosen.baseline == "nearest_place" and not c.source]
    assert (nearest.answerable, nearest.chosen.cases) == (320, 400)
    assert f"400 cases need 240 that it answers wrong, the pool has {nearest.pool_misses}" in nearest.describe()
