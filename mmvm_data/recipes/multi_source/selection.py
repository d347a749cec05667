"""Which cases of the pool become part of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.case_facts import difficulty_name
from mmvm_data.core.compact import NameList
from mmvm_data.core.plurals import pluralize
from mmvm_data.recipes.balanced_subset import Column, Sums, choose_balanced
from mmvm_data.recipes.multi_source.balance_levels import candidate_range, list_lacking
from mmvm_data.recipes.multi_source.plan import Plan
from mmvm_data.recipes.multi_source.pool import CaseKind, Pool
from mmvm_data.recipes.multi_source.recipe import BalanceOptions, Targets
from mmvm_data.recipes.resistance import choose_resistant, uniform_key
from mmvm_data.recipes.selection_scores import compare_cases

_TOLERANCE = 0.01
"""Deviation of a share from its target that is not mentioned."""
_CASES_TOLERANCE = 1.5
_MIN_WANTED = 0.5
"""Cases of a value that the pool lacks altogether, from which that is mentioned."""
_MIN_NONE_CASES = 20
"""A source of fewer cases is not judged by its share of "none of the above"."""


_LABELS: Mapping[str, Callable[[CaseKind], str]] = {
    "candidates": lambda kind: candidate_range(kind.candidates),
    "difficulty": lambda kind: difficulty_name(kind.look_alikes),
}
"""Key of ``balance`` -> the value that a case has."""


@dataclass(frozen=True)
class Choice:
    """The chosen cases.

    Attributes:
        chosen: their numbers in the pool, ascending, int64 [chosen cases].
        shortfalls: what could not be reached, one sentence each.
        scores: scores of the baselines before and after, as JSON values; None where nothing was chosen by them.
    """

    chosen: NDArray[np.int64]
    shortfalls: tuple[str, ...] = ()
    scores: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Target:
    """A value of the cases and how often it should occur.

    Attributes:
        name: such as ``balance.candidates 5-8``.
        has_value: bool [cases], or float: how much of it a case has.
        expected: float [cases]: what each chosen case adds to the number that is wanted.
    """

    name: str
    has_value: NDArray[np.float64]
    expected: NDArray[np.float64]

    def describe_miss(self, chosen: NDArray[np.bool_]) -> str | None:
        """One sentence where the target is not reached; None where it is."""
        count = int(chosen.sum())
        found, wanted = float(self.has_value[chosen].sum()), float(self.expected[chosen].sum())
        is_lacking = wanted >= _MIN_WANTED and not self.has_value.any()
        if not is_lacking and abs(found - wanted) <= max(_CASES_TOLERANCE, _TOLERANCE * count):
            return None
        return (
            f"{self.name}: {found / count:.1%} of the cases, {wanted / count:.1%} are wanted; "
            f"the pool has {int(self.has_value.sum())} such cases"
        )


def choose_cases(plan: Plan, pool: Pool) -> Choice:
    """Choose the cases of a recipe. Equal arguments give equal choices."""
    counts = count_wanted(plan, pool)
    shortfalls = [
        f"source {source.name!r} gives {pluralize(count, 'case')} of {source.wanted} wanted"
        for source, count in zip(plan.sources, counts, strict=True)
        if source.wanted is not None and count < source.wanted
    ]
    total, recipe = sum(counts), plan.recipe
    if recipe.balance is None or recipe.balance.none is None:
        shortfalls += _describe_none_shares(plan, pool)
    if recipe.pool_factor == 1 or not total:
        return Choice(np.arange(len(pool)), tuple(shortfalls))
    is_single = len(plan.sources) == 1  # then the choice is that of `build --resist`
    names = pool.ids if is_single else NameList(_iter_names(plan, pool))
    keys = np.array([uniform_key(recipe.seed, name) for name in names])
    targets = list(_iter_targets(recipe.balance, pool)) if recipe.balance is not None else []
    columns = [] if is_single else [Column((pool.stages == k) - counts[k] / total) for k in plan.by_name]
    columns += [Column(target.has_value - target.expected) for target in targets]
    if recipe.balance is None or recipe.balance.none is None:
        is_none = pool.values(lambda kind: float(kind.is_none))
        columns.append(Column(is_none - is_none.mean()))
    pool_answers = None
    if pool.answers is not None:
        chosen, pool_answers = choose_resistant(names, pool.answers, total, recipe.seed, columns)
    else:
        chosen = choose_balanced(Sums.from_columns(columns), total, keys)
    chosen = _keep_quotas(chosen, pool.stages, counts, keys)
    shortfalls += [text for target in targets if (text := target.describe_miss(chosen))]
    if recipe.balance is not None:
        shortfalls += _describe_lacking(recipe.balance, pool)
    scores = None
    if pool.answers is not None:
        selection = compare_cases(pool.answers, chosen, pool_answers)
        shortfalls += selection.warnings
        scores = selection.to_json()
    return Choice(np.flatnonzero(chosen), tuple(shortfalls), scores)


def _iter_names(plan: Plan, pool: Pool) -> Iterator[str]:
    """Names of the cases that do not depend on the order of the sources."""
    for number, name in zip(pool.stages.tolist(), pool.ids, strict=True):
        yield f"{plan.sources[number].name}\0{name}"


def _describe_none_shares(plan: Plan, pool: Pool) -> Iterator[str]:
    """One sentence for each source that has less than half of the cases without an answer that its options ask for."""
    is_none = pool.values(lambda kind: kind.is_none)
    for number, source in enumerate(plan.sources):
        own = is_none[pool.stages == number]
        if len(own) >= _MIN_NONE_CASES and own.sum() < source.sampling.none_share * len(own) / 2:
            yield (
                f'source {source.name!r}: {int(own.sum())} of {len(own)} cases have the answer "none of the above", '
                f"none_share is {source.sampling.none_share:g}: too few objects disappear"
            )


def _describe_lacking(balance: BalanceOptions, pool: Pool) -> Iterator[str]:
    """One sentence for each target whose values are to be equally frequent and that no case of the pool has."""
    found: dict[str, set[str]] = {name: set(map(label, pool.kinds)) for name, label in _LABELS.items()}
    found["match_types"] = {name for kind in pool.kinds for name in kind.match_types}
    for name, lacking in list_lacking(balance, found):
        yield f"balance.{name} equal: the pool has no case of {', '.join(lacking)}; the other values share what is left"


def count_wanted(plan: Plan, pool: Pool) -> list[int]:
    """The number of cases of each source that are kept."""
    counts = []
    for number, source in enumerate(plan.sources):
        built = int((pool.stages == number).sum())
        wanted = max(1, built // source.pool_factor) if source.wanted is None else source.wanted
        counts.append(min(built, wanted))
    return counts


def _keep_quotas(
    chosen: NDArray[np.bool_], stages: NDArray[np.int32], counts: Sequence[int], keys: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Exchange the few cases by which the chosen ones miss the number of a source."""
    result = chosen.copy()
    for number, count in enumerate(counts):
        excess = int(result[stages == number].sum()) - count
        candidates = np.flatnonzero((stages == number) & (result == (excess > 0)))
        order = candidates[np.argsort(keys[candidates], kind="stable")]
        if excess > 0:
            result[order[len(order) - excess :]] = False
        elif excess < 0:
            result[order[:-excess]] = True
    return result


