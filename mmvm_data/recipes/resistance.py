"""Chooses cases of a pool such that no blind baseline answers the chosen ones better or worse than chance."""

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
    BaselineScore,
    CaseAnswers,
    interval_width,
    score_answers,
    score_baselines,
)
from mmvm_data.audit.gradient_boosting import LearnedCase, answer_held_out
from mmvm_data.formats.set_operations import keyed_hash
from mmvm_data.recipes.balanced_subset import Column, choose_by_columns

MIN_SOURCE_CASES = 100
"""A source with fewer chosen cases is not balanced by itself, only with the others."""
_ROUNDS = 3  # of gradient boosting: choose, fit on the chosen cases, choose again
_IMPROVEMENT = 0.01  # of its accuracy; with less, no further round is tried
_BOOSTING_SLACK = 0.05  # of the number of chosen cases, so that it yields where it contradicts the other baselines
_MIN_CASES = 20  # a rule that answers fewer cases than these is not balanced
ALL_SOURCES = ""


@dataclass(frozen=True)
class Comparison:
    """A baseline's score on the pool and on the chosen cases.

    Attributes:
        source: whose cases, ALL_SOURCES for all.
        pool, chosen: scores with intervals.
        pool_misses: cases of the pool that the baseline answers wrong, those without a right candidate left out; None
            for baselines that learn.
    """

    source: str
    pool: BaselineScore
    chosen: BaselineScore
    pool_misses: int | None

    @property
    def deviation(self) -> float:
        """Chosen score minus chance where the interval does not hold chance, else 0."""
        score = self.chosen
        return 0.0 if score.low <= score.chance <= score.high else score.score - score.chance

    def describe(self) -> str:
        """One sentence for a baseline whose interval does not hold chance."""
        score, where = self.chosen, f" on {self.source}" if self.source else ""
        text = f"{score.baseline}{where} scores {score.score:.1%} ({score.low:.1%} - {score.high:.1%}), "
        text += f"chance is {score.chance:.1%}"
        needed = round((1 - score.chance) * score.cases)
        if self.deviation > 0 and self.pool_misses is not None:
            text += f"; {needed} cases that it answers wrong are needed, the pool has {self.pool_misses}"
        return text

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "source": self.source or None,
            "pool": self.pool.to_json(),
            "chosen": self.chosen.to_json(),
            "pool_misses": self.pool_misses,
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
    """

    chosen: NDArray[np.bool_]
    comparisons: tuple[Comparison, ...]
    missed_by_all: int
    none_cases: int

    @property
    def warnings(self) -> list[str]:
        """Each baseline that does not end at chance, in one sentence, and what the pool lacks."""
        found = [comparison for comparison in self.comparisons if comparison.deviation]
        warnings = [comparison.describe() for comparison in found]
        above = sorted({c.chosen.baseline for c in found if c.deviation > 0 and c.pool_misses is not None})
        if above:
            count = f"{self.missed_by_all} of {len(self.chosen)} cases"
            warnings.append(f"the pool needs more cases that {', '.join(above)} answer wrong; it has {count}")
        return warnings

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "pool_cases": len(self.chosen),
            "cases": int(self.chosen.sum()),
            "baselines": [comparison.to_json() for comparison in self.comparisons],
            "missed_by_all": self.missed_by_all,
            "warnings": self.warnings,
        }


def select_resistant(
    ids: Sequence[str],
    cases: Sequence[LearnedCase],
    count: int,
    seed: int,
    targets: Sequence[Column] | None = None,
) -> Selection:
    """Choose ``count`` cases; a function of the arguments.

    Sums over the chosen cases are balanced: for each baseline its hits minus chance, on all cases and on each
    source that has enough; for each rank and letter how often it is right minus chance; for each source, and for "none
    of the above", its share minus its share in the pool. With scikit-learn, gradient boosting is fitted on the chosen
    cases and is one more baseline in the next round, as far as the others allow.

    Args:
        ids: of the cases; with the seed they decide the draw.
        cases: the pool.
        count: from 1 to the number of cases.
        seed: any integer.
        targets: sums that hold in place of the pool's shares of sources and of "none of the above".
    """
    keys = np.array([uniform_key(seed, name) for name in ids])
    columns = list(_base_columns(ids, cases, count, seed, targets))
    best: tuple[float, NDArray[np.bool_]] | None = None
    for _ in range(_ROUNDS + 1):
        chosen = choose_by_columns(columns, count, keys)
        letters = answer_held_out(cases, chosen) if count < len(cases) else None
        if letters is None:
            best = (0.0, chosen) if best is None else best
            break
        excess = _residuals(cases, letters)
        deviation = abs(float(excess[chosen].mean()))
        improves = best is None or deviation < best[0] - _IMPROVEMENT
        if best is None or deviation < best[0]:
            best = (deviation, chosen)
        if not improves:
            break
        columns.append(Column(excess, _BOOSTING_SLACK * count, False))
    assert best is not None  # there is one round at least
    return compare_cases(cases, best[1])


def _base_columns(
    ids: Sequence[str], cases: Sequence[LearnedCase], count: int, seed: int, targets: Sequence[Column] | None
) -> Iterator[Column]:
    sources = np.array([case.source for case in cases])
    names, numbers = np.unique(sources, return_counts=True)
    shares = dict(zip(names.tolist(), (numbers / len(cases)).tolist(), strict=True))
    large = [name for name in names.tolist() if shares[name] * count >= MIN_SOURCE_CASES]
    groups = [sources == name for name in large]
    if (rest := ~np.isin(sources, large)).any():
        groups.append(rest)
    for baseline in _fixed_baselines(cases):
        values = _residuals(cases, [case.answers.letters.get(baseline) for case in cases])
        yield from (Column(np.where(group, values, 0)) for group in groups)
    if targets is not None:
        yield from targets
    else:
        for name in names.tolist() if len(names) > 1 else ():
            yield Column((sources == name) - shares[name])
        is_none = np.array([case.answers.answer == case.answers.none for case in cases], float)
        if is_none.any():
            yield Column(is_none - is_none.mean())
    yield from _rule_columns(ids, cases, count, seed)


def _rule_columns(ids: Sequence[str], cases: Sequence[LearnedCase], count: int, seed: int) -> Iterator[Column]:
    """A sum for each rule of the baselines that learn, with the value that it has where answers are random.

    It is not 0: a rule that is exactly at chance over all cases is below chance in one part where it is above in the
    other, so that what is learned in the one would be wrong in the other more often than by chance.
    """
    random_answers = [_random_candidate(case, seed, name) for name, case in zip(ids, cases, strict=True)]
    scale = (count / len(cases)) ** 0.5
    for baseline in LEARNED_BASELINES:
        for rule in zip(*(case.answers.rules[baseline] for case in cases), strict=True):
            # "none of the above" has its share in the pool, which the user has asked for
            letters = [a if a != case.answers.none else None for a, case in zip(rule, cases, strict=True)]
            values = _residuals(cases, letters)
            if np.count_nonzero(values) >= _MIN_CASES:
                target = scale * float(_residuals(cases, letters, random_answers).sum())
                yield Column(values, is_repaired=False, target=target)


def _random_candidate(case: LearnedCase, seed: int, name: str) -> str:
    """The letter of a candidate; the right one where "none of the above" is right."""
    if case.answers.answer == case.answers.none:
        return case.answers.answer
    letters = [letter for letter in case.letters if letter != case.answers.none]
    return letters[int(uniform_key(seed, f"answer\0{name}") * len(letters))]


def _fixed_baselines(cases: Sequence[LearnedCase]) -> list[str]:
    """Baselines that do not learn; random ones are at chance anyway."""
    names = dict.fromkeys(name for case in cases for name in case.answers.letters)
    return [name for name in names if name != "random"]


def _residuals(
    cases: Sequence[LearnedCase], letters: Sequence[str | None], answers: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Hit minus chance of each case, 0 without a letter; ``answers`` stand for the right ones."""
    answers = answers or [case.answers.answer for case in cases]
    return np.array(
        [
            0.0 if letter is None else (letter == answer) - case.answers.chance(letter)
            for case, letter, answer in zip(cases, letters, answers, strict=True)
        ]
    )


