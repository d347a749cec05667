"""Which cases of the pool become part of the benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmvm_data.recipes.multi_source.plan import Plan
from mmvm_data.recipes.multi_source.pool import Pool, PooledCase


@dataclass(frozen=True)
class Choice:
    """The chosen cases.

    Attributes:
        cases: in the order of the pool.
        shortfalls: what could not be reached, one sentence each.
        scores: scores of the baselines before and after, as JSON values; None where nothing was chosen by them.
    """

    cases: list[PooledCase]
    shortfalls: tuple[str, ...] = ()
    scores: dict[str, Any] | None = None


def choose_cases(plan: Plan, pool: Pool) -> Choice:
    """Choose the cases of a recipe. Equal arguments give equal choices."""
    shortfalls = []
    counts = count_wanted(plan, pool)
    for source, count in zip(plan.sources, counts, strict=True):
        if source.wanted is not None and count < source.wanted:
            shortfalls.append(f"source {source.name!r} gives {count} cases, {source.wanted} are wanted")
    return Choice(list(pool.cases), tuple(shortfalls))


def count_wanted(plan: Plan, pool: Pool) -> list[int]:
    """The number of cases of each source that can be kept."""
    counts = []
    for number, source in enumerate(plan.sources):
        built = sum(case.stage == number for case in pool.cases)
        wanted = built // source.pool_factor if source.wanted is None else source.wanted
        counts.append(min(built, max(wanted, 1)))
    return counts
