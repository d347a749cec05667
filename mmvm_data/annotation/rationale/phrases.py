"""Plain sentences for cues, in several phrasings: what a person would write who compares the two images.

A clause says "{it}" of the answer and may name another candidate, the nearest rival, after "while", "whereas" or
"unlike". It holds no measurements. The evidence of a cue keeps those.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from mmvm_data.core.types import Case, Cue

_CLOSE_COLOR: Final = 15.0
"""CIELAB distance up to which a color is called the same."""
_PEOPLE: Final = frozenset(
    {"person", "people", "pedestrian", "player", "man", "woman", "boy", "girl", "child", "rider"}
)

_OPENINGS: Final = (
    "The {noun} in cyan is object {answer}: {clause}.",
    "It is object {answer}, because {clause}.",
    "Object {answer} is the right one; {clause}.",
    "Look at object {answer}: {clause}.",
    "Object {answer} is the {noun} from the first image; {clause}.",
    "Among the candidates, object {answer} fits best: {clause}.",
)
_CONTINUATIONS: Final = ("Also, {clause}.", "Besides, {clause}.", "In addition, {clause}.", "What is more, {clause}.")

_CLAUSES: Final[dict[str, tuple[str, ...]]] = {
    "color": (
        "{it} is {color} in both images, while object {rival} has another colour",
        "{its} {color} colour is there in both images, unlike that of object {rival}",
        "the {color} from the first image comes back here, whereas object {rival} looks different",
        "{it} looks {color} before and after, while object {rival} is coloured differently",
    ),
    "close color": (
        "{its} colour comes closest to the {color} of the first image, while object {rival} is further off",
        "{its} colour still resembles the {color} of the first image, whereas that of object {rival} does not",
        "no other colour is as near to the {color} one in the first image, and that of object {rival} is not",
    ),
    "shape": (
        "{its} outline looks as it did in the first image, while object {rival} is shaped differently",
        "{its} silhouette is unchanged, whereas object {rival} has another one",
        "{its} form is the one in the first image, unlike the form of object {rival}",
    ),
    "size": (
        "{it} is about as large as in the first image, while object {rival} is {comparison}",
        "{its} size has hardly changed, whereas object {rival} is {comparison}",
        "{it} takes up about as much of the picture as before, while object {rival} is {comparison}",
    ),
    "nearer size": (
        "{its} size has changed, but it is still nearest to the first image, while object {rival} is {comparison}",
        "none of the others is as near to the size in the first image, and object {rival} is {comparison}",
    ),
    "place": (
        "{it} is still close to where it was in the first image, while object {rival} is farther away",
        "{it} has hardly left its place in the picture, whereas object {rival} is somewhere else",
        "this is where the first image shows it, unlike object {rival}, which is farther off",
    ),
    "order": (
        "{its} neighbours stand around it as before, while those of object {rival} have changed sides",
        "{it} has kept its place among the others, whereas object {rival} stands elsewhere in the group",
        "{its} neighbours are on the sides where they were before, unlike the neighbours of object {rival}",
    ),
    "orientation": (
        "{it} is turned as in the first image, while object {rival} points another way",
        "{its} direction has hardly changed, whereas object {rival} is turned differently",
        "{it} still leans as it did before, unlike object {rival}",
    ),
    "motion": (
        "{it} keeps moving {direction}, while object {rival} goes another way",
        "{it} was moving {direction} and still is, whereas object {rival} is not",
        "{it} goes on {direction}, unlike object {rival}",
    ),
    "binding": (
        "{it} touches object {partner} in both images, and no other candidate does so as closely",
        "{it} is in contact with object {partner} before and after, which holds for none of the others",
        "{it} is close beside object {partner} in both images, and none of the others is",
    ),
    "pattern": (
        "many details of {its} surface are found again, while object {rival} shows few of them",
        "the markings in the first image can be seen on it again, whereas object {rival} lacks most of them",
        "{its} pattern is the one in the first image, unlike the pattern of object {rival}",
    ),
    "text": (
        'the text "{text}" can be read on it in both images, and on no other candidate',
        '"{text}" is written on it before and after, and on none of the others',
        'the word "{text}" is on it in both images, which none of the others can show',
    ),
}

_COLOR = re.compile(r"on average ([a-z ]+?), is nearest")
_DIRECTION = re.compile(r"goes on moving (to the right|to the left|up|down)")
_SHARES = re.compile(r"fills ([\d.]+) % of the first image and ([\d.]+) % of the last, object \d+ fills ([\d.]+) %")
_TEXT = re.compile(r'the text "(.*)" is written on it')
_SAME_SIZE: Final = 1.25  # ratio of areas


def write_sentences(case: Case, cues: Sequence[Cue], seed: int = 0) -> str:
    """Return a sentence for each cue about the answer of a case, in phrasings drawn by the seed and the case.

    Args:
        case: with an answer.
        cues: one or more; those of people are taken as they are written.
        seed: other seeds give other phrasings.
    """
    origin = case.provenance.seed if case.provenance else 0
    key = f"{seed} {origin} {case.id}"
    category = case.query[0].category or "object"
    is_person = category.casefold() in _PEOPLE
    words = {"it": "this person" if is_person else "it", "its": "this person's" if is_person else "its"}
    continuations = sorted(_CONTINUATIONS, key=lambda text: _draw(f"{key} {text}", 1 << 30))
    sentences = []
    for position, cue in enumerate(cues):
        clause = _clause(cue, f"{key} {position}").format(**_facts(cue), **words)
        if position:
            sentences.append(continuations[(position - 1) % len(continuations)].format(clause=clause))
        else:
            opening = _OPENINGS[_draw(f"{key} opening", len(_OPENINGS))]
            sentences.append(opening.format(noun=category, answer=case.answer, clause=clause))
    return " ".join(sentences)


def _draw(key: str, count: int) -> int:
    """An integer below ``count`` that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count


