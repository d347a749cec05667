"""Metrics of outcomes: shares with their intervals, confusion matrix, letter bias, consistency over variants.

Overall is the mean over cases; a case counts in each of its match types. What could not be read from a text, what a
model refused, and what got no reply counts as wrong, is counted by itself, and is listed. Every share comes with the
number of its cases. Nothing here reads or writes files: that is ``score_run``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from colva.evaluation.runs import Prediction
from colva.evaluation.scoring import statistics
from colva.evaluation.scoring.extract import NONE, REFUSED
from colva.evaluation.scoring.outcomes import Outcome, type_name
from mmvm_data.core.types import MATCH_TYPES

NO_TYPE = "(none)"
"""Group of the cases without a match type."""
GROUPS: Mapping[str, Callable[[Prediction], Iterable[str]]] = {
    "type": lambda p: [type_name(number) for number in p.types] or [NO_TYPE],
    "candidates": lambda p: ["(unknown)" if p.candidates is None else str(p.candidates)],
    "source": lambda p: [p.source],
    "difficulty": lambda p: [p.difficulty or "(unknown)"],
}
"""Name of a grouping -> the groups that a case counts in."""


def summarize(outcomes: Sequence[Outcome], seed: int = 0) -> dict[str, Any]:
    """Return the scores as plain JSON values; shares are 0..1, see ``statistics.Share``.

    Keys: ``cases`` (counts), ``overall``, ``replied`` (over questions with a reply alone), ``chance`` (mean of 1 over
    the number of options), ``by`` (type, candidates, source, difficulty), ``letters``, ``confusion`` (right, then
    chosen label: cases), ``circular``, ``reasons``, and the ids in ``unread``, ``refused``, ``no_reply`` and
    ``truncated`` (cut at the limit of tokens, whether an option could be read or not). All but ``circular``
    are of the questions as published, without their further variants.

    Args:
        outcomes: of one run.
        seed: of the bootstrap.
    """
    published = [o for o in outcomes if o.prediction.variant == 0]
    replied = [o for o in published if o.error is None]
    with_choices = [o for o in published if o.prediction.choices]
    unread = [o.prediction.id for o in replied if o.chosen is None]
    refused = [o.prediction.id for o in replied if o.chosen == REFUSED and REFUSED not in o.prediction.choices]
    no_reply = [o.prediction.id for o in published if o.error is not None]
    truncated = [o.prediction.id for o in replied if o.prediction.truncated]
    chances = [1 / len(o.prediction.choices) for o in with_choices]
    return {
        "cases": {
            "asked": len(published),
            "replied": len(replied),
            "no_reply": len(no_reply),
            "unread": len(unread),
            "refused": len(refused),
            "by_judge": sum(o.by_judge for o in published),
            "truncated": len(truncated),
        },
        "overall": share_of_right(published, seed),
        "replied": share_of_right(replied, seed),
        "chance": sum(chances) / len(chances) if chances else None,
        "by": {
            name: {group: share_of_right(members, seed) for group, members in group_outcomes(published, key).items()}
            for name, key in GROUPS.items()
        },
        "letters": letter_bias(published),
        "confusion": confusion_matrix(published),
        "circular": circular_scores(outcomes, seed),
        "reasons": _reason_scores(published, seed),
        "unread": unread,
        "refused": refused,
        "no_reply": no_reply,
        "truncated": truncated,
    }


def share_of_right(outcomes: Sequence[Outcome], seed: int = 0) -> dict[str, Any]:
    """Return the share of right answers with its intervals, as a dict of ``statistics.Share``."""
    return statistics.share(sum(o.is_right for o in outcomes), len(outcomes), seed)._asdict()


def group_outcomes(outcomes: Sequence[Outcome], key: Callable[[Prediction], Iterable[str]]) -> dict[str, list[Outcome]]:
    """Return group -> its outcomes; match types in their order, numbers by value, other names as they come.

    Args:
        outcomes: of one run.
        key: prediction -> the groups it counts in, such as a value of ``GROUPS``.
    """
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for group in key(outcome.prediction):
            groups.setdefault(group, []).append(outcome)
    return {group: groups[group] for group in sorted(groups, key=_sort_key)}


def confusion_matrix(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Return right label -> chosen label, ``Z``, ``(unread)`` or ``(no reply)`` -> cases."""
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        counts.setdefault(outcome.prediction.answer, Counter())[outcome.column] += 1
    return {
        right: {column: row[column] for column in sorted(row, key=_sort_key)}
        for right, row in sorted(counts.items(), key=lambda item: _sort_key(item[0]))
    }


def letter_bias(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return whether labels are chosen for themselves, over the cases where a label was read.

    ``by``: label -> how often it is right, chosen, and right when chosen. ``bias``: total variation distance between
    the distributions of right and of chosen labels, 0 (chosen as often as right) to 1; None without cases.
    """
    read = [
        o for o in outcomes if o.chosen is not None and (o.chosen in o.prediction.choices or not o.prediction.choices)
    ]
    right, chosen = Counter(o.prediction.answer for o in read), Counter(o.chosen for o in read)
    hits = Counter(o.prediction.answer for o in read if o.is_right)
    labels = sorted({*right, *(label for label in chosen if label is not None)}, key=_sort_key)
    distance = sum(abs(right[label] - chosen[label]) for label in labels)
    return {
        "n": len(read),
        "bias": distance / (2 * len(read)) if read else None,
        "by": {label: {"right": right[label], "chosen": chosen[label], "hits": hits[label]} for label in labels},
    }


def circular_scores(outcomes: Sequence[Outcome], seed: int = 0) -> dict[str, Any] | None:
    """Return what moving the options round changes, over the cases with variants; None without any.

    ``all_right``: right in every variant. ``same``: the same object (or none) chosen in every variant, right or not.
    ``mean``: share of right answers over all variants.
    """
    cases: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        cases.setdefault(outcome.prediction.case, []).append(outcome)
    groups = [variants for variants in cases.values() if len(variants) > 1]
    if not groups:
        return None
    all_right = sum(all(o.is_right for o in variants) for variants in groups)
    texts = [[o.prediction.choices.get(o.chosen or "") for o in variants] for variants in groups]
    same = sum(None not in row and len(set(row)) == 1 for row in texts)
    hits = [o.is_right for variants in groups for o in variants]
    return {
        "variants": max(map(len, groups)),
        "questions": len(hits),
        "all_right": statistics.share(all_right, len(groups), seed)._asdict(),
        "same": statistics.share(same, len(groups), seed)._asdict(),
        "mean": sum(hits) / len(hits),
    }


def _reason_scores(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any] | None:
    """Return counts of the second turn; None when it was not asked. ``agree`` is over the replies that a judge has
    compared."""
    asked = [o for o in outcomes if o.prediction.why is not None]
    if not asked:
        return None
    judged = [o.reason_agrees for o in asked if o.reason_agrees is not None]
    return {
        "asked": len(asked),
        "empty": sum(not (o.prediction.why or "").strip() for o in asked),
        "agree": statistics.share(sum(judged), len(judged), seed)._asdict(),
    }


_TYPE_NAMES = [name for name, _ in MATCH_TYPES.values()]


def _sort_key(text: str) -> tuple[int, int, str]:
    """Sort match types in their order, numbers by value, then the other names, what is no label last."""
    if text in _TYPE_NAMES:
        return 0, _TYPE_NAMES.index(text), text
    if text.isdigit():
        return 1, int(text), text
    return (4 if text.startswith("(") else 3 if text in (NONE, REFUSED, "all") else 2), 0, text