def compare_cases(cases: Sequence[LearnedCase], chosen: NDArray[np.bool_]) -> Selection:
    """What the baselines score on all cases and on the chosen ones, bool [cases]."""
    z = interval_width()
    subset = [cases[k] for k in np.flatnonzero(chosen)]
    scores = [{s.baseline: s for s in score_baselines([case.answers for case in part])} for part in (cases, subset)]
    comparisons = []
    for name in scores[0].keys() & scores[1].keys() - {"random"}:
        misses = None if name in LEARNED_BASELINES else _count_misses(cases, name)
        comparisons.append(Comparison(ALL_SOURCES, scores[0][name], scores[1][name], misses))
    order = list(scores[0])
    comparisons.sort(key=lambda comparison: order.index(comparison.pool.baseline))
    boosted = [_score_boosting(part, z) for part in (cases, subset)]
    if boosted[0] and boosted[1]:
        comparisons.append(Comparison(ALL_SOURCES, boosted[0], boosted[1], None))
    counts = Counter(case.source for case in subset)
    for source in sorted(counts) if len(counts) > 1 else ():
        if counts[source] >= MIN_SOURCE_CASES:
            comparisons += _compare_source(cases, subset, source, z)
    above = {c.chosen.baseline for c in comparisons if c.deviation > 0} - {*LEARNED_BASELINES, GRADIENT_BOOSTING}
    missed = sum(all(_is_miss(case.answers, name) for name in above) for case in cases) if above else 0
    none_cases = sum(case.answers.answer == case.answers.none for case in subset)
    return Selection(chosen, tuple(comparisons), missed, none_cases)


def _score_boosting(cases: Sequence[LearnedCase], z: float) -> BaselineScore | None:
    letters = answer_held_out(cases, np.ones(len(cases), bool))
    if letters is None:
        return None
    return score_answers(GRADIENT_BOOSTING, [(c.answers, a) for c, a in zip(cases, letters, strict=True)], None, z)


def _compare_source(
    cases: Sequence[LearnedCase], subset: Sequence[LearnedCase], source: str, z: float
) -> Iterator[Comparison]:
    pool, own = ([case for case in part if case.source == source] for part in (cases, subset))
    for name in _fixed_baselines(own):
        scores = []
        for part in (pool, own):
            answers = [(case.answers, case.answers.letters[name]) for case in part if name in case.answers.letters]
            scores.append(score_answers(name, answers, None, z))
        yield Comparison(source, scores[0], scores[1], _count_misses(pool, name))


def _count_misses(cases: Sequence[LearnedCase], baseline: str) -> int:
    return sum(_is_miss(case.answers, baseline) for case in cases)


def _is_miss(case: CaseAnswers, baseline: str) -> bool:
    return baseline in case.letters and case.answer != case.none and case.letters[baseline] != case.answer


def uniform_key(seed: int, name: str) -> float:
    """A number in [0, 1) that decides the draw of a case."""
    return int.from_bytes(keyed_hash(seed, name)[:6], "big") / 2**48
