"""What blind baselines score on a pool of cases and on those chosen from it, and what the pool lacks where that is not
chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.baseline_scores import (
    GRADIENT_BOOSTING,
    LEARNED_BASELINES,
    AnswerTable,
    BaselineScore,
    CaseAnswers,
    interval_width,
    score_answers,
    score_baselines,
)
from mmvm_data.audit.gradient_boosting import LearnedCase, predict_held_out
from mmvm_data.recipes.balanced_subset import compute_shares

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
        text += f"; {score.cases} cases need {needed} that it answers {how}, the pool has {has}"
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
            count = f"{self.missed_by_all} of {len(self.chosen)} cases"
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
        letters: its answer to each case.
        reachable: see ``Selection``.
    """

    letters: list[str]
    reachable: int


def compare_cases(
    cases: Sequence[LearnedCase], chosen: NDArray[np.bool_], answers: PoolAnswers | None = None
) -> Selection:
    """What the baselines score on all cases and on the chosen ones, bool [cases].

    Args:
        cases: the pool.
        chosen: bool [cases].
        answers: of ``choose_resistant``, where it has chosen.
    """
    z = interval_width()
    subset = [cases[k] for k in np.flatnonzero(chosen)]
    scores = [{s.baseline: s for s in score_baselines([case.answers for case in part])} for part in (cases, subset)]
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
    counts = Counter(case.source for case in subset)
    for source in sorted(counts) if len(counts) > 1 else ():
        if counts[source] >= MIN_SOURCE_CASES:
            comparisons += _compare_source(cases, subset, source, z)
    above = {c.chosen.baseline for c in comparisons if c.deviation > 0} - {*LEARNED_BASELINES, GRADIENT_BOOSTING}
    missed = sum(all(_is_miss(case.answers, name) for name in above) for case in cases) if above else 0
    none_cases = sum(case.answers.answer == case.answers.none for case in subset)
    reachable = answers.reachable if answers else None
    is_missed = any(comparison.deviation and comparison.pool_misses is not None for comparison in comparisons)
    reachable_fixed = count_reachable(cases, chosen) if is_missed else None
    return Selection(chosen, tuple(comparisons), missed, none_cases, reachable, reachable_fixed)


def count_reachable(cases: Sequence[LearnedCase], chosen: NDArray[np.bool_]) -> int:
    """Return about how many cases, as many as are chosen at most, can be chosen such that all baselines that do not
    learn are at chance on all of them, within _CLOSE.

    The sources and "none of the above" have the shares that they have in the chosen cases. Of a large pool, every n-th
    case is looked at.

    Args:
        cases: the pool.
        chosen: bool [cases].
    """
    sources = np.array([case.source for case in cases])
    is_none = np.array([case.answers.answer == case.answers.none for case in cases])
    groups = (*(sources == name for name in np.unique(sources)), is_none)
    step = -(-len(cases) // _MAX_EXAMINED)
    part, most = cases[::step], min(int(chosen.sum()) // step, len(cases[::step]))
    table = AnswerTable([case.answers for case in part])
    columns = [table.residuals([case.answers.letters.get(name) for case in part]) for name in fixed_baselines(part)]
    values = np.column_stack([*columns, *(group[::step] - group[chosen].mean() for group in groups)])
    slack, targets = np.full(values.shape[1], _SLACK), np.zeros(values.shape[1])
    low, high = 0, most
    while low < high:
        count = (low + high + 1) // 2
        sums = compute_shares(values, count, slack, targets) @ values
        if np.abs(sums).max() <= _CLOSE * count:
            low = count
        else:
            high = count - 1
    return low * step


def _score_boosting(
    cases: Sequence[LearnedCase], z: float, letters: Sequence[str] | None = None
) -> BaselineScore | None:
    if letters is None:
        chances = predict_held_out(cases, np.ones(len(cases), bool))
        if chances is None:
            return None
        letters = chances.pick_letters(cases)
    return score_answers(GRADIENT_BOOSTING, [(c.answers, a) for c, a in zip(cases, letters, strict=True)], None, z)


def _compare_source(
    cases: Sequence[LearnedCase], subset: Sequence[LearnedCase], source: str, z: float
) -> Iterator[Comparison]:
    pool, own = ([case for case in part if case.source == source] for part in (cases, subset))
    for name in fixed_baselines(own):
        scores = []
        for part in (pool, own):
            answers = [(case.answers, case.answers.letters[name]) for case in part if name in case.answers.letters]
            scores.append(score_answers(name, answers, None, z))
        misses, hits = _count_misses(pool, name), _count_hits(pool, name)
        yield Comparison(source, scores[0], scores[1], misses, hits, _count_answerable(own))


def _count_misses(cases: Sequence[LearnedCase], baseline: str) -> int:
    return sum(_is_miss(case.answers, baseline) for case in cases)


def _count_answerable(cases: Sequence[LearnedCase]) -> int:
    return sum(case.answers.answer != case.answers.none for case in cases)


def _count_hits(cases: Sequence[LearnedCase], baseline: str) -> int:
    return sum(case.answers.letters.get(baseline) == case.answers.answer for case in cases)


def _is_miss(case: CaseAnswers, baseline: str) -> bool:
    return baseline in case.letters and case.answer != case.none and case.letters[baseline] != case.answer


def fixed_baselines(cases: Sequence[LearnedCase]) -> list[str]:
    """Return the names of the baselines that do not learn; random ones are at chance anyway."""
    names = dict.fromkeys(name for case in cases for name in case.answers.letters)
    return [name for name in names if name != "random"]
