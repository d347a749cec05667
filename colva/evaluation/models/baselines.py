"""Baselines that look at nothing, or at one property of the candidates: what a score has to be compared with."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from colva.evaluation.models.base import ModelOptions, Reply
from colva.evaluation.question import Question
from colva.evaluation.scoring.extract import NONE
from mmvm_data.core.case_facts import region_area
from mmvm_data.core.errors import InputError, UsageError

PickLabel = Callable[[Question], str]


class BaselineModelAdapter:
    """A rule that picks a label; see ``base.ModelAdapter`` for the attributes."""

    batch = 64
    workers = 1

    def __init__(self, name: str, fingerprint: Mapping[str, Any], pick_label: PickLabel) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._pick_label = pick_label

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Return the picked label of each question; the reply to a second turn is empty.

        Raises:
            UsageError: the candidates of a question are not known.
        """
        for question in questions:
            if not question.choices:
                raise UsageError(f"{self.name}: question {question.id} does not say what there is to choose from")
        return [Reply(text=self._pick_label(q), why="" if q.why_prompt else None) for q in questions]


def open_model(name: str, options: ModelOptions) -> BaselineModelAdapter:
    """Return one of ``random``, ``first`` and ``largest``.

    - ``random``: a label drawn from the seed and the name of the question alone.
    - ``first``: the first label.
    - ``largest``: the candidate with the most pixels, the lower number of equals; never "none of the above".
    """
    if name == "random":
        fingerprint = {"adapter": name, "seed": options.seed}
        return BaselineModelAdapter(name, fingerprint, lambda q: _random_label(q, options.seed))
    return BaselineModelAdapter(name, {"adapter": name}, {"first": _first_label, "largest": _largest_label}[name])


def _random_label(question: Question, seed: int) -> str:
    return random.Random(f"{seed}/{question.id}").choice(list(question.choices))


def _first_label(question: Question) -> str:
    return next(iter(question.choices))


def _largest_label(question: Question) -> str:
    case = question.source_case
    if case is None:
        raise InputError(question.id, "its regions are not known, so none is the largest")
    areas = {str(c.number): region_area(c.region) for c in case.candidates}
    choices = [(label, text) for label, text in question.choices.items() if label != NONE and text in areas]
    if not choices:
        return _first_label(question)
    return min(choices, key=lambda choice: (-areas[choice[1]], int(choice[1])))[0]
