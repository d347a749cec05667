"""Whether the answer of a case, its rationale, its cues, its match types and its options agree.

What a person has to look at again is marked in the record under ``extra["second_look"]``: "rationale" or "cues" -> the
reason. An unmarked record has no such key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mmvm_data.cases.claims import direct_claims, referenced_numbers, sentence_subjects
from mmvm_data.core.types import MATCH_TYPES, Case, Cue

SECOND_LOOK: Final = "second_look"
"""Key of ``Case.extra``."""
RATIONALE: Final = "rationale"
CUES: Final = "cues"
_OBJECT = re.compile(r"\bobject (\d+)\b", re.IGNORECASE)
_MEASURED_OTHERS: Final = ("rival", "partner")
"""Measures of cues that are numbers of other candidates than the answer."""


def describe_answer(answer: int | None) -> str:
    """An answer in the words of messages."""
    return "none of the candidates" if answer is None else f"object {answer}"


def second_look(case: Case) -> dict[str, str]:
    """Return what is marked for a second look, with the reasons."""
    value = case.extra.get(SECOND_LOOK)
    return {str(key): str(reason) for key, reason in value.items()} if isinstance(value, dict) else {}


def with_second_look(case: Case, marks: Mapping[str, str | None]) -> Case:
    """Return the case with marks set, or removed where the reason is None; the same case when nothing changes."""
    after = {key: reason for key, reason in {**second_look(case), **marks}.items() if reason}
    if after == second_look(case):
        return case
    extra = {key: value for key, value in case.extra.items() if key != SECOND_LOOK}
    return case.model_copy(update={"extra": extra | ({SECOND_LOOK: after} if after else {})})


def rationale_conflict(case: Case) -> str | None:
    """Return in which words the rationale speaks of another object than the answer; None when it does not.

    Only the words are judged: a text that names no object agrees with every answer.
    """
    text = case.rationale or ""
    if wrong := sorted(direct_claims(text) - {case.answer}):
        return f"names object {wrong[0]} as the match, the answer is {describe_answer(case.answer)}"
    if case.answer is not None and case.answer not in referenced_numbers(text):
        known = {candidate.number for candidate in case.candidates}
        if others := [number for number in sentence_subjects(text) if number in known]:
            return f"is about object {others[0]}, the answer is {describe_answer(case.answer)}"
    return None


def cue_conflict(case: Case, cue: Cue) -> str | None:
    """Return why a cue does not belong to the answer; None when it may.

    The evidence calls the answer "it", and others "object 3".
    """
    if case.answer is None and cue.source == "proposed":
        return "sets an answer apart, but none of the candidates is correct"
    for name in _MEASURED_OTHERS:
        if case.answer is not None and cue.measures.get(name) == case.answer:
            return f"compares the answer with object {case.answer}, which is the answer"
    named = {int(number) for number in _OBJECT.findall(cue.evidence)}
    if cue.source == "proposed" and case.answer in named:
        return f"speaks of object {case.answer} as of another one, but it is the answer"
    if wrong := sorted(direct_claims(cue.evidence) - {case.answer}):
        return f"names object {wrong[0]} as the match, the answer is {describe_answer(case.answer)}"
    return None


def find_conflicts(case: Case) -> list[tuple[str, str]]:
    """Return (field, what is wrong) for all that does not agree in a record."""
    found = [(field, f"needs a second look: {reason}") for field, reason in second_look(case).items()]
    marked = second_look(case)
    if RATIONALE not in marked and (reason := rationale_conflict(case)):
        found.append((RATIONALE, reason))
    if CUES not in marked:
        for cue in case.cues:
            if reason := cue_conflict(case, cue):
                found.append((CUES, f"{MATCH_TYPES[cue.type][0]} {reason}"))
    confirmed = {cue.type for cue in case.cues if cue.source == "human"}
    if case.match_types and (missing := sorted(confirmed - set(case.match_types))):
        names = ", ".join(MATCH_TYPES[number][0] for number in missing)
        found.append(("match_types", f"lack {names}, which cues of a person name"))
    numbers = [option.number for option in case.options]
    if case.answer not in numbers:
        found.append(("options", f"do not offer the answer, {describe_answer(case.answer)}"))
    known = {candidate.number for candidate in case.candidates}
    if unknown := sorted({number for number in numbers if number is not None} - known):
        found.append(("options", f"offer {describe_answer(unknown[0])}, which is not a candidate"))
    if len(set(numbers)) != len(numbers) or len({option.letter for option in case.options}) != len(numbers):
        found.append(("options", "repeat a letter or an object"))
    return found


def needs_second_look(case: Case) -> str | None:
    """Return why the rationale must not be used before a person has looked at it; None when it may."""
    return second_look(case).get(RATIONALE) or rationale_conflict(case)