def _clause(cue: Cue, key: str) -> str:
    kind = _kind(cue)
    if kind is None:
        return cue.evidence.strip().rstrip(".").replace("{", "{{").replace("}", "}}")
    options = _CLAUSES[kind]
    return options[_draw(key, len(options))]


def _kind(cue: Cue) -> str | None:
    """Which clauses say what a cue has measured; None for a cue in the words of a person or of another program."""
    facts = _facts(cue)
    if cue.source == "human" or not cue.measures:
        return None
    if cue.type == 1 and {"color", "rival"} <= facts.keys():
        return "color" if cue.measures.get("answer", 0) <= _CLOSE_COLOR else "close color"
    if cue.type == 4 and {"comparison", "rival"} <= facts.keys():
        return "size" if facts["is_kept"] else "nearer size"
    if cue.type == 6 and "rival" in facts:
        return ("motion" if "direction" in facts else None) if "speed" in cue.measures else "orientation"
    if cue.type == 5 and "rival" in facts:
        return "order" if "neighbours" in cue.measures else "place"
    needed = {2: ("shape", "rival"), 3: ("text", "text"), 7: ("binding", "partner"), 8: ("pattern", "rival")}
    kind, fact = needed.get(cue.type, ("", ""))
    return kind if fact in facts else None


def _facts(cue: Cue) -> dict[str, str]:
    """What clauses may name: rival, partner, color, direction, text, comparison, and whether the size is kept."""
    facts: dict[str, str] = {name: f"{cue.measures[name]:.0f}" for name in ("rival", "partner") if name in cue.measures}
    if match := _COLOR.search(cue.evidence):
        facts["color"] = match[1]
    if match := _DIRECTION.search(cue.evidence):
        facts["direction"] = match[1]
    if match := _TEXT.search(cue.evidence):
        facts["text"] = match[1]
    if match := _SHARES.search(cue.evidence):
        before, after, other = (max(float(share), 0.05) for share in match.groups())
        facts["comparison"] = "larger" if other > after else "smaller"
        facts["is_kept"] = "yes" if max(before, after) <= _SAME_SIZE * min(before, after) else ""
    return facts
