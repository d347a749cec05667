"""Tags that a person sets on a case, and how they stand in its record.

``reject`` is the review's state; all others are a sorted list under ``extra["tags"]``. Both sides may have changed
since they last agreed, so changes are merged, not states: what either added is there, what either took away is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydantic import ValidationError

from mmvm_data.core.types import Case, Review

REJECT = "reject"
REASON = "tagged in FiftyOne"
TAGS, BEFORE = "tags", "review_before_reject"
"""Keys of ``Case.extra``: the tags, and the review that a rejection replaced (absent when nobody had looked)."""


def of(case: Case) -> set[str]:
    """The tags that a record stands for."""
    listed = case.extra.get(TAGS)
    tags = {tag for tag in listed if isinstance(tag, str)} if isinstance(listed, list) else set()
    return (tags - {REJECT}) | ({REJECT} if _rejected_here(case) else set())


def merged(agreed: Collection[str], sides: Iterable[Collection[str]]) -> set[str]:
    """The tags after all that the ``sides`` added to or took from what they last agreed on."""
    base, result, gone = set(agreed), set(agreed), set()
    for side in sides:
        result |= set(side)
        gone |= base - set(side)
    return result - gone


def followed(tags: Collection[str], agreed: Collection[str], now: Collection[str]) -> set[str]:
    """``tags`` with the changes that another side made from ``agreed`` to ``now``."""
    return (set(tags) | (set(now) - set(agreed))) - (set(agreed) - set(now))


def tagged(case: Case, tags: Collection[str], by: str | None, at: str) -> Case:
    """The record with these tags; the same record when it has them.

    A case that somebody rejected for a reason of their own stays as it is with and without ``reject``.

    Args:
        by, at: who and when (ISO 8601, UTC), for the review of a case that is rejected or no longer is.
    """
    extra, review = dict(case.extra), case.review
    if set(tags) - {REJECT} != of(case) - {REJECT}:
        extra[TAGS] = sorted(set(tags) - {REJECT})
        if not extra[TAGS]:
            del extra[TAGS]
    if REJECT in tags and review.state != "rejected":
        if review != Review():
            extra[BEFORE] = review.model_dump(exclude_none=True)
        review = Review(state="rejected", by=by, at=at, reason=REASON)
    elif REJECT not in tags and _rejected_here(case):
        try:
            review = Review.model_validate(extra.pop(BEFORE, {}))
        except ValidationError:  # someone wrote something else there
            review = Review()
    return case.model_copy(update={"extra": extra, "review": review}) if (extra, review) != _stand(case) else case


def _stand(case: Case) -> tuple[dict[str, object], Review]:
    return dict(case.extra), case.review


def _rejected_here(case: Case) -> bool:
    return case.review.state == "rejected" and case.review.reason == REASON
