"""Tags that a person sets on a case, and how its record stores them.

``reject`` is stored as the review's state; all others are a sorted list under ``extra["tags"]``. Record and App may
both have changed since they last agreed, so changes are merged, not states: tags that either side added are kept, tags
that either removed are removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydantic import ValidationError

from mmvm_data.core.types import Case, Review

REJECT = "reject"
REASON = "tagged in FiftyOne"
TAGS, BEFORE = "tags", "review_before_reject"
"""Keys of ``Case.extra``: the tags, and the review that a rejection replaced (absent for an unreviewed case)."""


def record_tags(case: Case) -> set[str]:
    """Return the tags of a record."""
    value = case.extra.get(TAGS)
    tags = {tag for tag in value if isinstance(tag, str)} if isinstance(value, list) else set()
    return (tags - {REJECT}) | ({REJECT} if _is_rejected_by_tag(case) else set())


def merge_tags(agreed: Collection[str], sides: Iterable[Collection[str]]) -> set[str]:
    """Return the tags after everything that the ``sides`` added to or removed from what they last agreed on."""
    base, result, removed = set(agreed), set(agreed), set()
    for side in sides:
        result |= set(side)
        removed |= base - set(side)
    return result - removed


def apply_changes(tags: Collection[str], before: Collection[str], after: Collection[str]) -> set[str]:
    """Return ``tags`` with the changes that another side made from ``before`` to ``after``."""
    return (set(tags) | (set(after) - set(before))) - (set(before) - set(after))


def with_tags(case: Case, tags: Collection[str], by: str | None, at: str) -> Case:
    """Return the record with these tags; the same record when it has them.

    A case that was rejected for another reason keeps its review, with and without ``reject``.

    Args:
        by, at: reviewer and time (ISO 8601, UTC), for the review of a case that becomes rejected.
    """
    extra, review = dict(case.extra), case.review
    if set(tags) - {REJECT} != record_tags(case) - {REJECT}:
        extra[TAGS] = sorted(set(tags) - {REJECT})
        if not extra[TAGS]:
            del extra[TAGS]
    if REJECT in tags and review.state != "rejected":
        if review != Review():
            extra[BEFORE] = review.model_dump(exclude_none=True)
        review = Review(state="rejected", by=by, at=at, reason=REASON)
    elif REJECT not in tags and _is_rejected_by_tag(case):
        try:
            review = Review.model_validate(extra.pop(BEFORE, {}))
        except ValidationError:  # the value was changed by hand
            review = Review()
    if (extra, review) == (case.extra, case.review):
        return case
    return case.model_copy(update={"extra": extra, "review": review})


def _is_rejected_by_tag(case: Case) -> bool:
    return case.review.state == "rejected" and case.review.reason == REASON