def _iter_targets(balance: BalanceOptions, pool: Pool) -> Iterator[_Target]:
    for name, label in _LABELS.items():
        target = getattr(balance, name)
        if target is None:
            continue
        values = pool.values(label)
        found = sorted(set(map(label, pool.kinds)))
        shares = dict.fromkeys(found, 1 / len(found)) if target == "equal" else target
        for value, share in shares.items():
            has_value = (values == value).astype(np.float64)
            yield _Target(f"balance.{name} {value}", has_value, np.full(len(pool), share))
    if balance.match_types is not None:
        yield from _iter_type_targets(balance.match_types, pool)
    if balance.none is not None:
        is_none = pool.values(lambda kind: float(kind.is_none))
        yield _Target("balance.none", is_none, np.full(len(pool), balance.none))
    if balance.answer is not None:
        for letter in sorted({letter for kind in pool.kinds for letter in kind.letters[:-1]}):
            right, expected = (pool.values(partial(value, letter)) for value in (_is_right, _expect_letter))
            yield _Target(f"balance.answer {letter}", right, expected)


def _is_right(letter: str, kind: CaseKind) -> float:
    return float(not kind.is_none and kind.answer == letter)


def _expect_letter(letter: str, kind: CaseKind) -> float:
    """How often a letter would be right if all candidates were equally often."""
    return 1 / (len(kind.letters) - 1) if letter in kind.letters[:-1] and not kind.is_none else 0.0


def _iter_type_targets(target: Targets, pool: Pool) -> Iterator[_Target]:
    """A case counts in each of its types, so that shares are of proposals and not of cases."""
    counts = pool.values(lambda kind: float(len(kind.match_types)))
    found = sorted({name for kind in pool.kinds for name in kind.match_types})
    shares = dict.fromkeys(found, 1 / len(found)) if target == "equal" else target
    for name, share in shares.items():
        has_type = pool.values(partial(_has_type, name))
        yield _Target(f"balance.match_types {name}", has_type, share * counts)


def _has_type(name: str, kind: CaseKind) -> float:
    return float(name in kind.match_types)
