"""How a case is asked about in training: wordings, colours of the query, and cases shown without marks.

The first wording is the benchmark's, verbatim (`mmvm_data.cases.prompts`); the others ask the same in other words. In
the "clean" variants nothing is drawn on the pictures and only the object tokens say what is asked about (the
instruction augmentation of arXiv 2501.04670, section 4).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from mmvm_data.cases import prompts, render
from mmvm_data.formats.conversations import WHY

Form = Literal["talk", "mask", "box", "mask+why", "box+why"]
FORMS: Final[tuple[Form, ...]] = ("talk", "mask", "box", "mask+why", "box+why")
"""What kind of conversation a record is: its own words, or a case of contours or boxes, with its reason or without."""

CHOOSE: Final = prompts.format_question()[prompts.format_question().rindex(" Please") :]
_MARKED: Final = (
    "The objects in the second image carry {marks} of different colors, and the white number on each says"
    " which one it is. Which number belongs to the object that has the {color} {mark} in the first image?",
    "One object of the first image has a {color} {mark}. Find the same object again among the numbered "
    "ones of the second image, each of which has {marks} of its own color.",
    "Compare the two images. The first one shows an object with a {color} {mark}; in the second one every"
    " candidate has a {mark} and a white number in a field of the same color. Which candidate is that "
    "object?",
    "Someone marked an object of the first image with a {color} {mark}. The candidates in the second "
    "image are marked with {marks} and numbered. Only one thing can be the same object: say which it is, "
    "if it is there.",
    "In the second image you see several {marks} with numbers. Behind which of them is the very object "
    "that the {color} {mark} marks in the first image?",
)
_CLEAN: Final = (
    "Nothing is drawn on these images. The query object of the first image and the numbered objects of "
    "the second one are given above. Which of the numbered objects is the query object?",
    "Above, one object of the first image is named as the query, and the objects of the second image have"
    " numbers. Find the number under which the query object appears again.",
    "Going by the objects listed above, which object of the second image is the same one as the query "
    "object of the first image?",
)
_WHY: Final = (WHY, "Why?", "How can you tell?", "What is your reason for this answer?")
_WORDS: Final = {"mask": ("contour", "contours"), "box": ("bounding box", "bounding boxes")}


@dataclass(frozen=True)
class Variant:
    """One way of asking.

    Attributes:
        wording: number of the sentence.
        color: of the query's mark.
        why: number of the question for the reason.
        clean: nothing is drawn, and the sentence is one that says so.
    """

    wording: int = 0
    color: str = "cyan"
    why: int = 0
    clean: bool = False

    def question(self, prompt: Literal["mask", "box"]) -> str:
        """The question up to the choices."""
        if self.clean:
            return _CLEAN[self.wording] + CHOOSE
        if self.wording == 0:
            return prompts.format_question(prompt, self.color)
        mark, marks = _WORDS[prompt]
        return _MARKED[self.wording - 1].format(mark=mark, marks=marks, color=self.color) + CHOOSE

    @property
    def reason(self) -> str:
        """The question for the reason."""
        return _WHY[self.why]


PLAIN: Final = Variant()
"""As the benchmark asks."""
_KINDS: Final = tuple(
    [
        Variant(wording, color, why)
        for wording, color, why in itertools.product(range(len(_MARKED) + 1), render.COLORS, range(len(_WHY)))
    ]
    + [Variant(wording, "cyan", why, True) for wording, why in itertools.product(range(len(_CLEAN)), range(len(_WHY)))]
)


@dataclass(frozen=True)
class Variants:
    """The variants that a run draws from: `kinds` with the chance of each, `shares` (their sum is 1)."""

    kinds: tuple[Variant, ...]
    shares: tuple[float, ...]

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Numbers of variants: int16 `[count]`."""
        return np.searchsorted(np.cumsum(self.shares)[:-1], rng.random(count), side="right").astype(np.int16)


def variants(vary: bool = True, clean_share: float = 0.0) -> Variants:
    """The variants of a run.

    Args:
        vary: all wordings and colours; without, the benchmark's question and cyan alone.
        clean_share: share of the cases that are shown without marks, 0..1.
    """
    chosen = _KINDS if vary else (PLAIN, Variant(clean=True))
    clean = sum(one.clean for one in chosen)
    each = {True: clean_share / clean, False: (1 - clean_share) / (len(chosen) - clean)}
    kept = [one for one in chosen if each[one.clean] > 0]
    return Variants(tuple(kept), tuple(each[one.clean] for one in kept))


def length_changes(count: Callable[[str], int], kinds: Sequence[Variant]) -> np.ndarray:
    """How many tokens longer a conversation is in each variant than in `PLAIN`: int64 `[forms, variants]`.

    Args:
        count: text -> number of its tokens, as it stands between a line's end and a line's end.
        kinds: the variants.
    """
    found = np.zeros((len(FORMS), len(kinds)), np.int64)
    for row, form in enumerate(FORMS):
        if form == "talk":
            continue
        prompt: Literal["mask", "box"] = "box" if form.startswith("box") else "mask"
        plain = count(PLAIN.question(prompt))
        for column, kind in enumerate(kinds):
            found[row, column] = count(kind.question(prompt)) - plain
            if form.endswith("why"):
                found[row, column] += count(kind.reason) - count(PLAIN.reason)
    return found
