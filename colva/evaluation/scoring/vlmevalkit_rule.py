"""The rule behind the published table, from text to option (GitHub open-compass/VLMEvalKit,
``vlmeval/utils/matching_util.py`` of 2024: ``can_infer``), and a rule for answers that are numbers.

It has its weaknesses: a digit counts wherever it occurs, so "10" also contains option "1" and matches two options, and
an article "A" or a pronoun "I" counts as a letter where that is an option.

This file imports nothing but the standard library, since a copy of it is part of an exported lmms-eval task.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

REFUSED = "Z"
"""A refusal to answer, or the letter by which models and judges state that no option fits."""
NONE = "none"
"""The label of "none of the above" where answers are numbers."""

_MARKS_TO_SPACES = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_API_FAILED = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_REFUSAL = re.compile(
    r"\b(?:I(?:'m| am) (?:sorry|unable|not able)|I (?:cannot|can't|can not)|sorry,|cannot determine|can't determine|"
    r"unable to (?:determine|answer|tell|see|process))",
    re.IGNORECASE,
)
_FINAL = re.compile(
    r"(?:\banswer\s*(?:is|:|=)|\\boxed\s*|<answer>)\s*(?:(?:option|object|candidate|choice|number)\s*)?"
    r"[(\[{*#\"'`\s]*(?P<answer>[A-Z]|\d+)(?![\w'\u2019-])",
    re.IGNORECASE,
)
_INTEGER = re.compile(r"(?<![\w.])#?(\d+)(?!\w|\.\d)")
_NONE_STATED = re.compile(r"\bnone\b(?:\s+of\s+(?:the|these|them|those)\b)?", re.IGNORECASE)


def extract_option(text: str, choices: Mapping[str, str]) -> str | None:
    """Return the letter of the option that a text names, in this order:

    1. One of four set phrases of refusal anywhere: ``Z``.
    2. The marks ``.()[],:;!*#{}`` become spaces. If exactly one letter of the options stands alone between spaces, that
       letter; if none does and a lone Z does, ``Z``.
    3. In lower case, if exactly one option's text occurs in the answer, as a piece of it, that option.

    Args:
        text: the model's reply.
        choices: letter -> text of the option.

    Returns:
        a letter of ``choices``, ``Z``, or None when the rule finds no option or more than one.
    """
    if _API_FAILED not in text:
        if any(phrase in text for phrase in _REFUSALS):
            return REFUSED
        words = text.translate(_MARKS_TO_SPACES).split()
        letters = [letter for letter in choices if letter in words]
        if len(letters) == 1:
            return letters[0]
        if not letters and REFUSED in words:
            return REFUSED
    lower = text.lower()
    matches = [letter for letter, option in choices.items() if str(option).lower() in lower]
    return matches[0] if len(matches) == 1 else None


def extract_number(text: str, numbers: Collection[int] = ()) -> str | None:
    """Return the number that a text names, for questions whose answer is a number (the newer protocol, whose own
    scorer is a judge and no rule).

    1. Statements such as "the answer is 3", ``\\boxed{3}``; the last counts.
    2. Else the only whole number among the candidates, repeated or not; other numbers are ignored.
    3. Else "none" without a number: ``none``.
    4. Else a refusal: ``Z``.

    Args:
        text: the model's reply.
        numbers: of the candidates; empty when they are not known, and then any number is accepted.

    Returns:
        the number in digits, ``none``, ``Z``, or None.
    """
    allowed = {str(number) for number in numbers}
    answers = [strip_zeros(match["answer"]) for match in _FINAL.finditer(text)]
    stated = [answer for answer in answers if answer.isdigit()]
    if stated and (not allowed or stated[-1] in allowed):
        return stated[-1]
    numbers_in_text = find_numbers(text)
    kept = numbers_in_text & allowed if allowed else numbers_in_text
    if len(kept) == 1 and (not allowed or kept <= allowed):
        return kept.pop()
    if numbers_in_text:
        return None
    if _NONE_STATED.search(text):
        return NONE
    return REFUSED if text.strip().strip(".*") == REFUSED or _REFUSAL.search(text) else None


def find_numbers(text: str) -> set[str]:
    """Return the whole numbers of a text, in digits without leading zeros."""
    return {strip_zeros(digits) for digits in _INTEGER.findall(text)}


def strip_zeros(digits: str) -> str:
    """Return a number without leading zeros; other text as it is."""
    return digits.lstrip("0") or "0"
