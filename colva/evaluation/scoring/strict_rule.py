"""The strict rule: read only what a reply states, and nothing from one that contradicts itself.

A reply is brought into a plain form (``reply_text``) and read by a small grammar, in this order:

1. A whole reply that is one value: "B", "(B) 2", "Object 2", "None of the above".
2. Final statements: "the answer is B", "Answer: (B)", "final answer: …", a box, an answer tag, a JSON answer. The last
   one counts if it is marked as final or as a correction; else all must agree. A value that stands first, "B\\n\\n…" or
   "B because …", must agree with them.
3. A value that stands first.
4. Claims: "I choose B", "it is object 2", "B is correct", "object 2 matches".
5. Objects and options that are named, without those that are ruled out, if they are one.
6. A whole number that is the only one, the full text of one option, "none of the above", a refusal.

A value is a letter, a number or "none of the above". "A or B" names two options, and "A. 2" does where 2 is not option
A; either leaves a reply unread.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from colva.evaluation.scoring.reply_text import ORDINALS, find_json_values, remove_reasoning, to_plain
from colva.evaluation.scoring.vlmevalkit_rule import NONE, REFUSED, find_numbers, strip_zeros

_NOUN = (
    r"(?:(?:options?|choices?|letter|objects?|candidates?|ids?|numbers?|items?|labels?|instances?|targets?)(?![a-z])"
    r"|no\.|#)"
)
_NONE_TEXT = (
    r"none\s+of\s+(?:the\s+)?(?:above|these|those|them|options?|choices?|candidates?|objects?|other)\b"
    r"(?:\s+(?:choices?|options?|candidates?|objects?|answers?|ones?))?"
    r"(?:\s+(?:is|are|was|were)\s+(?:correct|right|a\s+match|the\s+same(?:\s+\w+)?)|\s+(?:match(?:es)?|fits?)\b)?"
    r"|no(?:ne)?\s+(?:option|choice|candidate|object|of\s+\w+)\s+(?:matches|fits|is\s+correct)|"
    r"none(?=\s*(?:[.,!;)\n]|$))"
)
_FILLER = (
    rf"(?:(?:the|my|an?|with|as|is|of|which|that|would\s+be|should\s+be|must\s+be|corresponds?\s+to|labell?ed|marked|"
    rf"numbered|called|likely|probably|clearly|therefore|indeed|definitely|most|correct|matching|same|single|{_NOUN})"
    r"(?![a-z'])|[#(\[{<'\s:=-])"
)
# a letter or number, not a piece of a word, of a decimal, of a contraction or of "A-frame"
_VALUE = re.compile(
    rf"(?P<lead>{_FILLER}{{0,30}}?)(?:(?P<none>{_NONE_TEXT})|(?P<value>\d{{1,4}}|[A-Za-z])(?![\w%]|'\w|[.,]\d|-\w))",
    re.IGNORECASE,
)
_AFTER_ARTICLE = re.compile(
    r"\s*(?:$|[.,:;!?()\[\]}/\n…+='>-]|(?:because|since|as|is|was|and|or|for|due|based|given|in|from|with|which|where|"
    r"matches|corresponds|appears|seems|shows|has|here|would|should|must|that|on|at|by|not|but|so|if|than)\b)",
    re.IGNORECASE,
)
_AFTER_PRONOUN = re.compile(r"\s*(?:$|[.:;!?)\]}\n]|(?:is|because|since)\b)", re.IGNORECASE)
_ALTERNATIVE = re.compile(
    r"\s*[)\]}']*\s*(?:,?\s*(?:or|and|and/or|/|&|as\s+well\s+as)\s*|,\s*)(?=[\s(\[]*)", re.IGNORECASE
)
_PAIR = re.compile(
    rf"(?P<joint>\s*[.:,;)\]}}=-]+\s*|\s*[(\[{{]\s*|\s+)(?P<words>(?:(?:i\.e\.|that\s+is|which\s+is|the|is|"
    rf"with|{_NOUN})[\s:#]*)*)"
    r"(?P<number>\d{1,4})(?![\w%]|'\w|[.,]\d)(?P<after>(?=\s*(?:because|since|as|is|has|in|from|which|"
    r"with|matches)\b))?"
    r"(?(after)|(?=\s*(?:$|[.:,;!?)\]}\n])))",
    re.IGNORECASE,
)
_PAIRED_TEXT = re.compile(rf"\s*[.:,)\](-]*\s*(?P<none>{_NONE_TEXT})", re.IGNORECASE)

_FINAL_LEAD = re.compile(
    r"(?P<marked>\bfinal\s+)?(?:\b(?:correct|right|best|my|final|chosen|selected|predicted)\s+)*"
    r"\b(?:answer|ans|response|solution|(?:object|candidate|option|one)\s+that\s+(?:matches|corresponds|fits)|(?:correct|right|best|matching|final|selected|chosen)\s+"
    r"(?:option|choice|object|candidate|letter|match|one|id|number))\b"
    r"(?:\s+(?:to\s+(?:the|this|your)\s+question|here|choice|option|letter|for\s+this\s+question|"
    r"i\s+(?:choose|select)))?"
    r"(?:\s*(?:[:=]|is|would\s+be|must\s+be|should\s+be|has\s+to\s+be|will\s+be|:\s*is|->|→)\s*)+",
    re.IGNORECASE,
)
_CLAIM_LEAD = re.compile(
    r"\b(?:(?:i|we)(?:'d|'ll|\s+would|\s+will|\s+have\s+to|\s+must|\s+should)?\s+(?:also\s+)?"
    r"(?:choose|chose|pick|select|selected|say|go\s+(?:with|for)|answer|vote\s+for|opt\s+for|conclude|"
    r"(?:think|believe|guess|conclude|am\s+(?:confident|sure|certain))(?:\s+(?:that|it|this|"
    r"the\s+answer))*(?:\s+is|'s)?)"
    r"|(?:it|this|that|which|match|object\s+in\s+image\s*-?\s*2)(?:'s|\s+is|\s+must\s+be|\s+should\s+be|"
    r"\s+would\s+be|\s+has\s+to\s+be)"
    r"|(?:choose|select|pick|go(?:ing)?\s+with)"
    r"|(?:match(?:es|ed)?|corresponds?|correspond(?:s|ed)?|identical|equal|same)(?:\s+(?:to|as|with))+(?:\s+the)?"
    r"|(?:therefore|so|hence|thus|conclusion)\s*[:,]?(?=\s*(?:option|object|candidate|id|\(|[A-Z]\b)))\s*:?\s*",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"\s*[)\]}']*\s*(?:is|was|must\s+be|should\s+be|would\s+be|seems\s+to\s+be|appears\s+to\s+be|looks\s+like)\s+"
    r"(?:clearly\s+|indeed\s+|most\s+likely\s+|likely\s+|definitely\s+|therefore\s+|probably\s+)?(?:also\s+)?"
    r"(?:(?:the|my|our)\s+)?(?:most\s+likely\s+|best\s+|only\s+|final\s+)?"
    r"(?:correct|right|best|answer|match|matching|same|one|identical)\b"
    r"|\s*[)\]}']*\s+(?:clearly\s+|best\s+|exactly\s+)?(?:matches|corresponds\s+to|fits\s+best|fits)\b",
    re.IGNORECASE,
)
_RULED_OUT = re.compile(
    r"\s*[)\]}']*\s*(?:(?:is|are|was|does|do|can|could|would|has|looks?|seems?)\s*(?:n't|not)\b|cannot\b|can't\b|"
    r"(?:is|are|looks?|seems?|being)\s+(?:\w+\s+)?(?:wrong|incorrect|different|excluded|ruled|another|too|"
    r"out|eliminated|absent|gone)\b)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|isn't|never|rather\s+than|instead\s+of|except|unlike|neither|nor|than|exclude[sd]?|"
    r"excluding|rule[sd]?\s+out|"
    r"ruling\s+out|eliminate[sd]?|discard(?:ed)?|different\s+from)\b[\s\w(']{0,18}$",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"\b(?:if|whether|suppose|unless|assuming|when)\b[^.!?\n]{0,40}$|\bis\s+(?:the\s+)?$", re.IGNORECASE
)
_CORRECTION = re.compile(
    r"\b(?:no|wait|actually|correction|sorry|however|but|hmm|on\s+second\s+thought|let\s+me|re-?check|mistake|revis\w*|"
    r"instead|therefore|so|thus|hence|finally|in\s+conclusion|final)\b",
    re.IGNORECASE,
)
_FIRST_END = re.compile(
    r"\s*[)\]}'>]*\s*(?:$|[.:;,!\n…]|[-\u2013\u2014]+\s|\(|->|=|(?:because|since|as\s|is\s+(?:the|correct|"
    r"right|my)|due\s+to|"
    r"based\s+on|given\s+that|for\s+the\s+reason)\b)",
    re.IGNORECASE,
)
_NAMED = re.compile(
    rf"\b(?:{_NOUN}|labell?ed|marked|numbered)[\s:#]*(?:(?:with|labell?ed|marked|numbered|is|the|as|id|"
    rf"number|no\.)[\s:#]+)*[\s(\['#]*"
    r"(?P<value>\d{1,4}|[A-Za-z])(?![\w%]|'\w|[.,]\d|-\w)"
    r"|\((?P<letter>[A-Z])\)",
    re.IGNORECASE,
)
# the query is drawn with a number of its own
_QUERY = re.compile(r"\bquery\s+$", re.IGNORECASE)
_IN_FIRST_IMAGE = re.compile(
    r"\s*[)\]}']*\s*(?:in|from|of)\s+(?:the\s+)?(?:(?:first|query)\s+(?:image|frame|picture)|(?:image|frame)\s*-?\s*1\b)",
    re.IGNORECASE,
)
_QUERY_NUMBER = re.compile(rf"\bquery\s+{_NOUN}[\s:#]*\d", re.IGNORECASE)
_ORDINAL = re.compile(rf"\b(?P<ordinal>{'|'.join(ORDINALS)})\s+(?:option|choice)\b", re.IGNORECASE)
_NUMBER_WORDS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
_SPELLED = re.compile(
    rf"(?<=\b)(?P<noun>(?:object|number|candidate|id|label|answer\s+is|answer:)\s+(?:number\s+|id\s+)?)"
    rf"(?P<word>{'|'.join(_NUMBER_WORDS)})\b",
    re.IGNORECASE,
)
_INTEGER_AFTER_JOINT = re.compile(r"\d{1,4}\b")
_QUESTION_MARK = re.compile(r"[)\]}'\s]*\?")
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able|not sure)|i (?:cannot|can't|can not|do not see|don't see|"
    r"could not|couldn't)|"
    r"sorry,|(?:cannot|can't|could not|impossible to|not possible to) (?:be )?(?:determined?|tell|answer|"
    r"identify|see|say)|"
    r"unable to (?:determine|answer|tell|see|process|identify|view)|as an ai|no images? (?:was|were|is|are|has|have))",
    re.IGNORECASE,
)


# characters before a value in which a negation or a condition is looked for
_REACH = 60
# of a very long reply, its beginning and its end are read: the time stays bounded, and answers stand there
_HEAD, _TAIL = 500, 5500


class _Statement(NamedTuple):
    start: int
    end: int
    label: str | None
    """None if it contradicts itself or names what is no option."""
    is_marked: bool = False
    """Whether it says that it is final."""


class _Labels:
    """What letters, numbers and "none of the above" mean among the options of a question."""

    def __init__(self, values: Mapping[str, str], none: str | None, takes_any_number: bool = False) -> None:
        self.values = values
        self.none = none
        self.takes_any_number = takes_any_number

    def resolve(self, value: str) -> str | None:
        if value.isdigit():
            number = strip_zeros(value)
            return number if self.takes_any_number else self.values.get(number)
        return self.values.get(value.upper())


def extract_option(text: str, choices: Mapping[str, str]) -> str | None:
    """Return the letter of the option that a reply states.

    Args:
        text: the model's reply.
        choices: letter -> text of the option.

    Returns:
        a letter of ``choices``, ``Z`` for a refusal, or None when the reply states no option or more than one.
    """
    texts = {_fold(str(option)).rstrip("."): letter for letter, option in choices.items()}
    none = next((letter for option, letter in texts.items() if option.startswith("none of")), None)
    numbers = {option: letter for option, letter in texts.items() if option.isdigit()}
    labels = _Labels({**numbers, **{letter.upper(): letter for letter in choices}}, none)
    return _read(text, labels, {option: letter for option, letter in texts.items() if not option.isdigit()})


def extract_number(text: str, numbers: Collection[int] = ()) -> str | None:
    """Return the number that a reply states, for questions whose answer is a number.

    Args:
        text: the model's reply.
        numbers: of the candidates; empty when they are not known, and then any number is accepted.

    Returns:
        the number in digits, ``none``, ``Z`` for a refusal, or None.
    """
    return _read(text, _Labels({str(n): str(n) for n in numbers}, NONE, not numbers), {})


def _read(reply: str, labels: _Labels, texts: Mapping[str, str]) -> str | None:
    answer = remove_reasoning(reply)
    if (values := find_json_values(answer)) is not None:
        found = {_read_short(to_plain(value), labels, texts) for value in values}
        return found.pop() if len(found) == 1 else None
    if len(answer) > _HEAD + _TAIL:
        answer = f"{answer[:_HEAD]}\n…\n{answer[-_TAIL:]}"
    text = _spell_out(to_plain(answer), labels)
    if not text:
        return None
    if text.strip(" .!()") == REFUSED and REFUSED not in labels.values:
        return REFUSED
    if (label := texts.get(_fold(text).rstrip(".!"))) is not None:
        return label
    first = _read_first(text, labels, texts)
    finals = list(_find_final(text, labels))
    if finals:
        label = _decide(text, finals)
        return label if first is None or first.label == label else None
    if first is not None:
        return first.label
    claims = list(_find_claims(text, labels))
    if claims:
        return _decide(text, claims)
    return _read_mentions(text, labels, texts)


def _read_short(text: str, labels: _Labels, texts: Mapping[str, str]) -> str | None:
    """Read a reply that is a value and no more, such as the value of a JSON key."""
    if (label := texts.get(_fold(text).rstrip(".!"))) is not None:
        return label
    statement = _read_value(text, 0, labels)
    return statement.label if statement is not None and not text[statement.end :].strip(" .!)]}") else None


def _spell_out(text: str, labels: _Labels) -> str:
    """Write "object two" with a digit, and "the second option" as the letter it is."""
    text = _SPELLED.sub(lambda m: f"{m['noun']}{_NUMBER_WORDS.index(m['word'].lower()) + 1}", text)
    letters = [value for value in labels.values if not value.isdigit()]

    def name(match: re.Match[str]) -> str:
        place = ORDINALS.index(match["ordinal"].lower())
        return f"option {letters[place]}" if place < len(letters) else match[0]

    return _ORDINAL.sub(name, text)


def _read_value(text: str, position: int, labels: _Labels) -> _Statement | None:
    """Read a value at a position, with the number or text beside it and with its alternatives ("A or B")."""
    match = _VALUE.match(text, position)
    if match is None:
        return None
    found = {labels.none if match["none"] else labels.resolve(match["value"])}
    if not match["none"]:
        if not match["value"].isdigit() and not _is_letter(text, match):
            return None
        if paired := _PAIRED_TEXT.match(text, match.end()):
            found.add(labels.none)
            return _Statement(match.start(), paired.end(), found.pop() if len(found) == 1 else None)
    end = match.end()
    if not match["none"] and not match["value"].isdigit() and (pair := _find_pair(text, end)):
        found.add(labels.resolve(pair["number"]))
        end = pair.end()
    elif (
        match["value"]
        and match["value"].isdigit()
        and (letter := re.match(r"\s*[(\[]\s*(?:option\s*)?([A-Z])\s*[)\]]", text[end:]))
    ):
        found.add(labels.resolve(letter[1]))
        end += letter.end()
    while alternative := _ALTERNATIVE.match(text, end):
        other = _VALUE.match(text, alternative.end())
        if other is None or other["none"] or not _is_alternative(text, other, alternative[0]):
            break
        found.add(labels.resolve(other["value"]))
        end = other.end()
    return _Statement(match.start(), end, found.pop() if len(found) == 1 else None)


def _find_pair(text: str, end: int) -> re.Match[str] | None:
    """Return the number beside a letter, as in "B. 2" or "B (object 2)"; "B. Object 3 is …" has none."""
    pair = _PAIR.match(text, end)
    if pair is None or pair["after"] is None:
        return pair
    is_new_sentence = "\n" in pair["joint"] or (pair["words"].strip() and "." in pair["joint"])
    return None if is_new_sentence else pair


def _is_letter(text: str, match: re.Match[str]) -> bool:
    """Return whether a single letter is an option's and neither an article nor a pronoun."""
    letter, end = match["value"], match.end()
    if letter in "aA" and not _AFTER_ARTICLE.match(text, end):
        return False
    if letter in "iI" and not _AFTER_PRONOUN.match(text, end):
        return False
    return letter.isupper() or bool(re.match(r"\s*(?:$|[.,:;!?)\]}\n'-]|(?:because|since|is|as|or|and)\b)", text[end:]))


