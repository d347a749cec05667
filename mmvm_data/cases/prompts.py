"""The question, the options and the choices of a case, as text.

The wording is that of the published MMVM benchmark. For box prompts the name of the mark is exchanged, as in the
published training data.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from mmvm_data.core.types import Option

Prompt = Literal["mask", "box"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_OFFERED = len(LETTERS) - 1
"""Candidates that can be offered as options; one letter is left for "none of the above"."""

NONE_TEXT = "None of the above choices are correct"

_QUESTION = (
    "Here are two images. In the second image, I have marked several visual objects with their {marks} in different "
    "colors, and each is identified by a white numeric ID against a background that matches the {of_mark} color. Could "
    "you please tell me which of these marked objects is the same as the object marked with a {color} {mark} in the "
    "first image?"
)
_CHOOSE = " Please make a choice from the following options: \n"
_WORDS: dict[str, dict[str, str]] = {
    "mask": {"mark": "contour", "marks": "contours", "of_mark": "contour's"},
    "box": {"mark": "bounding box", "marks": "bounding boxes", "of_mark": "bounding box"},
}


def format_question(prompt: Prompt = "mask", color: str = "cyan") -> str:
    """The question up to the choices, the ``pure_question`` column of the tsv.

    Args:
        prompt: whether contours or boxes are drawn.
        color: name of the query's color; the benchmark always uses cyan.
    """
    return _QUESTION.format(color=color, **_WORDS[prompt]) + _CHOOSE


def build_options(numbers: Sequence[int], answer: int | None) -> tuple[Option, ...]:
    """The options of a case: its candidates by number, then "none of the above".

    At most MAX_OFFERED candidates can be offered, since answers are single letters. Of more, those with the lowest
    numbers are offered. If the answer has a higher number, the other offered numbers are drawn from all (the same ones
    each time), so that the answer is not the only number out of sequence; the sampler makes no such case.

    Args:
        numbers: numbers of the candidates, in any order.
        answer: number of the right candidate, or None.

    Raises:
        ValueError: numbers repeat, or the answer is not among them.
    """
    offered = sorted(numbers)
    if len(set(offered)) != len(offered) or (answer is not None and answer not in offered):
        raise ValueError(f"numbers {offered} must be distinct and hold the answer {answer}")
    if len(offered) > MAX_OFFERED:
        kept = offered[:MAX_OFFERED]
        if answer is not None and answer not in kept:
            others = [number for number in offered if number != answer]
            kept = sorted([answer, *random.Random(repr((offered, answer))).sample(others, MAX_OFFERED - 1)])
        offered = kept
    pairs = zip(LETTERS, [*offered, None], strict=False)
    return tuple(Option(letter=letter, number=number) for letter, number in pairs)


def choice_texts(options: Sequence[Option]) -> dict[str, str]:
    """Letter -> the text of its choice, a number or "none of the above" in words."""
    return {option.letter: NONE_TEXT if option.number is None else str(option.number) for option in options}


def format_choices(options: Sequence[Option]) -> str:
    """The options one a line, the ``choices`` column of the tsv: "A. 1", …, the last in words."""
    return "\n".join(f"{letter}. {text}" for letter, text in choice_texts(options).items())
