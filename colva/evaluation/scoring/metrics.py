"""Scores of a run: hits by rule, shares with their intervals, and what the letters give away.

Overall is the mean of hits; a case counts in each of its match types (DESIGN 6). What could not be read from a text,
what a model refused, and what got no reply counts as wrong, is counted by itself, and is listed. Every share says of
how many cases it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from colva.evaluation.runs import Record
from colva.evaluation.scoring import statistics
from colva.evaluation.scoring.extract import NONE, REFUSED, extract_number, extract_option
from mmvm_data.core.types import MATCH_TYPES

UNREAD, NO_REPLY = "(unread)", "(no reply)"
"""What stands in the place of a label in a confusion."""


class Fault(NamedTuple):
    """A question without a reply: its place among all questions, the question (with an empty reply), and why."""

    position: int
    record: Record
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What came of one question.

    Attributes:
        record: the prediction; of a question without a reply, with an empty one.
        chosen: the label; None: none could be read, or there was no reply; ``Z``: refused.
        fault: why there was no reply.
        by_judge: the label is the judge's.
        reason_agrees: the judge's verdict on the second turn; None: not judged.
    """

    record: Record
    chosen: str | None
    fault: str | None = None
    by_judge: bool = False
    reason_agrees: bool | None = None

    @property
    def hit(self) -> bool:
        """The right label was chosen."""
        return self.chosen == self.record.answer

    @property
    def cell(self) -> str:
        """Column of a confusion: the label, ``Z``, or why there is none."""
        return NO_REPLY if self.fault else UNREAD if self.chosen is None else self.chosen


@dataclass(frozen=True)
class Scored:
    """A run, scored.

    Attributes:
        outcomes: in the benchmark's order.
        summary: what ``scores.json`` holds, see ``summarise``.
    """

    outcomes: Sequence[Outcome]
    summary: Mapping[str, Any] = field(default_factory=dict)


def read_label(record: Record, mode: str) -> str | None:
    """The label that a reply names, by rule; see ``extract``."""
    if record.scores is not None:
        return record.reply
    if record.protocol == "vqa":
        return extract_number(record.reply, [int(label) for label in record.choices if label.isdigit()], mode)
    return extract_option(record.reply, record.choices, mode)


def outcomes(
    records: Iterable[Record],
    faults: Iterable[Fault] = (),
    mode: str = "vlmevalkit",
    judged: Mapping[str, str] | None = None,
    reasons: Mapping[str, bool] | None = None,
) -> list[Outcome]:
    """The outcome of each question, in the benchmark's order.

    Args:
        records: of a run, in the benchmark's order.
        faults: ascending by position.
        mode: of extraction.
        judged: id -> the judge's label, for what the rule could not read.
        reasons: id -> whether the judge finds the reason good.
    """
    found = []
    for record in records:
        chosen = read_label(record, mode)
        label = (judged or {}).get(record.id) if chosen is None else None
        agrees = (reasons or {}).get(record.id)
        found.append(Outcome(record, label or chosen, by_judge=label is not None, reason_agrees=agrees))
    for fault in faults:
        found.insert(fault.position, Outcome(fault.record, None, fault=fault.reason))
    return found


def summarise(all_outcomes: Sequence[Outcome], seed: int = 0) -> dict[str, Any]:
    """Scores as plain JSON values; shares are 0..1, see ``statistics.Share``.

    Keys: ``cases`` (counts), ``overall``, ``replied`` (over questions with a reply alone), ``chance`` (mean of 1 over
    the number of options), ``by`` (type, candidates, source, difficulty), ``letters``, ``confusion`` (right, then
    chosen label: cases), ``circular``, ``reasons``, and the ids in ``unread``, ``refused``, ``no_reply``. All but
    ``circular`` are of the questions as published, without their further variants.

    Args:
        all_outcomes: of one run.
        seed: of the bootstrap.
    """
    first = [o for o in all_outcomes if o.record.variant == 0]
    replied = [o for o in first if o.fault is None]
    known = [o for o in first if o.record.choices]
    unread = [o.record.id for o in replied if o.chosen is None]
    refused = [o.record.id for o in replied if o.chosen == REFUSED and REFUSED not in o.record.choices]
    faults = [o.record.id for o in first if o.fault is not None]
    return {
        "cases": {
            "asked": len(first),
            "replied": len(replied),
            "no_reply": len(faults),
            "unread": len(unread),
            "refused": len(refused),
            "by_judge": sum(o.by_judge for o in first),
            "cut": sum(o.record.cut for o in first),
        },
        "overall": share_of(first, seed),
        "replied": share_of(replied, seed),
        "chance": sum(1 / len(o.record.choices) for o in known) / len(known) if known else None,
        "by": {name: _grouped(first, groups, seed) for name, groups in GROUPS.items()},
        "letters": letters(first),
        "confusion": confusion(first),
        "circular": circular(all_outcomes, seed),
        "reasons": _reasons(first, seed),
        "unread": unread,
        "refused": refused,
        "no_reply": faults,
    }


