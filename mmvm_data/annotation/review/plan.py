"""How a benchmark is reviewed: ``annotation/review.json`` and ``annotation/answers.jsonl``, written by ``review push``.

A benchmark without the first is reviewed once a case, and the latest annotation counts. The second has the answers of
models from the last push that was given some, so that later ones list the tasks in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from mmvm_data.annotation.labelstudio.history import FOLDER
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case, FrozenModel
from mmvm_data.formats.predictions import AnswerLine, AnswersByModel, read_answers
from mmvm_data.io.files import atomic_write, path_kind, read_regular

PLAN: Final = "review.json"
ANSWERS: Final = "answers.jsonl"


class ReviewPlan(FrozenModel):
    """Who reviews what.

    Attributes:
        overlap: how many people get each case.
        annotators: their e-mail addresses; anybody when it is empty.
        adjudicators: e-mail addresses of the people whose annotation decides where others disagree.
        golden: ids of the cases whose records are known to be right. They measure the annotators, and no annotation
            changes them.
    """

    overlap: Annotated[int, Field(ge=1)] = 1
    annotators: tuple[str, ...] = ()
    adjudicators: tuple[str, ...] = ()
    golden: tuple[str, ...] = ()


def read_plan(directory: Path) -> ReviewPlan:
    """The plan of a benchmark; the default one when it has none.

    Raises:
        InputError: the file cannot be read.
    """
    path = directory / FOLDER / PLAN
    try:
        return ReviewPlan.model_validate_json(read_regular(path))
    except FileNotFoundError:
        return ReviewPlan()
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(path, str(first["msg"]), ".".join(map(str, first["loc"]))) from error


def write_plan(directory: Path, plan: ReviewPlan) -> None:
    """Write the plan where it differs from the one that is there.

    Raises:
        OutputError: the folder cannot be written.
    """
    if plan == read_plan(directory):
        return
    path = directory / FOLDER / PLAN
    try:
        path.parent.mkdir(exist_ok=True)
        with atomic_write(path) as out:
            out.write(plan.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise OutputError(error.filename or path, error) from error


def keep_answers(directory: Path, paths: Sequence[Path]) -> AnswersByModel:
    """Return the answers in files of models, and keep their letters for later pushes; without files, the kept ones.

    Raises:
        InputError: a file cannot be read.
        OutputError: the folder cannot be written.
    """
    kept = directory / FOLDER / ANSWERS
    if not paths:
        return read_answers((kept,) if path_kind(kept) == "file" else ())
    answers = read_answers(paths)
    try:
        kept.parent.mkdir(exist_ok=True)
        with atomic_write(kept) as out:
            for model, by_case in answers.items():
                for case, answer in by_case.items():
                    out.write(AnswerLine(id=case, model=model, answer=answer.letter).model_dump_json() + "\n")
    except OSError as error:
        raise OutputError(error.filename or kept, error) from error
    return answers


def read_case_ids(path: Path, known: Sequence[str]) -> tuple[str, ...]:
    """The case ids of a text file, one a line, in the order of ``known``.

    Raises:
        InputError: the file cannot be read, or a line is not the id of a case.
    """
    try:
        lines = read_regular(path).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
    wanted = {}
    for number, line in enumerate(lines, start=1):
        if name := line.strip():
            wanted[name] = number
    if unknown := [name for name in wanted if name not in set(known)]:
        raise InputError(path, f"there is no case {unknown[0]!r:.60}", f"line {wanted[unknown[0]]}")
    return tuple(name for name in known if name in wanted)


def golden_proposal(case: Case) -> Case:
    """What is proposed for a golden case: half of them, by a hash of the id, propose a wrong answer, so that who only
    presses Accept is noticed."""
    digest = hashlib.sha256(case.id.encode()).digest()
    others = [option.number for option in case.options if option.number not in (None, case.answer)]
    if digest[0] % 2 or not others:
        return case
    wrong = others[digest[1] % len(others)]
    return case.model_copy(update={"answer": wrong, "rationale": None, "written": None})
