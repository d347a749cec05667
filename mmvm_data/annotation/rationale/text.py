"""The words of rationales: what a model is asked, what a template says, and what is wrong with an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmvm_data.core.types import MATCH_TYPES, Case, Cue

PROMPT_VERSION = "1"
"""Changes with every change of SYSTEM or ``user_text``."""
TEMPLATE_VERSION = "1"
"""Changes with every change of ``template``."""

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

_SHORTEST, _LONGEST = 20, 1200  # characters
_HINTS = 4
_REFERENCE = r"(?:objects?|candidates?|options?|choices?|numbers?|ids?|#)\s*(?:is|:|no\.?|number)?\s*#?\s*"
_NUMBERS = re.compile(_REFERENCE + r"(\d+(?:\s*(?:,|and|or|&)\s*#?\d+)*)", re.IGNORECASE)
_ANSWER_IS = re.compile(r"\b(?:answer|match|it|query)\s+(?:is|must be|would be)\s+#?(\d+)\b", re.IGNORECASE)
_LETTER = re.compile(r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer(?: is)?:?)\s+\(?([A-Z])\b(?!')")
_CLAUSES = re.compile(r"[.;!?\n]+(?=\s|$)|,?\s+\b(?:but|whereas|while|although|unlike)\b|,\s+(?=(?:not|and)\b)")
_MATCHES = re.compile(
    r"\b(?:match(?:es|ing)?|same|identical|corresponds?|answer|correct|right (?:one|choice|candidate)|"
    r"is (?:clearly |therefore |thus )?the (?:query|one|object)|must be)\b",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:not|no|none|neither|nor|never|cannot|can't|isn't|doesn't|don't|aren't|without|lacks?|differs?|different|"
    r"instead of|rather than|ruled? out|rules out|excludes?|less|nearest other|apart)\b",
    re.IGNORECASE,
)
_PLAINLY = re.compile(
    r"\bobject\s+(\d+)\s+(?:is|must be)\s+(?:\w+ly\s+|therefore\s+|thus\s+)?(?:the\s+)?"
    r"(?:same|query|match|answer|right|correct|identical)\b"
    r"|(?:\bmatch(?:es)?|\bcorresponds? to|\bsame as|\bidentical to)\s+(?:that of\s+)?object\s+(\d+)",
    re.IGNORECASE,
)
"""Says so whatever else its clause denies, unless a denial comes right before."""
_NONE = re.compile(
    r"\b(?:none|no (?:candidate|object|marked)|not (?:among|one of|any|present|visible|there)|nowhere)\b", re.I
)
_LEAKS = re.compile(
    r"\bhints?\b|\bI (?:was|am) (?:told|given)|\b(?:provided|given|stated) answer|ground.truth|CIELAB|Hu moments|"
    r"\bthese rules\b|as an AI|I(?:'m| am) (?:sorry|unable)|I (?:cannot|can't)\b",
    re.IGNORECASE,
)


def user_text(case: Case, cues: Sequence[Cue]) -> tuple[list[str], str]:
    """What is said to the model about one case.

    Args:
        case: what to explain.
        cues: hints, the clearest first; at most four are given.

    Returns:
        a line before each image, and the text after them.
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
        parts += [f"- {MATCH_TYPES[cue.type][1]}: {cue.evidence} (strength {cue.score:.2f})" for cue in cues[:_HINTS]]
    return lines, "\n".join(part for part in parts if part)


def template(case: Case, cues: Sequence[Cue]) -> str | None:
    """A rationale made of the three clearest cues, or None where nothing can be said: no answer, or no cue."""
    if case.answer is None or not cues:
        return None
    first, *more = (cue.evidence for cue in cues[:3])
    sentences = [f"Object {case.answer} is the marked object: {first}", *(f"Also, {text}" for text in more)]
    return ". ".join(sentences) + "."


def fault(text: str, case: Case) -> str | None:
    """Why an answer of a model cannot be taken, in one clause; None when nothing is wrong with it.

    The answer must be named as "object N". No other candidate may be called the match outright, nor stand in a clause
    that speaks of a match and denies nothing. That is a rule about words: a good text may be refused by it, such as one
    with a "number 7" on two shirts, and an odd turn of phrase may pass.
    """
    text = text.strip()
    if not text:
        return "the reply is empty"
    if NOT_VISIBLE.casefold() in text.casefold():
        return "the model sees no reason"
    if not _SHORTEST <= len(text) <= _LONGEST:
        return f"the reply has {len(text)} characters, expected {_SHORTEST} to {_LONGEST}"
    if found := _LEAKS.search(text):
        return f"the reply speaks of the task, not of the images: {found[0]!r}"
    named = {int(number) for group in _NUMBERS.findall(text) for number in re.findall(r"\d+", group)}
    if unknown := sorted(named - {c.number for c in case.candidates}):
        return f"the reply names object {unknown[0]}, which is no candidate"
    if case.answer is None:
        if not _NONE.search(text):
            return "the reply does not say that none of the candidates is right"
    elif case.answer not in named:
        return f"the reply does not name the right object, {case.answer}"
    for letter in _LETTER.findall(text):
        if letter not in {o.letter for o in case.options if o.number == case.answer}:
            return f"the reply names option {letter}, which is not the right one"
    claimed = {int(number) for number in _ANSWER_IS.findall(text)} | _claimed(text)
    if wrong := sorted(claimed - {case.answer}):
        return f"the reply names object {wrong[0]} as the match"
    return None


def _claimed(text: str) -> set[int]:
    """Numbers in clauses that speak of a match and deny nothing."""
    found: set[int] = set()
    for clause in _CLAUSES.split(text):
        if clause and _MATCHES.search(clause) and not _DENIES.search(clause):
            found |= {int(n) for group in _NUMBERS.findall(clause) for n in re.findall(r"\d+", group)}
    for plain in _PLAINLY.finditer(text):
        if not _DENIES.search(text[max(0, plain.start() - 12) : plain.start()]):
            found.add(int(plain[1] or plain[2]))
    return found
