"""What models answered, as a file that other tools can write: one JSON object a line.

    {"id": "case_000000", "model": "gpt-4o", "answer": "B", "text": "The answer is B."}

``id`` names the case; ``model`` is any name; ``answer`` is the letter of an option, null when none could be read from
the text, and ``Z`` for a refusal; ``text`` is what the model said, and may be missing. A file may hold several models,
and a model answers a case once. Other keys are refused, so that a slip of the pen is not taken for a missing answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, FrozenModel

REFUSED = "Z"
NONE = "none"


class Line(FrozenModel):
    """One answer of one model, as the file has it."""

    id: str = Field(min_length=1)
    model: str = Field(min_length=1)
    answer: str | None = Field(pattern="^[A-Z]$")
    text: str = ""


@dataclass(frozen=True)
class Said:
    """One answer: letter or None, and the raw text."""

    letter: str | None
    text: str


Runs = dict[str, dict[str, Said]]
"""Model -> id of the case -> what it said."""


def read(paths: Iterable[Path]) -> Runs:
    """The answers of one file or more.

    Raises:
        InputError: a file cannot be read, a line is not of the form above, a model answers a case twice, or the names
            of two models differ in punctuation only.
    """
    runs: Runs = {}
    fields: dict[str, str] = {}
    for path in paths:
        try:
            with open(path, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        _add(runs, fields, path, number, line)
        except OSError as error:
            raise InputError(path, f"file cannot be read: {error.strerror or error}") from error
    return runs


def field_of(model: str) -> str:
    """Name of the field that shows a model: ``gpt-4o`` -> ``model_gpt_4o``."""
    return "model_" + re.sub(r"\W+", "_", model.lower(), flags=re.ASCII).strip("_")


def chosen(case: Case, said: Said) -> str:
    """What an answer stands for: a number, ``none``, ``refused``, ``not an option``, or ``no answer``."""
    if said.letter is None:
        return "no answer"
    for option in case.options:
        if option.letter == said.letter:
            return NONE if option.number is None else str(option.number)
    return "refused" if said.letter == REFUSED else "not an option"


def _add(runs: Runs, fields: dict[str, str], path: Path, number: int, line: bytes) -> None:
    where = f"line {number}"
    try:
        found = Line.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        wanted = 'expected {"id", "model", "answer": letter or null, "text"}'
        raise InputError(path, f"{first['msg']}{f' at {at}' if at else ''}; {wanted}", where) from error
    other = fields.setdefault(field_of(found.model), found.model)
    if other != found.model:
        raise InputError(path, f"models {other!r} and {found.model!r} differ in punctuation only", where)
    answers = runs.setdefault(found.model, {})
    if found.id in answers:
        raise InputError(path, f"{found.model!r} answers {found.id!r} a second time", where)
    answers[found.id] = Said(found.answer, found.text)
