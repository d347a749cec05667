"""The values that a recipe balances, and which of them cases of its sources can have at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mmvm_data.cases.cues import TYPES_WITHOUT_SOURCE
from mmvm_data.cases.sampling_options import MAX_CANDIDATES, SamplingOptions
from mmvm_data.core.case_facts import DIFFICULTIES
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.recipes.multi_source.recipe import CANDIDATE_RANGES, BalanceOptions, Recipe

LEVELS: Final[Mapping[str, tuple[str, ...]]] = {
    "candidates": tuple(CANDIDATE_RANGES),
    "difficulty": DIFFICULTIES,
    "match_types": tuple(MATCH_TYPES[number][0] for number in TYPES_WITHOUT_SOURCE),
}
"""Key of ``balance`` -> the values that cases of some source can have."""
_HARD_LOOK_ALIKES = 3


def candidate_range(candidates: int) -> str:
    """The name of the range that a number of candidates is in."""
    return next(name for name, largest in CANDIDATE_RANGES.items() if candidates <= largest)


def check_targets(recipe: Recipe, samplings: Sequence[SamplingOptions]) -> None:
    """Check that some source can give cases of each value that has a share.

    Args:
        recipe: the recipe.
        samplings: the options of its sources.

    Raises:
        UsageError: none can, by its options.
    """
    balance = recipe.balance
    if balance is None:
        return
    for name in LEVELS:
        target = getattr(balance, name)
        if isinstance(target, dict):
            possible = _possible_levels(name, samplings)
            for level, share in target.items():
                if share and level not in possible:
                    raise UsageError(f"balance.{name} {level}: {_explain(name, level)}, so its share must be 0")
    if balance.none and not any(sampling.none_share for sampling in samplings):
        raise UsageError("balance.none: no source gives such cases, since none_share is 0 for all of them")


def list_impossible(recipe: Recipe, samplings: Sequence[SamplingOptions]) -> list[str]:
    """What of the targets no pool of these options can have, one sentence each."""
    balance, texts = recipe.balance, []
    if balance is None:
        return []
    for name in LEVELS:
        possible = _possible_levels(name, samplings)
        if getattr(balance, name) == "equal":
            texts += [
                f"balance.{name} {level}: {_explain(name, level)}" for level in LEVELS[name] if level not in possible
            ]
    if balance.none is not None:
        most = recipe.pool_factor * max(sampling.none_share for sampling in samplings)
        if most < balance.none:
            texts.append(
                f"balance.none: {balance.none:.1%} are wanted; with the none_share of the sources and a pool of "
                f"{recipe.pool_factor} times the cases, {most:.1%} can be expected at most"
            )
    return texts


def list_lacking(balance: BalanceOptions, found: Mapping[str, set[str]]) -> Iterator[tuple[str, list[str]]]:
    """Each key of ``balance`` that is to have all values equally often, and the values that are not found.

    Args:
        balance: of the recipe.
        found: key -> the values that cases have.
    """
    for name, levels in LEVELS.items():
        if getattr(balance, name) == "equal":
            lacking = [level for level in levels if level not in found[name]]
            if lacking:
                yield name, lacking


def _possible_levels(name: str, samplings: Sequence[SamplingOptions]) -> set[str]:
    """The values that the options allow for a source or more."""
    if name == "match_types":
        return set(LEVELS[name])
    possible = set()
    for sampling in samplings:
        most = MAX_CANDIDATES if sampling.candidates is None else sampling.candidates
        if name == "candidates":
            first = 1
            for level, last in CANDIDATE_RANGES.items():
                if max(first, sampling.min_candidates) <= min(last, most):
                    possible.add(level)
                first = last + 1
        else:
            possible |= set(DIFFICULTIES if most >= _HARD_LOOK_ALIKES else DIFFICULTIES[:-1])
    return possible


def _explain(name: str, level: str) -> str:
    if name == "match_types":
        return "is proposed only where the source is at hand, or text is read, which a recipe does not"
    if name == "candidates":
        return "candidates and min_candidates allow it for no source"
    return f"needs {_HARD_LOOK_ALIKES} candidates or more, which the option candidates allows for no source"
