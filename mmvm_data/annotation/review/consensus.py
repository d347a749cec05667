"""Several people's annotations of one case -> the one that counts, or what they disagree about."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Generic, TypeVar

from mmvm_data.annotation.review.agreement import mask_ious, verdict_of
from mmvm_data.core.types import Case

Source = TypeVar("Source")

MIN_MASK_IOU: Final = 0.8
"""Masks of two people that overlap less are a disagreement."""


@dataclass(frozen=True)
class Opinion(Generic[Source]):
    """One person's annotation of a case.

    Attributes:
        by: e-mail address.
        order: time and number of the annotation, which order them.
        case: the case after it.
        is_decision: whether it is marked as ground truth, which decides a case.
        source: what the caller knows it by.
    """

    by: str
    order: tuple[str, int]
    case: Case
    is_decision: bool
    source: Source


@dataclass(frozen=True)
class Verdict(Generic[Source]):
    """What the annotations of a case amount to.

    Attributes:
        final: the annotation that counts; None while people are missing or disagree.
        missing: how many people have yet to annotate the case.
        disputed: the fields that people disagree about, of "verdict", "answer", "match_types" and "masks".
        opinions: the latest annotation of each person, without those of adjudicators.
    """

    final: Opinion[Source] | None
    missing: int
    disputed: tuple[str, ...]
    opinions: tuple[Opinion[Source], ...]


def decide(annotations: Sequence[Opinion[Source]], overlap: int, adjudicators: Collection[str] = ()) -> Verdict[Source]:
    """Decide a case by its annotations.

    An annotation that is marked as ground truth decides, else the latest of an adjudicator. Otherwise the case needs
    ``overlap`` people of one opinion, whose latest annotation counts. "Not sure" settles nothing: it counts as a
    disagreement about the verdict.
    """
    ordered = sorted(annotations, key=lambda opinion: opinion.order)
    latest = {opinion.by: opinion for opinion in ordered if opinion.by not in adjudicators}
    opinions = tuple(latest.values())
    decisions = [o for o in ordered if o.is_decision] or [o for o in ordered if o.by in adjudicators]
    missing = max(0, overlap - len(opinions))
    if decisions:
        return Verdict(decisions[-1], 0, (), opinions)
    disputed = differing_fields([opinion.case for opinion in opinions])
    if missing or disputed or not opinions:
        return Verdict(None, missing, disputed, opinions)
    return Verdict(max(opinions, key=lambda opinion: opinion.order), 0, (), opinions)


def differing_fields(cases: Sequence[Case]) -> tuple[str, ...]:
    """The fields in which the cases after different people's annotations differ; see ``Verdict.disputed``."""
    verdicts = {verdict_of(case) for case in cases}
    fields = ["verdict"] if len(verdicts) > 1 or "unsure" in verdicts else []
    kept = [case for case in cases if verdict_of(case) == "kept"]
    if len({case.answer for case in kept}) > 1:
        fields.append("answer")
    if len({case.match_types for case in kept}) > 1:
        fields.append("match_types")
    if any(min(mask_ious(a, b)) < MIN_MASK_IOU for a, b in combinations(kept, 2)):
        fields.append("masks")
    return tuple(fields)
