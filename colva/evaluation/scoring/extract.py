"""Extract the option that a model means from free text, by rule.

Two modes. ``vlmevalkit`` is the rule behind the published table (GitHub open-compass/VLMEvalKit,
``vlmeval/utils/matching_util.py`` of 2024: ``can_infer``), with its weaknesses: a digit counts wherever it occurs, so
"10" also contains option "1" and matches two options, and an article "A" or a pronoun "I" counts as a letter where that
is an option. ``strict`` reads only explicit statements.

This file imports nothing but the standard library, since a copy of it is part of an exported lmms-eval task.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

REFUSED = "Z"
"""A refusal to answer, or the letter by which models and judges state that no option fits."""
NONE = "none"
"""The label of "none of the above" where answers are numbers."""
MODES = ("vlmevalkit", "strict")

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
_STATED = re.compile(
    r"\b(?:answer|choice|option|object|candidate|number|id|match)\b"
    r"(?:\s+(?:is|would be|must be|should be|number|no\.?|id|option|object|candidate|choice))*\s*[:=]?\s*"
    r"[(\[{*#\"'`]*(?P<answer>[A-Z]|\d+)(?![\w'\u2019-])",
    re.IGNORECASE,
)
_FINAL = re.compile(
    r"(?:\banswer\s*(?:is|:|=)|\\boxed\s*|<answer>)\s*(?:(?:option|object|candidate|choice|number)\s*)?"
    r"[(\[{*#\"'`\s]*(?P<answer>[A-Z]|\d+)(?![\w'\u2019-])",
    re.IGNORECASE,
)
_LETTER_FIRST = re.compile(r"[\s(\[{*#\"'`]*(?P<letter>[A-Z])(?P<rest>[\s.:)\]},*#\"'`!-].*)?", re.DOTALL)
_INTEGER = re.compile(r"(?<![\w.])#?(\d+)(?!\w|\.\d)")
_NONE_STATED = re.compile(r"\bnone\b(?:\s+of\s+(?:the|these|them|those)\b)?", re.IGNORECASE)


def extract_option(text: str, choices: Mapping[str, str], mode: str = "vlmevalkit") -> str | None:
    """Return the letter of the option that a text names.

    ``vlmevalkit``, in this order:

    1. One of four set phrases of refusal anywhere: ``Z``.
    2. The marks ``.()[],:;!*#{}`` become spaces. If exactly one letter of the options stands alone between spaces, that
       letter; if none does and a lone Z does, ``Z``.
    3. In lower case, if exactly one option's text occurs in the answer, as a piece of it, that option.

    ``strict``, in this order, letter case of the option's letter kept to capitals:

    1. A text that is one option and nothing more: its letter, its text, or "letter. text", marks around it aside. A
       letter with the text of another option is ambiguous: None.
    2. Statements: "the answer is B", "Answer: (B)", ``\\boxed{B}``, "<answer>B", the last of which counts, and the
       same with the number of an option instead of its letter. Then "option B", "object 3", which count if all of
       them mean the same option.
    3. A text that begins with an option's letter and its own text: "B. 2 because …".
    4. A text with exactly one whole number that is an option's text and no other number.
    5. The full text of "none of the above" alone among the options.
    6. A plain refusal ("I cannot …", "I'm sorry …") and none of the above: ``Z``. A lone Z as well.

    Args:
        text: the model's reply.
        choices: letter -> text of the option, such as ``{"A": "1", "B": "None of the above choices are correct"}``.
        mode: one of ``MODES``.

    Returns:
        a letter of ``choices``, ``Z``, or None when the rule finds no option or more than one.

    Raises:
        ValueError: the mode is unknown.
    """
    if mode == "vlmevalkit":
        return _extract_like_vlmevalkit(text, choices)
    if mode == "strict":
        return _extract_strict(text, choices)
    raise ValueError(f"mode {mode!r} must be one of {', '.join(MODES)}")


def extract_number(text: str, numbers: Collection[int] = (), mode: str = "vlmevalkit") -> str | None:
    """Return the number that a text names, for questions whose answer is a number (the newer protocol, whose own
    scorer is a judge and no rule).

    1. Statements as in ``extract_option``: "the answer is 3", ``\\boxed{3}``; the last counts.
    2. Else the only whole number of the text, repeated or not. With ``mode="strict"`` any second number makes it
       ambiguous; else numbers that are no candidates are ignored.
    3. Else "none" without a number: ``none``.
    4. Else a refusal: ``Z``.

    Args:
        text: the model's reply.
        numbers: of the candidates; empty when they are not known, and then any number is accepted.
        mode: one of ``MODES``.

    Returns:
        the number in digits, ``none``, ``Z``, or None.

    Raises:
        ValueError: the mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} must be one of {', '.join(MODES)}")
    allowed = {str(number) for number in numbers}
    answers = [str(match["answer"]).lstrip("0") or "0" for match in _FINAL.finditer(text)]
    stated = [answer for answer in answers if answer.isdigit()]
    if stated and (not allowed or stated[-1] in allowed):
        return stated[-1]
    numbers_in_text = {digits.lstrip("0") or "0" for digits in _INTEGER.findall(text)}
    kept = numbers_in_text & allowed if allowed and mode != "strict" else numbers_in_text
    if len(kept) == 1 and (not allowed or kept <= allowed):
        return kept.pop()
    if numbers_in_text:
        return None
    if _NONE_STATED.search(text):
        return NONE
    return REFUSED if text.strip().strip(".*") == REFUSED or _REFUSAL.search(text) else None


