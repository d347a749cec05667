"""Players that look at nothing, or at one thing: what a score has to be measured against."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from colva.evaluation.models.base import PlayerOptions, Reply
from colva.evaluation.question import Question
from colva.evaluation.scoring.extract import NONE
from mmvm_data.core.case_facts import region_area
from mmvm_data.core.errors import InputError, UsageError

Pick = Callable[[Question], str]


class TrivialPlayer:
    """A rule that picks a label; see ``player.Player`` for the attributes."""

    batch = 64
    workers = 1

    def __init__(self, name: str, fingerprint: Mapping[str, Any], pick: Pick) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._pick = pick

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """The picked label of each question; a second turn gets no words.

        Raises:
            UsageError: the candidates of a question are not known.
        """
        for question in questions:
            if not question.choices:
                raise UsageError(f"{self.name}: question {question.id} does not say what there is to choose from")
        return [Reply(text=self._pick(q), why="" if q.why else None) for q in questions]


def open_player(name: str, options: PlayerOptions) -> TrivialPlayer:
    """One of ``random``, ``first`` and ``largest``.

    - ``random``: a label drawn from the seed and the name of the question alone.
    - ``first``: the first label.
    - ``largest``: the candidate with the most pixels, the lower number of equals; never "none of the above".
    """
    if name == "random":
        return TrivialPlayer(name, {"player": name, "seed": options.seed}, lambda q: _random(q, options.seed))
    return TrivialPlayer(name, {"player": name}, {"first": _first, "largest": _largest}[name])


def _random(question: Question, seed: int) -> str:
    return random.Random(f"{seed}/{question.id}").choice(list(question.choices))


def _first(question: Question) -> str:
    return next(iter(question.choices))


def _largest(question: Question) -> str:
    record = question.record
    if record is None:
        raise InputError(question.id, "its regions are not known, so none is the largest")
    areas = {str(c.number): region_area(c.region) for c in record.candidates}
    offered = [(label, text) for label, text in question.choices.items() if label != NONE and text in areas]
    if not offered:
        return _first(question)
    return min(offered, key=lambda pair: (-areas[pair[1]], int(pair[1])))[0]
