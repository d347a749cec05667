"""Variants of the question about a case: wordings, colors of the query's mark, and cases shown without marks.

The first wording is the benchmark's, verbatim (`mmvm_data.cases.prompts`); the others paraphrase it. In the "clean"
variants nothing is drawn on the images, and only the object tokens identify the objects (the instruction augmentation
of arXiv 2501.04670, section 4).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases import prompts, render
from mmvm_data.formats.conversations import WHY

RecordForm = Literal["conversation", "mask", "box", "mask+why", "box+why"]
RECORD_FORMS: Final[tuple[RecordForm, ...]] = ("conversation", "mask", "box", "mask+why", "box+why")
"""Kinds of records: a conversation as it is written, or a case with contours or boxes, with its reason or without."""

_CHOICE_REQUEST: Final = prompts.format_question()[prompts.format_question().rindex(" Please") :]
_MARKED_QUESTIONS: Final = (
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
_CLEAN_QUESTIONS: Final = (
    "Nothing is drawn on these images. The query object of the first image and the numbered objects of "
    "the second one are given above. Which of the numbered objects is the query object?",
    "Above, one object of the first image is named as the query, and the objects of the second image have"
    " numbers. Find the number under which the query object appears again.",
    "Going by the objects listed above, which object of the second image is the same one as the query "
    "object of the first image?",
)
_REASON_QUESTIONS: Final = (WHY, "Why?", "How can you tell?", "What is your reason for this answer?")
_MARK_NAMES: Final = {"mask": ("contour", "contours"), "box": ("bounding box", "bounding boxes")}


@dataclass(frozen=True)
class PromptVariant:
    """One way to ask about a case.

    Attributes:
        wording: index of the question's wording.
        color: of the query's mark.
        reason_wording: index of the wording that asks for the reason.
        clean: nothing is drawn on the images, and the wording is one of those that say so.
    """

    wording: int = 0
    color: str = "cyan"
    reason_wording: int = 0
    clean: bool = False

    def question(self, prompt: Literal["mask", "box"]) -> str:
        """The question up to the choices."""
        if self.clean:
            return _CLEAN_QUESTIONS[self.wording] + _CHOICE_REQUEST
        if self.wording == 0:
            return prompts.format_question(prompt, self.color)
        mark, marks = _MARK_NAMES[prompt]
        text = _MARKED_QUESTIONS[self.wording - 1].format(mark=mark, marks=marks, color=self.color)
        return text + _CHOICE_REQUEST

    @property
    def reason_question(self) -> str:
        """The question for the reason."""
        return _REASON_QUESTIONS[self.reason_wording]


DEFAULT_VARIANT: Final = PromptVariant()
"""The benchmark's own question."""
_ALL_VARIANTS: Final = tuple(
    [
        PromptVariant(wording, color, reason)
        for wording, color, reason in itertools.product(
            range(len(_MARKED_QUESTIONS) + 1), render.COLORS, range(len(_REASON_QUESTIONS))
        )
    ]
    + [
        PromptVariant(wording, "cyan", reason, True)
        for wording, reason in itertools.product(range(len(_CLEAN_QUESTIONS)), range(len(_REASON_QUESTIONS)))
    ]
)


@dataclass(frozen=True)
class PromptVariants:
    """The variants that a run samples from, with the `probabilities` of each (their sum is 1)."""

    variants: tuple[PromptVariant, ...]
    probabilities: tuple[float, ...]

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.int16]:
        """Indices of variants: int16 `[count]`."""
        edges = np.cumsum(self.probabilities)[:-1]
        return np.searchsorted(edges, rng.random(count), side="right").astype(np.int16)


def make_prompt_variants(vary: bool = True, clean_share: float = 0.0) -> PromptVariants:
    """The variants of a run.

    Args:
        vary: use all wordings and colors; otherwise the benchmark's question and cyan only.
        clean_share: share of the cases that are shown without marks, in [0, 1].
    """
    variants = _ALL_VARIANTS if vary else (DEFAULT_VARIANT, PromptVariant(clean=True))
    num_clean = sum(variant.clean for variant in variants)
    probability = {True: clean_share / num_clean, False: (1 - clean_share) / (len(variants) - num_clean)}
    kept = [variant for variant in variants if probability[variant.clean] > 0]
    return PromptVariants(tuple(kept), tuple(probability[variant.clean] for variant in kept))


def length_deltas(count_tokens: Callable[[str], int], variants: Sequence[PromptVariant]) -> NDArray[np.int64]:
    """How many more tokens a conversation has in each variant than in `DEFAULT_VARIANT`: int64 `[forms, variants]`.

    Args:
        count_tokens: number of tokens of a text that stands on lines of its own.
        variants: the columns of the result.
    """
    deltas = np.zeros((len(RECORD_FORMS), len(variants)), np.int64)
    for row, form in enumerate(RECORD_FORMS):
        if form == "conversation":
            continue
        prompt: Literal["mask", "box"] = "box" if form.startswith("box") else "mask"
        base = count_tokens(DEFAULT_VARIANT.question(prompt))
        base_reason = count_tokens(DEFAULT_VARIANT.reason_question)
        for column, variant in enumerate(variants):
            deltas[row, column] = count_tokens(variant.question(prompt)) - base
            if form.endswith("why"):
                deltas[row, column] += count_tokens(variant.reason_question) - base_reason
    return deltas
