"""Intervals and tests against scipy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from colva.evaluation.scoring import statistics


@pytest.mark.parametrize(("hits", "n"), [(70, 200), (3, 25), (199, 200), (755, 1510)])
def test_bootstrap_interval_is_that_of_resampled_cases(hits: int, n: int) -> None:
    cases = np.r_[np.ones(hits), np.zeros(n - hits)]
    theirs = stats.bootstrap(
        (cases,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    ours = statistics.share(hits, n, seed=1)
    assert ours.value == hits / n
    # a limit is a whole number of cases; two draws may differ by one
    assert abs(ours.low - theirs.low) <= 1.01 / n
    assert abs(ours.high - theirs.high) <= 1.01 / n
    exact = stats.binom.ppf([0.025, 0.975], n, hits / n) / n
    assert np.abs(np.array([ours.low, ours.high]) - exact).max() <= 1.01 / n


@given(st.integers(1, 400), st.data())
def test_wilson_interval(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    ours = statistics.share(hits, n, resamples=10)
    assert (ours.wilson_low, ours.wilson_high) == pytest.approx(proportion_confint(hits, n, method="wilson"), abs=1e-9)


def test_shares_of_nothing_and_of_everything() -> None:
    assert statistics.share(0, 0)[2:] == (None,) * 5
    none = statistics.share(0, 10)
    assert (none.low, none.high) == (0, 0)
    assert none.wilson_high > 0.2
    with pytest.raises(ValueError, match="11 hits of 10"):
        statistics.share(11, 10)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar(b: int, c: int) -> None:
    ours = statistics.mcnemar(b, c)
    theirs = reference_mcnemar([[7, b], [c, 9]], exact=True).pvalue if b + c else 1.0
    assert ours.exact == pytest.approx(theirs, rel=1e-6, abs=1e-150)
    # mid-p: half of the observed table's weight, both tails (Fagerland et al. 2013, equation 4)
    k, n = min(b, c), b + c
    mid = 2 * stats.binom.cdf(k, n, 0.5) - stats.binom.pmf(k, n, 0.5) if b != c else 1 - stats.binom.pmf(k, n, 0.5) / 2
    assert ours.mid_p == pytest.approx(mid if n else 1.0, rel=1e-6, abs=1e-150)
    assert 0 < ours.mid_p <= ours.exact <= 1


def test_difference_of_paired_cases() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random(300) < 0.4, rng.random(300) < 0.5
    ours = statistics.difference(first, second, seed=2)
    assert (ours.n, ours.first, ours.second) == (300, first.sum(), second.sum())
    assert ours.value == pytest.approx(second.mean() - first.mean())
    theirs = stats.bootstrap(
        (second.astype(float) - first,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=1.1 / 300)
    swapped = statistics.difference(second, first)
    assert (swapped.value, swapped.test.mid_p) == (-ours.value, ours.test.mid_p)
    with pytest.raises(ValueError, match="paired"):
        statistics.difference([True], [])


@settings(max_examples=30)  # statsmodels takes 40 ms a list
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm(p_values: list[float]) -> None:
    assert statistics.holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_same_seed_same_interval() -> None:
    assert statistics.share(40, 100, seed=4) == statistics.share(40, 100, seed=4)