def _is_alternative(text: str, other: re.Match[str], joint: str) -> bool:
    if not other["value"].isdigit() and not _is_letter(text, other):
        return False
    if other["value"].isdigit() and not other["lead"].strip() and re.match(r"\s*\w", text[other.end() :]):
        return False  # "B, 3 of the others …"
    if joint.strip() == ",":  # "B, A looks different": only a list such as "A, B, C"
        return bool(re.match(r"\s*(?:[,.]|and\b|or\b|$)", text[other.end() :]))
    # "B and object 3 is another": a new sentence
    return not _RULED_OUT.match(text, other.end()) and not re.match(
        r"\s+(?:is|has|does|looks|seems|was|moved)\b", text[other.end() :]
    )


def _read_first(text: str, labels: _Labels, texts: Mapping[str, str]) -> _Statement | None:
    """Read the value that a reply begins with; None if it begins with words, or lists the options."""
    statement = _read_value(text, 0, labels)
    if statement is None or not (_FIRST_END.match(text, statement.end) or _VERDICT.match(text, statement.end)):
        return None
    if _RULED_OUT.match(text, statement.end):
        return None
    begun = re.findall(r"(?:^|[.;,])\s*\(?([A-Z])[.):](?=\s|$)", text, re.MULTILINE)
    if len(set(begun)) > 1:
        return None
    head = text[: statement.end]
    if re.match(r"\s*(?:the\s+)?(?:objects?|candidates?|ids?)\b", head, re.IGNORECASE) and text[statement.end :].strip(
        " .!)"
    ):
        return None  # "Object 1 …" begins a sentence about an object, which need not be the answer
    if re.fullmatch(r"\s*\d+\s*", head) and re.match(r"\s*[.)]\s+\S", text[statement.end :]):
        return None if re.search(r"^\s*\d+[.)]\s", text[statement.end + 1 :], re.MULTILINE) else statement
    rest = _fold(text[statement.end :]).strip(" .:)-")
    other = texts.get(rest)
    return statement if other in (None, statement.label) else statement._replace(label=None)


