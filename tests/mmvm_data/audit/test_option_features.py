"""Numbers of each option: what they say of known boxes, and that none of them is the answer."""

from __future__ import annotations

import numpy as np
import pytest

from mmvm_data.audit.case_measures import MeasuredCases, measure_case
from mmvm_data.audit.option_features import COLUMNS, FEATURE_GROUPS, measure_options
from mmvm_data.cases.baselines import CaseColors
from mmvm_data.core.types import Case
from tests.builds import make_case
from tests.mmvm_data.cases.test_baselines import HEIGHT, WIDTH, make_box_case

BOXES = [(0, 0, 10, 10), (40, 30, 20, 20), (60, 2, 6, 6)]


def measure(case: Case, colors: CaseColors | None = None) -> np.ndarray:
    return measure_options(MeasuredCases([measure_case(case, colors)]))


def column(features: np.ndarray, name: str) -> list[float]:
    return [float(value) for value in features[:, COLUMNS.index(name)]]


def test_groups_name_each_column_once() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS) == sum(map(len, FEATURE_GROUPS.values()))


def test_known_boxes() -> None:
    features = measure(make_box_case((40, 20, 20, 20), BOXES))
    assert features.shape == (4, len(COLUMNS))  # the last option is "none of the above"
    assert column(features, "is_none") == [0, 0, 0, 1]
    assert column(features, "number")[:3] == [1, 2, 3]
    assert column(features, "letter") == [0, 1, 2, 3]
    assert column(features, "x")[:2] == pytest.approx([5 / WIDTH, 50 / WIDTH])
    assert column(features, "rank_area")[:3] == [1, 0, 2]
    assert column(features, "rank_left")[:3] == [0, 1, 2]
    assert column(features, "rank_shift")[:3] == [2, 0, 1]
    assert column(features, "shift_over_nearest")[1] == 0
    assert column(features, "shift")[1] == pytest.approx(10 / HEIGHT)
    assert column(features, "nearest_shift") == pytest.approx([10 / HEIGHT] * 4)
    assert column(features, "overlap")[:3] == pytest.approx([0, 200 / 600, 0])
    assert column(features, "area_ratio")[0] == pytest.approx(np.log(1 / 4))
    assert np.isnan(column(features, "x")[3])
    assert np.isnan(features[:, COLUMNS.index("lightness")]).all()


def test_colors_are_compared_where_they_are_known() -> None:
    colors = CaseColors(np.array([50.0, 0, 0]), {1: np.array([50.0, 3, 4]), 2: np.array([52.0, 0, 0]), 3: None})
    features = measure(make_box_case((40, 20, 20, 20), BOXES), colors)
    assert column(features, "color_difference")[:2] == pytest.approx([5, 2])
    assert column(features, "rank_color_difference")[:2] == [1, 0]
    assert np.isnan(column(features, "rank_color_difference")[2])
    assert column(features, "query_lightness") == [50] * 4


@pytest.mark.parametrize("query", [(40, 20, 20, 20), None])
def test_the_answer_is_not_among_them(query: tuple[int, int, int, int] | None) -> None:
    one, other = (measure(make_box_case(query, BOXES, answer=answer)) for answer in (1, 3))
    np.testing.assert_array_equal(one, other)


def test_cases_of_every_kind_have_finite_or_missing_numbers() -> None:
    for k in range(20):
        features = measure(make_case(k))
        assert features.shape == (len(make_case(k).options), len(COLUMNS))
        assert not np.isinf(features).any()


def test_cases_that_are_measured_together_have_the_same_numbers_as_alone() -> None:
    cases = [make_case(k) for k in range(20)] + [make_box_case(None, BOXES), make_box_case((40, 20, 20, 20), BOXES[:1])]
    together = measure_options(MeasuredCases([measure_case(case) for case in cases]))
    np.testing.assert_array_equal(together, np.concatenate([measure(case) for case in cases]))
