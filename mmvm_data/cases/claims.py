"""Which candidate a text calls the match, judged by its words alone."""

from __future__ import annotations

import re

_REFERENCE_WORD = r"(?:objects?|candidates?|options?|choices?|numbers?|ids?|#)\s*(?:is|:|no\.?|number)?\s*#?\s*"
_REFERENCED_NUMBERS = re.compile(_REFERENCE_WORD + r"(\d+(?:\s*(?:,|and|or|&)\s*#?\d+)*)", re.IGNORECASE)
_ANSWER_NUMBER = re.compile(r"\b(?:answer|match|it|query)\s+(?:is|must be|would be)\s+#?(\d+)\b", re.IGNORECASE)
_CLAUSE_BREAK = re.compile(r"[.;!?\n]+(?=\s|$)|,?\s+\b(?:but|whereas|while|although|unlike)\b|,\s+(?=(?:not|and)\b)")
_MATCH_CLAIM = re.compile(
    r"\b(?:match(?:es|ing)?|same|identical|corresponds?|answer|correct|right (?:one|choice|candidate)|"
    r"is (?:clearly |therefore |thus )?the (?:query|one|object|marked object)|must be)\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:not|no|none|neither|nor|never|cannot|can't|isn't|doesn't|don't|aren't|without|lacks?|differs?|different|"
    r"instead of|rather than|ruled? out|rules out|excludes?|less|nearest other|apart)\b",
    re.IGNORECASE,
)
_DIRECT_CLAIM = re.compile(
    r"\bobject\s+(\d+)\s+(?:is|must be)\s+(?:\w+ly\s+|therefore\s+|thus\s+)?(?:the\s+)?"
    r"(?:same|query|match|answer|right|correct|identical|marked\s+object)\b"
    r"|(?:\bmatch(?:es)?|\bcorresponds? to|\bsame as|\bidentical to)\s+(?:that of\s+)?object\s+(\d+)",
    re.IGNORECASE,
)
"""A claim of a match, whatever else its clause denies, unless a denial directly precedes it."""
_SENTENCE_SUBJECT = re.compile(r"(?:^|[.!?]\s+)\s*(?:object|candidate)\s+(\d+)\b", re.IGNORECASE)


def referenced_numbers(text: str) -> set[int]:
    """Return the numbers of the candidates that a text names: "object 3", "candidates 1 and 2"."""
    return {int(number) for group in _REFERENCED_NUMBERS.findall(text) for number in re.findall(r"\d+", group)}


def direct_claims(text: str) -> set[int]:
    """Return the numbers that a text calls the match in so many words: "object 3 is the same", "the answer is 3"."""
    numbers = {int(number) for number in _ANSWER_NUMBER.findall(text)}
    for claim in _DIRECT_CLAIM.finditer(text):
        if not _DENIAL.search(text[max(0, claim.start() - 12) : claim.start()]):
            numbers.add(int(claim[1] or claim[2]))
    return numbers


def claimed_matches(text: str) -> set[int]:
    """Return ``direct_claims`` and the numbers in clauses that claim a match and deny nothing.

    This finds more claims than ``direct_claims``, and some that are none.
    """
    numbers = direct_claims(text)
    for clause in _CLAUSE_BREAK.split(text):
        if clause and _MATCH_CLAIM.search(clause) and not _DENIAL.search(clause):
            numbers |= referenced_numbers(clause)
    return numbers


def sentence_subjects(text: str) -> list[int]:
    """Return the numbers of the candidates that sentences of a text begin with: "Object 3 has …"."""
    return [int(number) for number in _SENTENCE_SUBJECT.findall(text)]
