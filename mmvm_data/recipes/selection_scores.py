"""What blind baselines score on a pool of cases and on those chosen from it, and what the pool lacks where that is not
chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.baseline_scores import (
    GRADIENT_BOOSTING,
    LEARNED_BASELINES,
    BaselineScore,
    interval_width,
    score_answers,
    score_baselines,
)
from mmvm_data.audit.case_table import CaseTable
from mmvm_data.audit.gradient_boosting import pick_letters, predict_held_out
from mmvm_data.core.plurals import pluralize
from mmvm_data.recipes.balanced_subset import Column, Sums, compute_shares

MIN_SOURCE_CASES = 100
"""A source with fewer chosen cases is not balanced by itself, only with the others."""
ALL_SOURCES = ""
_CLOSE = 0.01  # of the accuracy, what counts as chance
_SLACK = 0.01  # of sums over the cases, far below _CLOSE of them
_MAX_EXAMINED = 6_000  # cases of the pool by which it is estimated how many can be chosen


@dataclass(frozen=True)
class Comparison:
    """A baseline's score on the pool and on the chosen cases.

    Attributes:
        source: whose cases, ALL_SOURCES for all.
        pool, chosen: scores with intervals.
        pool_misses, pool_hits: cases of the pool that the baseline answers wrong, those without a right candidate left
            out, and right; None for baselines that learn.
        answerable: number of chosen cases that have a right candidate.
    """

    source: str
    pool: BaselineScore
    chosen: BaselineScore
    pool_misses: int | None
    pool_hits: int | None
    answerable: int

    @property
    def deviation(self) -> float:
        """Chosen score minus chance where the interval does not hold chance, else 0."""
        score = self.chosen
        return 0.0 if score.low <= score.chance <= score.high else score.score - score.chance

    def describe(self) -> str:
        """One sentence for a baseline whose interval does not hold chance: by how much, and what the pool lacks."""
        score, where = self.chosen, f" on {self.source}" if self.source else ""
        side = "above" if self.deviation > 0 else "below"
        text = f"{score.baseline}{where} scores {score.score:.1%} ({score.low:.1%} - {score.high:.1%}), "
        text += f"{100 * abs(self.deviation):.1f} points {side} chance, which is {score.chance:.1%}"
        right = score.chance * score.cases
        if self.pool_misses is None or self.pool_hits is None:
            if self.deviation < 0:
                return f"{text}; what other videos show fails in these, which more cases even out"
            return f"{text}; more cases are needed in which {score.rule!r} is wrong" if score.rule else text
        if self.deviation > 0:
            needed, has, how = round(self.answerable - right), self.pool_misses, "wrong"
        else:
            needed, has, how = round(right), self.pool_hits, "right"
        text += f"; {pluralize(score.cases, 'case')} need {needed} that it answers {how}, the pool has {has}"
        short = f"{needed - has} too few" if has < needed else "enough for it alone, not with the others at chance"
        return f"{text}, {short}"

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "source": self.source or None,
            "pool": self.pool.to_json(),
            "chosen": self.chosen.to_json(),
            "pool_misses": self.pool_misses,
            "pool_hits": self.pool_hits,
            "deviation": round(self.deviation, 6),
        }


@dataclass(frozen=True)
class Selection:
    """Chosen cases and what the baselines score on them.

    Attributes:
        chosen: bool [cases] of the pool.
        comparisons: of all baselines on all sources, then of those that do not learn on each source.
        missed_by_all: cases of the pool that all baselines answer wrong which are above chance in the chosen cases.
        none_cases: chosen cases with the answer "none of the above".
        reachable: about how many cases can be chosen such that gradient boosting knows nothing of them; None where it
            was not fitted.
        reachable_fixed: about how many cases, of as many as are chosen, the baselines that do not learn leave, see
            ``count_reachable``; None where all of them end at chance.
    """

    chosen: NDArray[np.bool_]
    comparisons: tuple[Comparison, ...]
    missed_by_all: int
    none_cases: int
    reachable: int | None = None
    reachable_fixed: int | None = None

    @property
    def warnings(self) -> list[str]:
        """Each baseline that does not end at chance, in one sentence, and what the pool lacks."""
        found = [comparison for comparison in self.comparisons if comparison.deviation]
        warnings = [comparison.describe() for comparison in found]
        above = sorted({c.chosen.baseline for c in found if c.deviation > 0 and c.pool_misses is not None})
        if above:
            count = f"{self.missed_by_all} of {pluralize(len(self.chosen), 'case')}"
            warnings.append(f"the pool needs more cases that {', '.join(above)} answer wrong; it has {count}")
        if self.reachable_fixed is not None and self.reachable_fixed < self.chosen.sum():
            what = "cases on which the baselines that do not learn are at chance together"
            warnings.append(self._describe_pool(self.reachable_fixed, what))
        if self.reachable is not None and any(
            c.chosen.baseline == GRADIENT_BOOSTING and c.deviation > 0 for c in found
        ):
            warnings.append(self._describe_pool(self.reachable, f"cases of which {GRADIENT_BOOSTING} knows nothing"))
        return warnings

    def _describe_pool(self, reachable: int, what: str) -> str:
        """How many cases the pool has of a kind, and how large a pool like it, or what kind of one, would be needed."""
        wanted = int(self.chosen.sum())
        if not reachable:
            return f"the pool has no {what}, and a larger pool like it would have none"
        needed = -(-len(self.chosen) * wanted // reachable)
        return (
            f"the pool has about {reachable} {what}; {wanted} need a pool of about {needed} such cases, or one of "
            "harder cases"
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "pool_cases": len(self.chosen),
            "cases": int(self.chosen.sum()),
            "baselines": [comparison.to_json() for comparison in self.comparisons],
            "missed_by_all": self.missed_by_all,
            "reachable": self.reachable,
            "reachable_fixed": self.reachable_fixed,
            "warnings": self.warnings,
        }


@dataclass(frozen=True)
class PoolAnswers:
    """What gradient boosting says of the pool.

    Attributes:
        letters: its answer to each case, int16 [cases].
        reachable: see ``Selection``.
    """

    letters: NDArray[np.int16]
    reachable: int


def compare_cases(cases: CaseTable, chosen: NDArray[np.bool_], answers: PoolAnswers | None = None) -> Selection:
    """What the baselines score on all cases and on the chosen ones, bool [cases].

    Args:
        cases: the pool.
        chosen: bool [cases].
        answers: of ``choose_resistant``, where it has chosen.
    """
    z = interval_width()
    subset = cases.take(chosen)
    scores = [{s.baseline: s for s in score_baselines(part)} for part in (cases, subset)]
    comparisons = []
    answerable = _count_answerable(subset)
    for name in scores[0].keys() & scores[1].keys() - {"random"}:
        misses = None if name in LEARNED_BASELINES else _count_misses(cases, name)
        hits = None if name in LEARNED_BASELINES else _count_hits(cases, name)
        comparisons.append(Comparison(ALL_SOURCES, scores[0][name], scores[1][name], misses, hits, answerable))
    order = list(scores[0])
    comparisons.sort(key=lambda comparison: order.index(comparison.pool.baseline))
    boosted = [_score_boosting(cases, z, answers.letters if answers else None), _score_boosting(subset, z)]
    if boosted[0] and boosted[1]:
        comparisons.append(Comparison(ALL_SOURCES, boosted[0], boosted[1], None, None, answerable))
    numbers, counts = np.unique(subset.sources, return_counts=True)
    large = numbers[counts >= MIN_SOURCE_CASES].tolist() if len(numbers) > 1 else []
    for number in sorted(large, key=cases.source_names.__getitem__):
        comparisons += _compare_source(cases, subset, number, z)
    above = {c.chosen.baseline for c in comparisons if c.deviation > 0} - {*LEARNED_BASELINES, GRADIENT_BOOSTING}
    missed = int(np.logical_and.reduce([_mark_misses(cases, name) for name in above]).sum()) if above else 0
    none_cases = int(subset.is_none.sum())
    reachable = answers.reachable if answers else None
    is_missed = any(comparison.deviation and comparison.pool_misses is not None for comparison in comparisons)
    reachable_fixed = count_reachable(cases, chosen) if is_missed else None
    return Selection(chosen, tuple(comparisons), missed, none_cases, reachable, reachable_fixed)


def count_reachable(cases: CaseTable, chosen: NDArray[np.bool_]) -> int:
    """Return about how many cases, as many as are chosen at most, can be chosen such that all baselines that do not
    learn are at chance on all of them, within _CLOSE.

    The sources and "none of the above" have the shares that they have in the chosen cases. Of a large pool, every n-th
    case is looked at.

    Args:
        cases: the pool.
        chosen: bool [cases].
    """
    groups = (*(cases.sources == number for number in np.unique(cases.sources)), cases.is_none)
    step = -(-len(cases) // _MAX_EXAMINED)
    is_part = np.arange(len(cases)) % step == 0
    part, most = cases.take(is_part), min(int(chosen.sum()) // step, int(is_part.sum()))
    columns = [part.residuals(part.answers[name]) for name in fixed_baselines(part)]
    columns += [group[is_part] - group[chosen].mean() for group in groups]
    sums = Sums.from_columns(Column(values, slack=_SLACK) for values in columns)
    low, high = 0, most
    while low < high:
        count = (low + high + 1) // 2
        shares = compute_shares(sums, count)
        if max(abs(float(shares @ values.read())) for values in sums.values) <= _CLOSE * count:
            low = count
        else:
            high = count - 1
    return low * step


def _score_boosting(cases: CaseTable, z: float, letters: NDArray[np.int16] | None = None) -> BaselineScore | None:
    if letters is None:
        chances = predict_held_out(cases, np.ones(len(cases), bool))
        if chances is None:
            return None
        letters = pick_letters(cases, chances)
    return score_answers(GRADIENT_BOOSTING, cases, letters, None, z)


def _compare_source(cases: CaseTable, subset: CaseTable, source: int, z: float) -> Iterator[Comparison]:
    pool, own = (part.take(part.sources == source) for part in (cases, subset))
    for name in fixed_baselines(own):
        scores = [score_answers(name, part, part.answers[name], None, z) for part in (pool, own)]
        misses, hits = _count_misses(pool, name), _count_hits(pool, name)
        yield Comparison(cases.source_names[source], scores[0], scores[1], misses, hits, _count_answerable(own))


def _count_misses(cases: CaseTable, baseline: str) -> int:
    return int(_mark_misses(cases, baseline).sum())


def _count_answerable(cases: CaseTable) -> int:
    return int((~cases.is_none).sum())


def _count_hits(cases: CaseTable, baseline: str) -> int:
    return int((cases.answers[baseline] == cases.right).sum())


def _mark_misses(cases: CaseTable, baseline: str) -> NDArray[np.bool_]:
    letters = cases.answers[baseline]
    misses: NDArray[np.bool_] = (letters != 0) & ~cases.is_none & (letters != cases.right)
    return misses


def fixed_baselines(cases: CaseTable) -> list[str]:
    """Return the names of the baselines that do not learn; random ones are at chance anyway."""
    return [name for name, letters in cases.answers.items() if name != "random" and letters.any()]
