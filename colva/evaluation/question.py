"""What a model is asked: one question about one case, in the words of its protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from colva.evaluation.scoring.extract import NONE
from mmvm_data.cases.prompts import NONE_TEXT, choice_texts, format_choices
from mmvm_data.core.case_facts import source_name
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Option
from mmvm_data.formats import vlmevalkit
from mmvm_data.formats.conversations import WHY
from mmvm_data.formats.tsv import drawn_paths
from mmvm_data.formats.vlmevalkit import VlmEvalKitItem
from mmvm_data.io.files import file_sha256, safe_join

Protocol = Literal["mcq", "vqa"]
LEVELS = (4, 8, 12)
"""Levels of difficulty: candidates that are kept, at most; beside them "all"."""


@dataclass(frozen=True)
class AskOptions:
    """How cases are asked about; all of it changes what a model sees.

    Attributes:
        protocol: ``mcq``: options, answered by a letter; ``vqa``: answered by a number.
        difficulty: keep so many candidates, the hardest; None: all.
        shuffles: variants of a question, see ``variants``; 1: as published.
        why: ask a second time, for the reason.
        suffix: text after the question; the published protocol has none.
    """

    protocol: Protocol = "mcq"
    difficulty: int | None = None
    shuffles: int = 1
    why: bool = False
    suffix: str = ""


@dataclass(frozen=True)
class Question:
    """One question. Everything that a player may use is here; ``answer`` and ``rationale`` are for the scorer.

    Attributes:
        id: name of the question: the case's, with ``~k`` for its k-th further variant.
        case: name of the case.
        index: of the row in the table; what published scorers join by.
        variant: 0 as published, k with the options moved by k, see ``variants``.
        protocol: see ``AskOptions``.
        images: drawn image files, in order, the last with the candidates.
        text: what is said after the images.
        pure: the question without choices.
        choices: label -> text. Labels are letters for ``mcq``, else numbers and ``none``; empty when the candidates
            are not known.
        answer: the right label.
        types: match types 1..8.
        source: name of the case's source.
        candidates: on offer; None when not known.
        difficulty: "4", "8", "12": the smallest level that holds all candidates; else "all"; None when not known.
        why: the second turn, or None.
        rationale: why the answer is right, when the set says so.
        record: the whole case with its masks and clean images (``record.root``), None for sets without regions.
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
    why: str | None = None
    rationale: str | None = None
    record: Case | None = field(default=None, compare=False, repr=False)


def level_of(candidates: int) -> str:
    """The level of difficulty of so many candidates: "4", "8", "12" or "all"."""
    return next((str(level) for level in LEVELS if candidates <= level), "all")


def variants(options: Sequence[Option], shuffles: int) -> list[tuple[Option, ...]]:
    """Options with their numbers moved round: variant k has at each letter the number k places further on.

    "None of the above" stays last, since it speaks of what is above it. There are at most as many variants as numbers.

    Args:
        options: as published.
        shuffles: variants wanted, the published one included.
    """
    numbers = [option.number for option in options if option.number is not None]
    found = []
    for k in range(min(shuffles, max(len(numbers), 1))):
        moved = iter(numbers[k:] + numbers[:k])
        found.append(tuple(o if o.number is None else o.model_copy(update={"number": next(moved)}) for o in options))
    return found


def of_case(case: Case, options: AskOptions, index: str, images: tuple[Path, ...] | None = None) -> list[Question]:
    """The questions of a case, the one as published first.

    Args:
        case: with its ``root``.
        options: how it is asked.
        index: of its row.
        images: drawn images; None: those of its folder.

    Raises:
        InputError: its drawn images lie in no case folder, or no option stands for the answer.
    """
    if images is None:
        names = drawn_paths(case)
        if not names:
            raise InputError(case.id, f"its images lie in no case folder: {case.frames[0].path}")
        images = tuple(safe_join(case.root or Path(), name, case.id) for name in names)
    shared: dict[str, Any] = {
        "case": case.id,
        "index": index,
        "protocol": options.protocol,
        "images": images,
        "types": tuple(sorted(set(case.match_types))),
        "source": source_name(case),
        "candidates": len(case.candidates),
        "difficulty": level_of(len(case.candidates)),
        "why": WHY if options.why else None,
        "rationale": case.rationale,
        "record": case,
    }
    if options.protocol == "vqa":
        pure = vlmevalkit.format_question(case)
        labels = {str(c.number): str(c.number) for c in case.candidates} | {NONE: NONE_TEXT}
        answer = NONE if case.answer is None else str(case.answer)
        return [
            Question(
                id=case.id,
                variant=0,
                text=pure + options.suffix,
                pure=pure,
                choices=labels,
                answer=answer,
                **shared,
            )
        ]
    found = []
    for k, offered in enumerate(variants(case.options, options.shuffles)):
        letter = next((o.letter for o in offered if o.number == case.answer), None)
        if letter is None:
            raise InputError(case.id, f"no option for answer {case.answer}", field="options")
        found.append(
            Question(
                id=f"{case.id}~{k}" if k else case.id,
                variant=k,
                text=case.question + format_choices(offered) + options.suffix,
                pure=case.question,
                choices=choice_texts(offered),
                answer=letter,
                **shared,
            )
        )
    return found


def of_item(item: VlmEvalKitItem, options: AskOptions) -> Question:
    """The question of a row of the newer protocol, whose candidates are not known."""
    return Question(
        id=item.index,
        case=item.index,
        index=item.index,
        variant=0,
        protocol="vqa",
        images=item.images,
        text=item.question + options.suffix,
        pure=item.question,
        choices={},
        answer=NONE if item.answer is None else str(item.answer),
        types=tuple(sorted(set(item.match_types))),
        source="(unknown)",
        candidates=None,
        difficulty=None,
        why=WHY if options.why else None,
    )


def digest_of(question: Question) -> str:
    """SHA-256 over everything of a question that a model can see: the bytes of its images and of the clean ones, the
    words, the labels, the regions.

    Raises:
        InputError: an image cannot be read.
    """
    whole = hashlib.sha256()
    seen: list[Any] = [question.protocol, question.text, dict(question.choices), question.why]
    files = list(question.images)
    if question.record is not None:
        record = question.record
        seen.append([r.model_dump(mode="json") for r in (*record.query, *(c.region for c in record.candidates))])
        files += [safe_join(record.root or Path(), frame.path, record.id) for frame in record.frames]
    whole.update(json.dumps(seen, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for file in files:
        try:
            whole.update(file_sha256(file))
        except OSError as error:
            raise InputError(file, f"image cannot be read: {error.strerror or error}", field=question.id) from error
    return whole.hexdigest()
