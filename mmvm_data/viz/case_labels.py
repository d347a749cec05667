"""Answers and match types that a person edited in a FiftyOne data set, and how the record of a case takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mmvm_data.cases.consistency import CUES, RATIONALE, cue_conflict, rationale_conflict, with_second_look
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES, Case, Review
from mmvm_data.formats.predictions import NONE

NUMBERS = {short: number for number, (short, _) in MATCH_TYPES.items()}
"""Abbreviation of a match type -> its number."""


class Labels(NamedTuple):
    """The fields ``answer`` and ``match_types`` of one image."""

    answer: str | None
    match_types: tuple[str, ...]


def record_labels(case: Case) -> Labels:
    """Return the labels of a record: a number or ``none``, and abbreviations in the order of the types."""
    types = tuple(MATCH_TYPES[number][0] for number in sorted(set(case.match_types)))
    return Labels(NONE if case.answer is None else str(case.answer), types)


class LabelEdit(NamedTuple):
    """An edit of one image of a case that no pull has brought back.

    Attributes:
        before: labels of the record that the image was written from.
        after: labels that the image has now.
    """

    before: Labels
    after: Labels


def edit_conflict(case: Case, edits: Iterable[LabelEdit]) -> tuple[str, str] | None:
    """Return which field of a record was changed both there and in the App, and how; None when there is none, or both
    have the same labels now.

    A record that has changed elsewhere, such as in its rationale, is no conflict.
    """
    now = record_labels(case)
    for edit in edits:
        for name, before, after, current in zip(Labels._fields, edit.before, edit.after, now, strict=True):
            if before != after != current != before:
                was, is_now, edited = (describe_label(value) for value in (before, current, after))
                reason = (
                    f"was edited to {edited}, but the record has changed since it was loaded (from {was} to {is_now})"
                )
                return name, reason
    return None


def merge_edits(case: Case, edits: Iterable[LabelEdit]) -> list[Labels]:
    """Return the labels of a record with each of the edits, none of which is in conflict with it: a field that was not
    edited is that of the record."""
    now = record_labels(case)
    return [
        Labels(
            edit.after.answer if edit.after.answer != edit.before.answer else now.answer,
            edit.after.match_types if edit.after.match_types != edit.before.match_types else now.match_types,
        )
        for edit in edits
    ]


def describe_label(value: str | tuple[str, ...] | None) -> str:
    """An answer or match types, for messages."""
    if isinstance(value, tuple):
        return " ".join(value) or "no match type"
    return str(value)


def with_labels(case: Case, labels: Iterable[Labels], by: str | None, at: str) -> Case:
    """Return the record with the labels that were edited; the same record when none was.

    An edit on one image of a case is an edit of the case. The review becomes ``fixed``; a rationale and cues that speak
    of another answer are marked for a second look.

    Args:
        case: the record that the images were written from.
        labels: of each image of the case that was edited.
        by, at: reviewer and time (ISO 8601, UTC).

    Raises:
        InputError: an edit is no option or no match type, or two images were edited differently.
    """
    before, images = record_labels(case), list(labels)
    answers = {image.answer for image in images} - {before.answer}
    types = {tuple(sorted(set(image.match_types))) for image in images} - {tuple(sorted(before.match_types))}
    for name, values in (("answer", answers), ("match_types", types)):
        if len(values) > 1:
            raise InputError(case.id, f"two images were edited differently: {sorted(map(str, values))}", field=name)
    changes: dict[str, object] = {}
    for answer in answers:
        options = {NONE if option.number is None else str(option.number): option.number for option in case.options}
        if answer not in options:
            raise InputError(case.id, f"expected one of {', '.join(options)}, found {answer!r}", field="answer")
        changes["answer"] = options[answer]
    for of_case in types:
        if unknown := [name for name in of_case if name not in NUMBERS]:
            raise InputError(case.id, f"expected {', '.join(NUMBERS)}, found {unknown[0]!r}", field="match_types")
        changes["match_types"] = tuple(sorted(NUMBERS[name] for name in of_case))
    if not changes:
        return case
    after = case.model_copy(update={**changes, "review": Review(state="fixed", by=by, at=at)})
    if "answer" not in changes:
        return after
    conflicts = [conflict for cue in after.cues if (conflict := cue_conflict(after, cue))]
    return with_second_look(after, {RATIONALE: rationale_conflict(after), CUES: conflicts[0] if conflicts else None})