def share_of(chosen: Sequence[Outcome], seed: int = 0) -> dict[str, Any]:
    """The share of hits with its intervals, as a dict of ``statistics.Share``."""
    return statistics.share(sum(o.hit for o in chosen), len(chosen), seed)._asdict()


def type_name(number: int) -> str:
    """A match type's abbreviation: 1 -> "CL"."""
    return MATCH_TYPES[number][0]


GROUPS: Mapping[str, Callable[[Record], Iterable[str]]] = {
    "type": lambda record: [type_name(number) for number in record.types] or ["(none)"],
    "candidates": lambda record: ["(unknown)" if record.candidates is None else str(record.candidates)],
    "source": lambda record: [record.source],
    "difficulty": lambda record: [record.difficulty or "(unknown)"],
}
"""Name of a grouping -> the groups that a case counts in."""


def in_groups(chosen: Sequence[Outcome], groups: Callable[[Record], Iterable[str]]) -> dict[str, list[Outcome]]:
    """Group -> its outcomes; groups in a natural order."""
    found: dict[str, list[Outcome]] = {}
    for outcome in chosen:
        for group in groups(outcome.record):
            found.setdefault(group, []).append(outcome)
    return {group: found[group] for group in sorted(found, key=_natural)}


def confusion(chosen: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Right label -> chosen label, ``Z``, ``(unread)`` or ``(no reply)`` -> cases."""
    counts: dict[str, Counter[str]] = {}
    for outcome in chosen:
        counts.setdefault(outcome.record.answer, Counter())[outcome.cell] += 1
    return {
        right: {cell: row[cell] for cell in sorted(row, key=_natural)}
        for right, row in sorted(counts.items(), key=lambda item: _natural(item[0]))
    }


def letters(chosen: Sequence[Outcome]) -> dict[str, Any]:
    """Whether labels are chosen for themselves.

    ``by``: label -> how often it is right, chosen, and right when chosen. ``bias``: total variation distance between
    the two distributions over the cases where a label was read, 0 (chosen as often as right) to 1.
    """
    read = [o for o in chosen if o.chosen is not None and (o.chosen in o.record.choices or not o.record.choices)]
    right, picked = Counter(o.record.answer for o in read), Counter(o.chosen for o in read)
    hits = Counter(o.record.answer for o in read if o.hit)
    labels = sorted({*right, *(label for label in picked if label is not None)}, key=_natural)
    apart = sum(abs(right[label] - picked[label]) for label in labels)
    return {
        "n": len(read),
        "bias": apart / (2 * len(read)) if read else None,
        "by": {label: {"right": right[label], "chosen": picked[label], "hits": hits[label]} for label in labels},
    }


def circular(all_outcomes: Sequence[Outcome], seed: int = 0) -> dict[str, Any] | None:
    """What moving the options round changes; None without variants. Of the cases that have all their variants.

    ``all_right``: right in every variant. ``same``: the same object (or none) chosen in every variant, right or not.
    ``mean``: share of hits over all variants.
    """
    cases: dict[str, list[Outcome]] = {}
    for outcome in all_outcomes:
        cases.setdefault(outcome.record.case, []).append(outcome)
    if all(len(variants) == 1 for variants in cases.values()):
        return None
    several = [variants for variants in cases.values() if len(variants) > 1]
    meant = [[o.record.choices.get(o.chosen or "") for o in variants] for variants in several]
    hits = [o.hit for variants in several for o in variants]
    return {
        "variants": max(map(len, several)),
        "questions": len(hits),
        "all_right": statistics.share(sum(all(o.hit for o in v) for v in several), len(several), seed)._asdict(),
        "same": statistics.share(
            sum(None not in texts and len(set(texts)) == 1 for texts in meant), len(several), seed
        )._asdict(),
        "mean": sum(hits) / len(hits),
    }


def _reasons(chosen: Sequence[Outcome], seed: int) -> dict[str, Any] | None:
    """Of the second turn; None when it was not asked. ``agree`` is of the replies that a judge has compared."""
    asked = [o for o in chosen if o.record.why is not None]
    if not asked:
        return None
    judged = [o.reason_agrees for o in asked if o.reason_agrees is not None]
    return {
        "asked": len(asked),
        "empty": sum(not (o.record.why or "").strip() for o in asked),
        "agree": statistics.share(sum(judged), len(judged), seed)._asdict(),
    }


def _grouped(
    chosen: Sequence[Outcome], groups: Callable[[Record], Iterable[str]], seed: int
) -> dict[str, dict[str, Any]]:
    return {group: share_of(members, seed) for group, members in in_groups(chosen, groups).items()}


_TYPES = [name for name, _ in MATCH_TYPES.values()]


def _natural(text: str) -> tuple[int, int, str]:
    """Match types in their order, numbers by value, then the other names, what is no name last."""
    if text in _TYPES:
        return 0, _TYPES.index(text), text
    if text.isdigit():
        return 1, int(text), text
    return (4 if text.startswith("(") else 3 if text in (NONE, REFUSED, "all") else 2), 0, text
