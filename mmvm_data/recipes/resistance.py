"""Chooses cases of a pool such that no blind baseline answers the chosen ones better or worse than chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.baseline_scores import LEARNED_BASELINES, AnswerTable
from mmvm_data.audit.gradient_boosting import LARGE_SET, LearnedCase, OptionChances, predict_held_out
from mmvm_data.formats.set_operations import keyed_hash
from mmvm_data.recipes.balanced_subset import Column, choose_by_columns, compute_shares
from mmvm_data.recipes.selection_scores import (
    MIN_SOURCE_CASES,
    PoolAnswers,
    Selection,
    compare_cases,
    fixed_baselines,
)

_ROUNDS = 3  # of gradient boosting, each fitted on cases that are drawn with the shares of the one before
_CLOSE = 0.01  # of its accuracy above chance; with less, no further round is fitted
_LOWEST = -15.0  # logarithm of a share
_MAX_FITTED = 6_000  # cases that it is fitted on; of pools of LARGE_SET or more, LARGE_SET in fewer folds
_MIN_CASES = 20  # a rule that answers fewer cases than these is not balanced


def select_resistant(ids: Sequence[str], cases: Sequence[LearnedCase], count: int, seed: int) -> Selection:
    """Choose ``count`` cases as ``choose_resistant`` does, and score them."""
    return compare_cases(cases, *choose_resistant(ids, cases, count, seed))


def choose_resistant(
    ids: Sequence[str],
    cases: Sequence[LearnedCase],
    count: int,
    seed: int,
    targets: Sequence[Column] | None = None,
) -> tuple[NDArray[np.bool_], PoolAnswers | None]:
    """Choose ``count`` cases; a function of the arguments.

    Sums over the chosen cases are balanced: for each baseline its hits minus chance, on all cases and on each
    source that has enough; for each rank and letter how often it is right minus chance; for each source, and for "none
    of the above", its share minus its share in the pool. With scikit-learn, cases are drawn with shares under which
    gradient boosting knows nothing (see ``_prior_of_boosting``), as far as the sums allow.

    Args:
        ids: of the cases; with the seed they decide the draw.
        cases: the pool.
        count: from 1 to the number of cases.
        seed: any integer.
        targets: sums that hold in place of the pool's shares of sources and of "none of the above".

    Returns:
        bool [cases], and what gradient boosting says of the pool, None where it cannot be fitted.
    """
    keys = np.array([uniform_key(seed, name) for name in ids])
    table = AnswerTable([case.answers for case in cases])
    columns = list(_base_columns(ids, cases, table, count, seed, targets))
    prior = None if count >= len(cases) else _prior_of_boosting(cases, table, columns, count, keys)
    if prior is None:
        return choose_by_columns(columns, count, keys), None
    log_odds, answers = prior
    return choose_by_columns(columns, count, keys, log_odds), answers


def _prior_of_boosting(
    cases: Sequence[LearnedCase],
    table: AnswerTable,
    columns: Sequence[Column],
    count: int,
    keys: NDArray[np.float64],
) -> tuple[NDArray[np.float64], PoolAnswers] | None:
    """Log odds of shares under which gradient boosting knows nothing; None where it cannot be fitted.

    Boosting says how likely each candidate of a case is right. Where a case is drawn with a share that is in proportion
    to the chance of its least likely candidate over that of its right one, each candidate is right equally often,
    whatever boosting sees of the case (inverse probability weighting; Horvitz and Thompson, JASA 1952). Further rounds
    are fitted on cases that are drawn with these shares, and find what the earlier ones have left.
    """
    order = np.argsort(keys, kind="stable")
    chances = predict_held_out(cases, _first_of(np.ones(len(cases), bool), order))
    if chances is None:
        return None
    letters = chances.pick_letters(cases)
    log_odds = _log_shares(cases, chances)
    values = np.column_stack([column.values for column in columns])
    slack, targets = (np.array([getattr(column, name) for column in columns]) for name in ("slack", "target"))
    for _ in range(_ROUNDS - 1):
        shares = compute_shares(values, count, slack, targets, log_odds)
        drawn = _first_of(shares > keys * shares.max(), order)
        chances = predict_held_out(cases, drawn)
        if chances is None:
            break
        if float(table.residuals(chances.pick_letters(cases))[drawn].mean()) < _CLOSE:
            break
        log_odds = np.maximum(log_odds + _log_shares(cases, chances), _LOWEST)
    shares = np.exp(log_odds - log_odds.max())
    # the effective sample size of weights (Kish, "Survey Sampling", 1965)
    return log_odds, PoolAnswers(letters, round(float(shares.sum() ** 2 / (shares**2).sum())))


def _first_of(cases: NDArray[np.bool_], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The first of some cases by an order of all, as many as are fitted, bool [cases]."""
    fitted = np.zeros(len(cases), bool)
    fitted[order[cases[order]][: _MAX_FITTED if len(cases) < LARGE_SET else LARGE_SET]] = True
    return fitted


