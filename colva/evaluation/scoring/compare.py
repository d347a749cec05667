"""Runs against each other, over the cases that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from colva.evaluation.scoring.metrics import GROUPS, Outcome, Scored, in_groups
from colva.evaluation.scoring.statistics import Difference, difference, holm


@dataclass(frozen=True)
class Comparison:
    """One run against another.

    Attributes:
        first, second: names of the models.
        overall: second minus first.
        types: match type -> the same over its cases; p-values corrected for their number.
        notes: what a reader must know: cases that only one has, questions that differ.
    """

    first: str
    second: str
    overall: Difference
    types: dict[str, Difference]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = {name: _plain(row) for name, row in self.types.items()}
        return {
            "first": self.first,
            "second": self.second,
            "overall": _plain(self.overall),
            "types": rows,
            "notes": list(self.notes),
        }


def compare_runs(runs: Sequence[Scored], seed: int = 0) -> list[Comparison]:
    """Each run but the first against the first.

    Cases are paired by their id, in the variant as published. A question without a reply counts as wrong, as in the
    scores.

    Args:
        runs: two or more.
        seed: of the intervals.
    """
    names = _names(runs)
    return [_compare(runs[0], run, names[0], name, seed) for run, name in zip(runs[1:], names[1:], strict=True)]


def _compare(first: Scored, second: Scored, name: str, other: str, seed: int) -> Comparison:
    a, b = _by_id(first), _by_id(second)
    shared = [key for key in a if key in b]
    pairs = [(a[key], b[key]) for key in shared]
    types = {
        group: difference([o.hit for o in members], [b[o.record.id].hit for o in members], seed)
        for group, members in in_groups([one for one, _ in pairs], GROUPS["type"]).items()
    }
    corrected = holm([row.test.mid_p for row in types.values()])
    types = {group: row._replace(adjusted=p) for (group, row), p in zip(types.items(), corrected, strict=True)}
    notes = []
    for mine, theirs, whose in ((a, b, name), (b, a, other)):
        if alone := len(mine.keys() - theirs.keys()):
            notes.append(f"{alone} cases are in the run of {whose} alone and are not counted")
    if changed := sum(_question(one) != _question(two) for one, two in pairs):
        notes.append(f"{changed} cases were asked in other words, or with other options, in the two runs")
    overall = difference([one.hit for one, _ in pairs], [two.hit for _, two in pairs], seed)
    return Comparison(name, other, overall, types, tuple(notes))


def _names(runs: Sequence[Scored]) -> list[str]:
    """Names of the models; those that are there twice get a number."""
    given = [str(run.summary.get("model", "")) for run in runs]
    return [name if given.count(name) == 1 else f"{name} ({k + 1})" for k, name in enumerate(given)]


def _by_id(run: Scored) -> dict[str, Outcome]:
    return {outcome.record.id: outcome for outcome in run.outcomes if outcome.record.variant == 0}


def _question(outcome: Outcome) -> tuple[Any, ...]:
    record = outcome.record
    return record.text, tuple(record.choices.items()), record.answer


def _plain(row: Difference) -> dict[str, Any]:
    return row._asdict() | {"test": row.test._asdict()}
