"""Comparison of runs over the cases that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from colva.evaluation.scoring.metrics import GROUPS, group_outcomes
from colva.evaluation.scoring.outcomes import Outcome, ScoredRun
from colva.evaluation.scoring.statistics import Difference, difference, holm
from mmvm_data.core.plurals import pluralize


@dataclass(frozen=True)
class Comparison:
    """The difference between two runs.

    Attributes:
        first, second: names of the models.
        overall: second minus first.
        types: match type -> the same over its cases; p-values corrected for their number.
        notes: warnings in words: cases that only one run has, questions that differ.
    """

    first: str
    second: str
    overall: Difference
    types: dict[str, Difference]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        rows = {name: _difference_json(row) for name, row in self.types.items()}
        return {
            "first": self.first,
            "second": self.second,
            "overall": _difference_json(self.overall),
            "types": rows,
            "notes": list(self.notes),
        }


def compare_runs(runs: Sequence[ScoredRun], seed: int = 0) -> list[Comparison]:
    """Compare each run but the first with the first.

    Cases are paired by their id, in the variant as published. A question without a reply counts as wrong, as in the
    scores.

    Args:
        runs: two or more.
        seed: of the intervals.
    """
    names = _names(runs)
    return [_compare(runs[0], run, names[0], name, seed) for run, name in zip(runs[1:], names[1:], strict=True)]


def _compare(first: ScoredRun, second: ScoredRun, first_name: str, second_name: str, seed: int) -> Comparison:
    a, b = _by_id(first), _by_id(second)
    shared = [key for key in a if key in b]
    pairs = [(a[key], b[key]) for key in shared]
    types = {
        group: difference([o.is_right for o in members], [b[o.prediction.id].is_right for o in members], seed)
        for group, members in group_outcomes([outcome for outcome, _ in pairs], GROUPS["type"]).items()
    }
    corrected = holm([row.test.mid_p for row in types.values()])
    types = {group: row._replace(adjusted=p) for (group, row), p in zip(types.items(), corrected, strict=True)}
    notes = []
    for mine, theirs, name in ((a, b, first_name), (b, a, second_name)):
        if unpaired := len(mine.keys() - theirs.keys()):
            notes.append(f"{pluralize(unpaired, 'case')} in the run of {name} alone, not counted")
    if changed := sum(_question(left) != _question(right) for left, right in pairs):
        notes.append(f"{pluralize(changed, 'case')} asked in other words, or with other options, in the two runs")
    overall = difference([left.is_right for left, _ in pairs], [right.is_right for _, right in pairs], seed)
    return Comparison(first_name, second_name, overall, types, tuple(notes))


def _names(runs: Sequence[ScoredRun]) -> list[str]:
    """Return the names of the models; names that occur more than once get a number."""
    names = [str(run.summary.get("model", "")) for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({k + 1})" for k, name in enumerate(names)]


def _by_id(run: ScoredRun) -> dict[str, Outcome]:
    return {o.prediction.id: o for o in run.outcomes if o.prediction.variant == 0}


def _question(outcome: Outcome) -> tuple[Any, ...]:
    prediction = outcome.prediction
    return prediction.text, tuple(prediction.choices.items()), prediction.answer


def _difference_json(row: Difference) -> dict[str, Any]:
    return row._asdict() | {"test": row.test._asdict()}
