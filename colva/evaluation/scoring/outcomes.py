"""What each prediction of a run amounts to: the chosen label, right or wrong, or why there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from colva.evaluation.runs import Prediction
from colva.evaluation.scoring.extract import REFUSED, extract_number, extract_option
from mmvm_data.core.types import MATCH_TYPES

UNREAD, NO_REPLY = "(unread)", "(no reply)"
"""Columns of a confusion matrix for what is no label."""


class FailedQuestion(NamedTuple):
    """A question without a reply.

    Attributes:
        position: among all questions of the run.
        prediction: the question, with an empty reply.
        error: why there is no reply.
    """

    position: int
    prediction: Prediction
    error: str


@dataclass(frozen=True)
class Outcome:
    """One question and the label that was chosen.

    Attributes:
        prediction: the question and the reply; the reply is empty when there was none.
        chosen: the label; None: none could be read, or there was no reply; ``Z``: refused.
        error: why there was no reply.
        by_judge: the label is the judge's.
        reason_agrees: the judge's verdict on the second turn; None: not judged.
    """

    prediction: Prediction
    chosen: str | None
    error: str | None = None
    by_judge: bool = False
    reason_agrees: bool | None = None

    @property
    def is_right(self) -> bool:
        """The right label was chosen."""
        return self.chosen == self.prediction.answer

    @property
    def column(self) -> str:
        """Column of a confusion matrix: the label, ``Z``, or why there is none."""
        return NO_REPLY if self.error else UNREAD if self.chosen is None else self.chosen


@dataclass(frozen=True)
class ScoredRun:
    """A run, scored.

    Attributes:
        outcomes: in the benchmark's order.
        summary: what ``scores.json`` holds, see ``metrics.summarize``.
    """

    outcomes: Sequence[Outcome]
    summary: Mapping[str, Any] = field(default_factory=dict)


def collect_outcomes(
    predictions: Iterable[Prediction],
    failed: Iterable[FailedQuestion] = (),
    mode: str = "vlmevalkit",
    judged: Mapping[str, str] | None = None,
    reasons: Mapping[str, bool] | None = None,
) -> list[Outcome]:
    """Return the outcome of each question, in the benchmark's order.

    Args:
        predictions: of a run, in the benchmark's order.
        failed: questions without a reply, ascending by position.
        mode: of extraction.
        judged: id -> the judge's label, for what the rule could not read.
        reasons: id -> whether the judge finds that the reason agrees with a person's.
    """
    outcomes = []
    for prediction in predictions:
        chosen = read_label(prediction, mode)
        label = (judged or {}).get(prediction.id) if chosen is None else None
        agrees = (reasons or {}).get(prediction.id)
        outcomes.append(Outcome(prediction, label or chosen, by_judge=label is not None, reason_agrees=agrees))
    for question in failed:
        outcomes.insert(question.position, Outcome(question.prediction, None, error=question.error))
    return outcomes


def read_label(prediction: Prediction, mode: str) -> str | None:
    """Return the label that a reply names, by rule; see ``extract``. A reply that was withheld is a refusal."""
    if prediction.scores is not None:
        return prediction.reply
    if prediction.withheld:
        return REFUSED
    if prediction.protocol == "vqa":
        numbers = [int(label) for label in prediction.choices if label.isdigit()]
        return extract_number(prediction.reply, numbers, mode)
    return extract_option(prediction.reply, prediction.choices, mode)


def type_name(number: int) -> str:
    """Return a match type's abbreviation: 1 -> "CL"."""
    return MATCH_TYPES[number][0]
