"""Subsets with sums of 0: exact where the cases allow, near where they do not, spread over what is not summed."""

from __future__ import annotations

import numpy as np
import pytest

from mmvm_data.recipes import balanced_subset
from mmvm_data.recipes.balanced_subset import TIGHT, Column, Sums, choose_balanced, compute_shares


def _values(cases: int, hit_rates: tuple[float, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.random((cases, len(hit_rates))) < hit_rates) - 0.25


def _sums(values: np.ndarray, slack: tuple[float, ...] = (TIGHT,) * 3) -> Sums:
    return Sums.from_columns(Column(own, slack=own_slack) for own, own_slack in zip(values.T, slack, strict=False))


def test_shares_sum_to_the_count_and_balance() -> None:
    values = _values(2000, (0.5, 0.6, 0.2))
    shares = compute_shares(_sums(values), 500)
    assert shares.min() >= 0 and shares.max() <= 1
    np.testing.assert_allclose(shares.sum(), 500, atol=0.5)
    np.testing.assert_allclose(values.T @ shares, 0, atol=2)
    # cases of equal values have equal shares
    same = (values == values[0]).all(axis=1)
    np.testing.assert_allclose(shares[same], shares[0])


def test_shares_that_cannot_balance_come_as_near_as_they_can() -> None:
    values = _values(1000, (0.95, 0.3))
    shares = compute_shares(_sums(values), 500)
    np.testing.assert_allclose(shares.sum(), 500, atol=0.5)
    misses = values[:, 0] < 0
    assert shares[misses].min() > 0.99
    loose = compute_shares(_sums(values, (500.0, TIGHT)), 500)
    assert shares[~misses].mean() < loose[~misses].mean() < 0.5


def test_chosen_cases_are_as_many_as_wanted_and_repaired() -> None:
    values = _values(2000, (0.5, 0.6, 0.2))
    keys = np.random.default_rng(1).random(2000)
    columns = zip(values.T, (0.0, 12.0, 0.0), (True, True, False), strict=True)
    sums = Sums.from_columns(Column(own, target=target, is_repaired=repaired) for own, target, repaired in columns)
    for count in (1, 37, 500, 2000):
        chosen = choose_balanced(sums, count, keys)
        assert chosen.sum() == count
        assert (chosen == choose_balanced(sums, count, keys)).all()
        if count == 500:
            assert np.abs(values[chosen].sum(axis=0) - (0, 12, 0))[:2].max() < 1
    other = choose_balanced(sums, 500, 1 - keys)
    assert (other != choose_balanced(sums, 500, keys)).any()


def test_pools_of_several_blocks_are_balanced_as_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = _values(900, (0.5, 0.6, 0.2))
    expected = compute_shares(_sums(values), 200)
    monkeypatch.setattr(balanced_subset, "_BLOCK", 128)
    np.testing.assert_allclose(compute_shares(_sums(values), 200), expected, atol=1e-9)
