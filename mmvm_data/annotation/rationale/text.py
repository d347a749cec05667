"""Texts of rationales: the prompt for a model, the template for cues, and the check of a model's reply."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmvm_data.annotation.rationale.phrases import write_sentences
from mmvm_data.cases.claims import claimed_matches, referenced_numbers
from mmvm_data.core.types import MATCH_TYPES, Case, Cue

PROMPT_VERSION = "1"
"""Must change with every change of SYSTEM or ``build_user_prompt``."""
TEMPLATE_VERSION = "2"
"""Must change with every change of ``fill_template`` and of ``phrases``."""

NOT_VISIBLE = "NOT VISIBLE"

SYSTEM = f"""\
You write explanations for a data set about visual correspondence. You see two or more images of one scene, taken at \
different moments or from different cameras. In every image but the last, one object is outlined in cyan: the query. \
In the last image several candidates are outlined, each with its number on a label. You are told which candidate is \
the query, or that none is. Explain how a careful viewer can tell this from the images.

Rules:
1. Two to four plain sentences, at most 90 words. No lists, headings or markup.
2. Call candidates only "object 3", with their own numbers, and name the right one in this way at least once. Mention \
another candidate only to say how it differs from the query. Write any other number in words.
3. Say what can be seen: colour and pattern, shape or posture, text or logos, size, place among its neighbours, \
orientation and movement, what it holds, wears or is attached to, marks on it. Name at least one thing that sets the \
right candidate apart from the one that is most like it. If none is right, say that none of the candidates is the \
query and what the most similar one lacks.
4. Outlines and labels were drawn for this task; their colours and numbers are no reason.
5. Hints, if there are any, were measured by a program and may be wrong or useless. Use one only where you see the \
same in the images. Give no measured values, and never mention hints, these rules, or that you were told the answer.
6. If the images do not show why, reply with {NOT_VISIBLE} and nothing else."""

_MIN_LENGTH, _MAX_LENGTH = 20, 1200  # characters
_MAX_HINTS = 4
_OPTION_LETTER = re.compile(r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer(?: is)?:?)\s+\(?([A-Z])\b(?!')")
_NO_MATCH = re.compile(
    r"\b(?:none|no (?:candidate|object|marked)|not (?:among|one of|any|present|visible|there)|nowhere)\b", re.I
)
_TASK_LEAK = re.compile(
    r"\bhints?\b|\bI (?:was|am) (?:told|given)|\b(?:provided|given|stated) answer|ground.truth|CIELAB|Hu moments|"
    r"\bthese rules\b|as an AI|I(?:'m| am) (?:sorry|unable)|I (?:cannot|can't)\b",
    re.IGNORECASE,
)


def build_user_prompt(case: Case, cues: Sequence[Cue]) -> tuple[list[str], str]:
    """Return the user message about one case.

    Args:
        case: the case to explain.
        cues: hints, the clearest first; at most four are used.

    Returns:
        the lines that precede the images, one each, and the text after the images.
    """
    mark = "box" if case.prompt == "box" else "contour"
    numbers = ", ".join(str(c.number) for c in case.candidates)
    lines = [f"Image {k}: the query is marked with a cyan {mark}." for k in range(1, len(case.frames))]
    lines.append(f"Image {len(case.frames)}: the candidates, marked with {mark}s, are objects {numbers}.")
    if case.answer is None:
        task = "None of the candidates is the query. Explain how one can tell that each of them is something else."
    else:
        task = f"Object {case.answer} is the query. Explain how one can tell it from the other candidates."
    category = case.query[0].category
    parts = [f"The query is of the category {category!r}." if category else "", task]
    if cues:
        parts.append("Hints:")
        parts += [
            f"- {MATCH_TYPES[cue.type][1]}: {cue.evidence} (strength {cue.score:.2f})" for cue in cues[:_MAX_HINTS]
        ]
    return lines, "\n".join(part for part in parts if part)


def fill_template(case: Case, cues: Sequence[Cue], seed: int = 0) -> str | None:
    """Return a rationale from the three clearest cues; None without an answer or without cues.

    Args:
        case: the case to explain.
        cues: the clearest first.
        seed: draws the phrasing, together with the case.
    """
    if case.answer is None or not cues:
        return None
    return write_sentences(case, cues[:3], seed)


def check_reply(text: str, case: Case) -> str | None:
    """Return why a model's reply is not accepted, in one clause; None when it is.

    The answer must be named as "object N". No other candidate may be called the match directly, or appear in a clause
    that claims a match and denies nothing. The rule only looks at words: it may reject a good text, such as one with a
    "number 7" on two shirts, and accept an unusual phrase.
    """
    text = text.strip()
    if not text:
        return "the reply is empty"
    if NOT_VISIBLE.casefold() in text.casefold():
        return "the model sees no reason in the images"
    if not _MIN_LENGTH <= len(text) <= _MAX_LENGTH:
        return f"the reply has {len(text)} characters, expected {_MIN_LENGTH} to {_MAX_LENGTH}"
    if leak := _TASK_LEAK.search(text):
        return f"the reply is about the task, not the images: {leak[0]!r}"
    named = referenced_numbers(text)
    if unknown := sorted(named - {c.number for c in case.candidates}):
        return f"the reply names object {unknown[0]}, which is not a candidate"
    if case.answer is None:
        if not _NO_MATCH.search(text):
            return "the reply does not say that none of the candidates is correct"
    elif case.answer not in named:
        return f"the reply does not name the correct object, {case.answer}"
    for letter in _OPTION_LETTER.findall(text):
        if letter not in {o.letter for o in case.options if o.number == case.answer}:
            return f"the reply names option {letter}, which is not the correct one"
    if wrong := sorted(claimed_matches(text) - {case.answer}):
        return f"the reply names object {wrong[0]} as the match"
    return None
