"""Intervals and tests for shares of right answers, with NumPy and integers; no table of a distribution is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95


class Share(NamedTuple):
    """A share of right answers.

    Attributes:
        hits, n: right answers, and of how many.
        value: hits / n, 0..1; None (never NaN) for n = 0.
        low, high: bootstrap interval (percentiles), 0..1.
        wilson_low, wilson_high: Wilson's score interval, which has a width at 0 and 1 too.
    """

    hits: int
    n: int
    value: float | None
    low: float | None
    high: float | None
    wilson_low: float | None
    wilson_high: float | None


class McNemar(NamedTuple):
    """Paired comparison of two models.

    Attributes:
        only_first, only_second: cases that only one of the two got right; the others carry no information.
        exact: two-sided p-value of the exact conditional test.
        mid_p: its mid-p version, which is less conservative and keeps its level in practice (Fagerland, Lydersen and
            Laake, BMC Medical Research Methodology 13:91, 2013); the one to report.
    """

    only_first: int
    only_second: int
    exact: float
    mid_p: float


class Difference(NamedTuple):
    """Second minus first share over the same cases.

    Attributes:
        n: cases that both have.
        first, second: hits.
        value: second - first over n, -1..1.
        low, high: bootstrap interval over cases, the two models kept together.
        test: McNemar's.
        adjusted: mid-p after Holm's correction over its family of tests; None outside a family.
    """

    n: int
    first: int
    second: int
    value: float | None
    low: float | None
    high: float | None
    test: McNemar
    adjusted: float | None = None


def share(hits: int, n: int, seed: int = 0, resamples: int = RESAMPLES) -> Share:
    """Return a share with its 95 % intervals.

    The bootstrap draws n cases with replacement, so the hits of a resample are binomial with n and hits / n: all
    resamples are one vector of such numbers, which is the same as drawing the cases one by one.

    Args:
        hits: 0..n.
        n: cases.
        seed: of the resamples.
        resamples: their number.

    Raises:
        ValueError: hits are not within 0..n.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"{hits} hits of {n}")
    if n == 0:
        return Share(0, 0, None, None, None, None, None)
    shares = np.random.default_rng(seed).binomial(n, hits / n, resamples) / n
    low, high = np.quantile(shares, _tail_quantiles())
    return Share(hits, n, hits / n, float(low), float(high), *_wilson_interval(hits, n))


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """Return McNemar's test from the numbers of discordant cases: under the null both kinds are equally likely.

    Raises:
        ValueError: a number is negative.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"discordant cases {only_first}, {only_second} must not be negative")
    n, k = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return McNemar(0, 0, 1.0, 1.0)
    total = ways = 1  # integers: exact for any n
    for i in range(1, k + 1):
        ways = ways * (n - i + 1) // i
        total += ways
    scale = 2 ** (n - 1)
    exact = min(1.0, total / scale)
    mid_p = 1 - math.comb(n, k) / 2 ** (n + 1) if 2 * k == n else total / scale - ways / 2**n
    return McNemar(only_first, only_second, exact, mid_p)


def difference(first: Sequence[bool], second: Sequence[bool], seed: int = 0, resamples: int = RESAMPLES) -> Difference:
    """Return the difference of two models on the same cases, in the same order.

    A resample of pairs is one draw from the multinomial of (only the first, only the second, the same).

    Raises:
        ValueError: the lengths differ.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} cases cannot be paired")
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    n = len(a)
    test = mcnemar(int((a & ~b).sum()), int((b & ~a).sum()))
    hits = int(a.sum()), int(b.sum())
    if n == 0:
        return Difference(0, *hits, None, None, None, test)
    same = n - test.only_first - test.only_second
    shares = np.array([test.only_first, test.only_second, same]) / n
    counts = np.random.default_rng(seed).multinomial(n, shares, resamples)
    low, high = np.quantile((counts[:, 1] - counts[:, 0]) / n, _tail_quantiles())
    return Difference(n, *hits, (hits[1] - hits[0]) / n, float(low), float(high), test)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in order (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def _tail_quantiles() -> tuple[float, float]:
    return (1 - LEVEL) / 2, (1 + LEVEL) / 2


def _wilson_interval(hits: int, n: int) -> tuple[float, float]:
    z = 1.959963984540054  # the normal distribution's 0.975 quantile
    center = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, center - half), min(1.0, center + half)