def _log_shares(cases: Sequence[LearnedCase], chances: OptionChances) -> NDArray[np.float64]:
    """The logarithm of the chance of the least likely candidate over that of the right one, float [cases].

    Where "none of the above" is right, an average candidate stands for the right one; 0 without candidates.
    """
    options = [(case, letter) for case in cases for letter in case.letters]
    is_candidate = np.array([letter != case.answers.none for case, letter in options])
    is_right = np.array([letter == case.answers.answer for case, letter in options])
    least = np.minimum.reduceat(np.where(is_candidate, chances.values, np.inf), chances.start)
    known = np.add.reduceat(np.where(is_candidate, chances.values, 0), chances.start)
    right = np.add.reduceat(np.where(is_candidate & is_right, chances.values, 0), chances.start)
    count = np.add.reduceat(is_candidate.astype(np.int64), chances.start)
    has_candidates = count > 0
    right = np.where(right > 0, right, known / np.maximum(count, 1))
    ratio = np.divide(least, right, out=np.ones(len(cases)), where=has_candidates)
    shares: NDArray[np.float64] = np.maximum(np.log(ratio), _LOWEST)
    return shares


def _base_columns(
    ids: Sequence[str],
    cases: Sequence[LearnedCase],
    table: AnswerTable,
    count: int,
    seed: int,
    targets: Sequence[Column] | None,
) -> Iterator[Column]:
    sources = np.array([case.source for case in cases])
    names, numbers = np.unique(sources, return_counts=True)
    shares = dict(zip(names.tolist(), (numbers / len(cases)).tolist(), strict=True))
    large = [name for name in names.tolist() if shares[name] * count >= MIN_SOURCE_CASES]
    groups = [sources == name for name in large]
    if (rest := ~np.isin(sources, large)).any():
        groups.append(rest)
    for baseline in fixed_baselines(cases):
        values = table.residuals([case.answers.letters.get(baseline) for case in cases])
        yield from (Column(np.where(group, values, 0)) for group in groups)
    if targets is not None:
        yield from targets
    else:
        for name in names.tolist() if len(names) > 1 else ():
            yield Column((sources == name) - shares[name])
        is_none = np.array([case.answers.answer == case.answers.none for case in cases], float)
        if is_none.any():
            yield Column(is_none - is_none.mean())
    yield from _rule_columns(ids, cases, table, count, seed)


def _rule_columns(
    ids: Sequence[str], cases: Sequence[LearnedCase], table: AnswerTable, count: int, seed: int
) -> Iterator[Column]:
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
            values = table.residuals(letters)
            if np.count_nonzero(values) >= _MIN_CASES:
                target = scale * float(table.residuals(letters, random_answers).sum())
                yield Column(values, is_repaired=False, target=target)


def _random_candidate(case: LearnedCase, seed: int, name: str) -> str:
    """The letter of a candidate; the right one where "none of the above" is right."""
    if case.answers.answer == case.answers.none:
        return case.answers.answer
    letters = [letter for letter in case.letters if letter != case.answers.none]
    return letters[int(uniform_key(seed, f"answer\0{name}") * len(letters))]


def uniform_key(seed: int, name: str) -> float:
    """A number in [0, 1) that decides the draw of a case."""
    return int.from_bytes(keyed_hash(seed, name)[:6], "big") / 2**48
