"""Questions: one about one case, in the wording of its protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from colva.evaluation.scoring.extract import NONE
from mmvm_data.cases.consistency import needs_second_look
from mmvm_data.cases.prompts import NONE_TEXT, choice_texts, format_choices
from mmvm_data.core.case_facts import source_name
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import options
from mmvm_data.core.types import Case, Option
from mmvm_data.formats import vlmevalkit
from mmvm_data.formats.conversations import WHY
from mmvm_data.formats.tsv import require_drawn_paths
from mmvm_data.formats.vlmevalkit import VlmEvalKitItem
from mmvm_data.io.files import file_sha256, safe_join

Protocol = Literal["mcq", "vqa"]
LEVELS = (4, 8, 12)
"""Levels of difficulty: candidates that are kept, at most; beside them "all"."""


@options
class AskOptions:
    """How cases are asked about; all of it changes what a model sees.

    Attributes:
        protocol: ``mcq``: options, answered by a letter; ``vqa``: answered by a number.
        difficulty: keep so many candidates, the hardest; None: all.
        num_variants: variants of each question with its options moved round, see ``rotate_options``; 1: as published.
        ask_why: ask for the reason in a second turn.
        suffix: text after the question; the published protocol has none.
    """

    protocol: Protocol = "mcq"
    difficulty: Annotated[int, Field(ge=1)] | None = None
    num_variants: Annotated[int, Field(ge=1)] = 1
    ask_why: bool = False
    suffix: str = ""

    @model_validator(mode="after")
    def _check_variants(self) -> Self:
        if self.protocol == "vqa" and self.num_variants > 1:
            raise ValueError("num_variants must be 1 with protocol 'vqa': an answer by number has no options to move")
        return self


@dataclass(frozen=True)
class Question:
    """One question. Everything that a model may use is here; ``answer`` and ``rationale`` are for the scorer.

    Attributes:
        id: name of the question: the case's, with ``~k`` for its k-th further variant.
        case: name of the case.
        index: of the row in the table; what published scorers join by.
        variant: 0 as published, k with the options moved by k, see ``rotate_options``.
        protocol: see ``AskOptions``.
        images: drawn image files, in order, the last with the candidates.
        text: the prompt after the images.
        pure: the question without choices.
        choices: label -> text. Labels are letters for ``mcq``, else numbers and ``none``; empty when the candidates
            are not known.
        answer: the right label.
        types: match types 1..8.
        source: name of the case's source.
        candidates: on offer; None when not known.
        difficulty: "4", "8", "12": the smallest level that holds all candidates; else "all"; None when not known.
        why_prompt: the second turn, or None.
        rationale: why the answer is right, when the set says so and it agrees with the answer.
        source_case: the case with its masks and clean images (below its ``root``), None for sets without regions.
    """

    id: str
    case: str
    index: str
    variant: int
    protocol: Protocol
    images: tuple[Path, ...]
    text: str
    pure: str
    choices: Mapping[str, str]
    answer: str
    types: tuple[int, ...]
    source: str
    candidates: int | None
    difficulty: str | None
    why_prompt: str | None = None
    rationale: str | None = None
    source_case: Case | None = field(default=None, compare=False, repr=False)


def frame_sizes(question: Question) -> list[tuple[int, int] | None]:
    """Return width and height of each image in pixels, as the record says; None where there is no record."""
    case = question.source_case
    if case is None or len(case.frames) != len(question.images):
        return [None] * len(question.images)
    return [(frame.width, frame.height) for frame in case.frames]


def difficulty_level(num_candidates: int) -> str:
    """Return the level of difficulty of a number of candidates: "4", "8", "12" or "all"."""
    return next((str(level) for level in LEVELS if num_candidates <= level), "all")


def rotate_options(options: Sequence[Option], num_variants: int) -> list[tuple[Option, ...]]:
    """Return options with their numbers moved round: variant k has at each letter the number k places further on.

    "None of the above" stays last, since it refers to the options above it. There are at most as many variants as
    numbers.

    Args:
        options: as published.
        num_variants: the published one included.
    """
    numbers = [option.number for option in options if option.number is not None]
    variants = []
    for k in range(min(num_variants, max(len(numbers), 1))):
        rotated = iter(numbers[k:] + numbers[:k])
        variants.append(
            tuple(o if o.number is None else o.model_copy(update={"number": next(rotated)}) for o in options)
        )
    return variants


def make_case_questions(
    case: Case, ask_options: AskOptions, index: str, images: tuple[Path, ...] | None = None
) -> list[Question]:
    """Return the questions of a case, the one as published first.

    Args:
        case: with its ``root``.
        ask_options: how it is asked.
        index: of its row.
        images: drawn images; None: those of its folder.

    Raises:
        InputError: its drawn images lie in no case folder, or no option stands for the answer.
    """
    if images is None:
        names = require_drawn_paths(case)
        images = tuple(safe_join(case.root or Path(), name, case.id) for name in names)
    shared: dict[str, Any] = {
        "case": case.id,
        "index": index,
        "protocol": ask_options.protocol,
        "images": images,
        "types": tuple(sorted(set(case.match_types))),
        "source": source_name(case),
        "candidates": len(case.candidates),
        "difficulty": difficulty_level(len(case.candidates)),
        "why_prompt": WHY if ask_options.ask_why else None,
        "rationale": None if needs_second_look(case) else case.rationale,
        "source_case": case,
    }
    if ask_options.protocol == "vqa":
        pure = vlmevalkit.format_question(case)
        labels = {str(c.number): str(c.number) for c in case.candidates} | {NONE: NONE_TEXT}
        answer = NONE if case.answer is None else str(case.answer)
        text = pure + ask_options.suffix
        return [Question(id=case.id, variant=0, text=text, pure=pure, choices=labels, answer=answer, **shared)]
    questions = []
    for k, options_of_variant in enumerate(rotate_options(case.options, ask_options.num_variants)):
        letter = next((o.letter for o in options_of_variant if o.number == case.answer), None)
        if letter is None:
            raise InputError(case.id, f"no option for answer {case.answer}", field="options")
        questions.append(
            Question(
                id=f"{case.id}~{k}" if k else case.id,
                variant=k,
                text=case.question + format_choices(options_of_variant) + ask_options.suffix,
                pure=case.question,
                choices=choice_texts(options_of_variant),
                answer=letter,
                **shared,
            )
        )
    return questions


def make_item_question(item: VlmEvalKitItem, ask_options: AskOptions) -> Question:
    """Return the question of a row of the newer protocol, whose candidates are not known."""
    return Question(
        id=item.index,
        case=item.index,
        index=item.index,
        variant=0,
        protocol="vqa",
        images=item.images,
        text=item.question + ask_options.suffix,
        pure=item.question,
        choices={},
        answer=NONE if item.answer is None else str(item.answer),
        types=tuple(sorted(set(item.match_types))),
        source="(unknown)",
        candidates=None,
        difficulty=None,
        why_prompt=WHY if ask_options.ask_why else None,
    )


def question_digest(question: Question) -> str:
    """Return SHA-256 over everything of a question that a model can see: the bytes of its drawn and clean images, the
    words, the labels, the regions.

    Raises:
        InputError: an image cannot be read.
    """
    digest = hashlib.sha256()
    values: list[Any] = [question.protocol, question.text, dict(question.choices), question.why_prompt]
    files = list(question.images)
    if question.source_case is not None:
        case = question.source_case
        values.append([r.model_dump(mode="json") for r in (*case.query, *(c.region for c in case.candidates))])
        files += [safe_join(case.root or Path(), frame.path, case.id) for frame in case.frames]
    digest.update(json.dumps(values, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for file in files:
        try:
            digest.update(file_sha256(file))
        except OSError as error:
            raise InputError(file, f"image cannot be read: {error.strerror or error}", field=question.id) from error
    return digest.hexdigest()