def _stands_before(pattern: re.Pattern[str], text: str, position: int) -> bool:
    """Return whether a pattern that ends in ``$`` matches the words right before a position."""
    return pattern.search(text, max(0, position - _REACH), position) is not None


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()


def _find_final(text: str, labels: _Labels) -> Iterator[_Statement]:
    for lead in _FINAL_LEAD.finditer(text):
        if _stands_before(_CONDITION, text, lead.start()) and not lead["marked"]:
            continue
        statement = _read_value(text, lead.end(), labels)
        if statement is not None and not _QUESTION_MARK.match(text, statement.end):
            yield statement._replace(start=lead.start(), is_marked=bool(lead["marked"]))


def _find_claims(text: str, labels: _Labels) -> Iterator[_Statement]:
    found: list[_Statement] = []
    for lead in _CLAIM_LEAD.finditer(text):
        if _stands_before(_NEGATION, text, lead.start()) or _stands_before(_CONDITION, text, lead.start()):
            continue
        statement = _read_value(text, lead.end(), labels)
        if statement is not None and not _QUESTION_MARK.match(text, statement.end):
            found.append(statement)
    for named in re.finditer(
        rf"(?<![\w.])(?:(?:the\s+)?{_NOUN}[\s:#]*(?:(?:with|id|number|labell?ed|"
        rf"marked)\s+)*)?[(\['#]*(?P<value>\d{{1,4}}|[A-Z])\b",
        text,
    ):
        verdict = _VERDICT.match(text, named.end())
        if verdict is None or _stands_before(_NEGATION, text, named.start()):
            continue
        found.append(_Statement(named.start(), verdict.end(), labels.resolve(named["value"])))
    yield from sorted(found, key=lambda statement: (statement.start, statement.end))


