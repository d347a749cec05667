"""Answers of models, as a file that other tools can write: one JSON object a line.

    {"id": "case_000000", "model": "gpt-4o", "answer": "B", "text": "The answer is B."}

``id`` names the case; ``model`` is any name; ``answer`` is the letter of an option, null when none could be read from
the text, and ``Z`` for a refusal; ``text`` is the model's reply, and may be missing. A file may hold several models,
and a model answers a case once. Unknown keys are refused, so that a typing error does not count as a missing answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, FrozenModel
from mmvm_data.io.files import open_regular

REFUSED = "Z"
NONE = "none"
RUN_ANSWERS = "answers.jsonl"
"""File of answers in the folder of a run of ``colva eval``."""


class AnswerLine(FrozenModel):
    """One line of the file: one answer of one model."""

    id: str = Field(min_length=1)
    model: str = Field(min_length=1)
    answer: str | None = Field(pattern="^[A-Z]$")
    text: str = ""


@dataclass(frozen=True)
class ModelAnswer:
    """One answer: letter or None, and the reply."""

    letter: str | None
    text: str


AnswersByModel = dict[str, dict[str, ModelAnswer]]
"""Model -> id of the case -> its answer."""


def read_answers(paths: Iterable[Path]) -> AnswersByModel:
    """Return the answers in the files; a folder stands for the ``answers.jsonl`` in it.

    Raises:
        InputError: a file cannot be read, a line is not of the form above, a model answers a case twice, or the names
            of two models differ in punctuation only.
    """
    answers: AnswersByModel = {}
    fields: dict[str, str] = {}
    for given in paths:
        path = given / RUN_ANSWERS if given.is_dir() else given
        try:
            with open_regular(path) as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        _add_line(answers, fields, path, number, line)
        except OSError as error:
            if path != given and isinstance(error, FileNotFoundError):
                raise InputError(given, f"holds no {RUN_ANSWERS}: it is no finished run of colva eval") from error
            raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
    return answers


def model_field(model: str) -> str:
    """Return the name of the field that shows a model: ``gpt-4o`` -> ``model_gpt_4o``."""
    return "model_" + re.sub(r"\W+", "_", model.lower(), flags=re.ASCII).strip("_")


def resolve_choice(case: Case, answer: ModelAnswer) -> str:
    """Return what an answer refers to: a number, ``none``, ``refused``, ``not an option``, or ``no answer``."""
    if answer.letter is None:
        return "no answer"
    for option in case.options:
        if option.letter == answer.letter:
            return NONE if option.number is None else str(option.number)
    return "refused" if answer.letter == REFUSED else "not an option"


def _add_line(answers: AnswersByModel, fields: dict[str, str], path: Path, number: int, line: bytes) -> None:
    where = f"line {number}"
    try:
        entry = AnswerLine.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        expected = 'expected {"id", "model", "answer": letter or null, "text"}'
        raise InputError(path, f"{first['msg']}{f' at {at}' if at else ''}; {expected}", where) from error
    other = fields.setdefault(model_field(entry.model), entry.model)
    if other != entry.model:
        raise InputError(path, f"models {other!r} and {entry.model!r} differ in punctuation only", where)
    of_model = answers.setdefault(entry.model, {})
    if entry.id in of_model:
        raise InputError(path, f"{entry.model!r} answers {entry.id!r} twice", where)
    of_model[entry.id] = ModelAnswer(entry.answer, entry.text)