def _extract_like_vlmevalkit(text: str, choices: Mapping[str, str]) -> str | None:
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


def _extract_strict(text: str, choices: Mapping[str, str]) -> str | None:
    bare = text.strip().strip("*#()[]{}\"'`").strip()
    texts = {str(option).casefold().rstrip("."): letter for letter, option in choices.items()}
    folded = bare.casefold().rstrip(".!")
    if bare.rstrip(".!:)") in choices:
        return bare.rstrip(".!:)")
    if folded in texts:
        return texts[folded]
    if (match := _LETTER_FIRST.match(bare)) and match["letter"] in choices:
        rest = _text_after_letter(match)
        if rest in texts:
            return match["letter"] if texts[rest] == match["letter"] else None  # "B. 3" names two options
    for pattern, last_counts in ((_FINAL, True), (_STATED, False)):
        stated = [_stated_option(match["answer"], choices, texts) for match in pattern.finditer(text)]
        known = [letter for letter in stated if letter]
        if known and (last_counts or len(set(known)) == 1):
            return known[-1] if stated[-1] or not last_counts else None
        if len(set(known)) > 1:
            return None
    if match and match["letter"] in choices:
        option = str(choices[match["letter"]]).casefold().rstrip(".")
        if re.match(re.escape(option) + r"(?!\w|\.\d)", _text_after_letter(match)):
            return match["letter"]
    numbers = {digits.lstrip("0") or "0" for digits in _INTEGER.findall(text)}
    if len(numbers) == 1:
        return texts.get(numbers.pop())
    if not numbers:
        by_text = [letter for option, letter in texts.items() if not option.isdigit() and option in text.casefold()]
        if len(by_text) == 1:
            return by_text[0]
        if bare.rstrip(".!") == REFUSED or _REFUSAL.search(text):
            return REFUSED
    return None


def _text_after_letter(match: re.Match[str]) -> str:
    """Return what follows the letter of a text such as "B. 2", without the marks around it."""
    return (match["rest"] or "").lstrip(" \t\n.:)]},*#\"'`!-").rstrip(" .!)]*#\"'`").casefold()


def _stated_option(answer: str, choices: Mapping[str, str], texts: Mapping[str, str]) -> str | None:
    """Return the letter of what a statement names: a capital letter of the options, or an option's number."""
    return answer if answer in choices else texts.get(answer.lstrip("0") or "0") if answer.isdigit() else None