def _decide(text: str, statements: list[_Statement]) -> str | None:
    """Return the label of statements that agree, or of the last if it is marked as final or as a correction."""
    last = statements[-1]
    if all(statement.label == last.label for statement in statements):
        return last.label
    between = text[statements[-2].end : last.end]
    return last.label if last.is_marked or _CORRECTION.search(between) else None


def _read_mentions(text: str, labels: _Labels, texts: Mapping[str, str]) -> str | None:
    named: set[str | None] = set()
    ruled_out: set[str] = set()
    for match in _NAMED.finditer(text):
        value = match["value"] or match["letter"]
        if _stands_before(_QUERY, text, match.start()) or _IN_FIRST_IMAGE.match(text, match.end()):
            continue
        if value in "aAiI" and not _AFTER_ARTICLE.match(text, match.end()):
            continue
        if _stands_before(_NEGATION, text, match.start()) or _RULED_OUT.match(text, match.end()):
            ruled_out.add(strip_zeros(value))
            continue
        named.add(labels.resolve(value))
        end = match.end()
        while (joint := _ALTERNATIVE.match(text, end)) and (other := _INTEGER_AFTER_JOINT.match(text, joint.end())):
            named.add(labels.resolve(other[0]))
            end = other.end()
    if len(named) == 1:
        return named.pop()
    if named:
        return None
    numbers = find_numbers(text) - ruled_out
    if (
        len(numbers) == 1
        and not _QUERY_NUMBER.search(text)
        and not _stands_before(_NEGATION, text, len(re.split(r"\d", text, maxsplit=1)[0]))
    ):
        return labels.resolve(numbers.pop())
    if numbers or ruled_out:
        return None
    if re.search(_NONE_TEXT, text, re.IGNORECASE):
        return labels.none
    folded = _fold(text)
    stated = {letter for option, letter in texts.items() if option in folded}
    if len(stated) == 1:
        return stated.pop()
    return REFUSED if not stated and _REFUSAL.search(text) else None
