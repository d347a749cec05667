"""The files beside the cases that a build writes: ``cases.jsonl``, ``rejects.jsonl`` and ``build.json``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Case
from mmvm_data.formats.bench_read import CASES, Problem, read, require_benchmark
from mmvm_data.io.json_files import read_json_object

REJECTS: Final = "rejects.jsonl"
BUILD: Final = "build.json"
REPORT: Final = "report.html"
"""The page of `mmvm-data report`, which shows what is there and is lost with it."""
_REJECT = TypeAdapter(Reject)


def read_cases(folder: Path, problems: list[Problem] | None = None) -> Iterator[Case]:
    """The cases of a benchmark folder in order: from ``cases.jsonl``, or from the tsv and the case folders.

    Every line of cases.jsonl must be a case. Of a set without it, what can be read is read.

    Args:
        folder: the benchmark.
        problems: list that gets what could not be read of a set without ``cases.jsonl``.

    Raises:
        InputError: neither exists (an unfinished build has none), or a line of ``cases.jsonl`` is not a case.
    """
    has_records = (folder / CASES).is_file()
    require_benchmark(folder)
    return read(folder, None if has_records else [] if problems is None else problems)


def read_rejects(folder: Path) -> Iterator[Reject]:
    """The records of ``rejects.jsonl``, none when there is no such file.

    Raises:
        InputError: a line is not a reject.
    """
    path = folder / REJECTS
    if not path.is_file():
        return
    for number, line in _read_lines(path):
        try:
            yield _REJECT.validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(path, first["msg"], f"line {number}{f', {where}' if where else ''}") from error


def read_build(folder: Path) -> dict[str, Any] | None:
    """The content of ``build.json``; None when there is no such file.

    Raises:
        InputError: it is not a JSON object.
    """
    path = folder / BUILD
    if not path.is_file():
        return None
    return read_json_object(path, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open(path, encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read as UTF-8 text: {error}") from error
