"""Questions, options and answers in words.

The question of the benchmark is fixed by the published set (DESIGN 3.1); that of box prompts is the same with the
mark's name exchanged, as in the published training data.
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


def question(prompt: Prompt = "mask", color: str = "cyan") -> str:
    """The question up to the choices, as the tsv's ``pure_question`` has it.

    Args:
        prompt: whether contours or boxes are drawn.
        color: name of the query's colour; the benchmark always uses cyan.
    """
    return _QUESTION.format(color=color, **_WORDS[prompt]) + _CHOOSE


def options(numbers: Sequence[int], answer: int | None) -> tuple[Option, ...]:
    """Options for the candidates, by number, then "none of the above".

    At most MAX_OFFERED candidates can be offered, since answers are single letters. Of more, the lowest numbers are.
    An answer above these is hidden among numbers drawn from all (the same each time), so that it is not the one that
    breaks the sequence; the sampler makes no such case.

    Args:
        numbers: the drawn numbers, in any order.
        answer: the right number, or None.

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


def choices(offered: Sequence[Option]) -> dict[str, str]:
    """Letter -> what it stands for, a number or "none of the above" in words."""
    return {o.letter: NONE_TEXT if o.number is None else str(o.number) for o in offered}


def choices_text(offered: Sequence[Option]) -> str:
    """The options one a line, as the tsv's ``choices`` has them: "A. 1", …, the last in words."""
    return "\n".join(f"{letter}. {text}" for letter, text in choices(offered).items())
