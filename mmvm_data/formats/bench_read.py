"""Reads a benchmark: ours from cases.jsonl, any other from its tsv and case folders.

Nothing is guessed. A part of a case that cannot be read is left out of the case and reported; a case that cannot be
read at all is left out and reported.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import ValidationError
from typing_extensions import Self

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Candidate, Case, Frame
from mmvm_data.formats.id_cells import unquote_name
from mmvm_data.formats.object_annotations import AnnotatedObject, read_objects
from mmvm_data.formats.table_cells import parse_choices, parse_image_paths, parse_match_types
from mmvm_data.formats.tsv import (
    FOLDER,
    OWN,
    PUBLISHED,
    TSV,
    annotation_name,
    format_letters,
    original_name,
    read_rows,
    shorten,
)
from mmvm_data.io.files import open_regular, safe_join
from mmvm_data.io.transaction import settle

CASES = "cases.jsonl"
_MAX_NAMED = 5  # benchmarks in a folder that a message names


class CaseRecord(Protocol):
    """A model of a record, or of a part of it: ``Case``, ``tsv.TableRecord``."""

    @property
    def id(self) -> str:
        """Of the case."""

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray) -> Self:
        """The record of a line."""


Record = TypeVar("Record", bound=CaseRecord)
_ID_AT_START = re.compile(rb'\{"version":1,"id":"([ !#-\[\]-~]*)"')
"""The id of a record, of printable ASCII without escapes."""
_NEEDED = ("image_path", "choices", "answer")
_OPTIONAL = ("image_path_v3", "question_v3")


class Problem(NamedTuple):
    """Something wrong with a benchmark.

    Attributes:
        where: the file, row or case.
        what: what is wrong with it.
    """

    where: str
    what: str


def require_benchmark(folder: Path) -> None:
    """Check that a folder holds the records or the table of a benchmark.

    Raises:
        InputError: neither exists; the message says what the folder seems to be instead.
    """
    if (folder / CASES).is_file() or (folder / TSV).is_file():
        return
    inner = sorted(path.parent.name for path in folder.glob(f"*/{CASES}"))
    if (folder / FOLDER).is_dir():
        hint = "an unfinished build? `mmvm-data build … --resume` continues it"
    elif inner:
        hint = f"expected one of the benchmarks in it, {', '.join(inner[:_MAX_NAMED])}"
    else:
        hint = "expected the output of a build"
    raise InputError(folder, f"holds no benchmark, neither {CASES} nor {TSV}: {hint}")


def read(
    directory: str | Path,
    problems: list[Problem] | None = None,
    table: str | None = None,
    ids: Container[str] | None = None,
) -> Iterator[Case]:
    """The cases of a benchmark, one at a time.

    With cases.jsonl beside the tsv they are its records. Otherwise a case is read from its row and its folder:
    masks from ``rle`` where the JSON has it, else as the published reader fills polygons (``masks.from_polygons``, rule
    "original"); the answer through the choices; further columns in ``extra``. Images are not opened. The directory
    becomes the ``root`` of the cases.

    A change that a killed command has left unfinished is completed first.

    Args:
        directory: holds the tsv and what its paths lead to.
        problems: list that gets what is wrong, in the order of the file: cases that were left out, and parts of cases
            that were left out (polygons, ``match_type``). When None, the former raise, and the text of the latter is
            kept in ``extra``.
        table: name of a tsv in the directory to read instead of cases.jsonl; None: as above.
        ids: of the cases of cases.jsonl that are wanted; None: all. The records of others are not checked where their
            id stands at the start, as in those that this package writes.

    Raises:
        InputError: the table itself cannot be read, or (without ``problems``) a case.
    """
    directory = Path(directory)
    settle(directory)
    if table is None and (directory / CASES).is_file():
        for _, case in _records(directory / CASES, problems, ids, Case):
            yield case.with_root(directory)
        return
    if table is None:
        require_benchmark(directory)
    path = directory / (table or TSV)
    first = True
    for row in read_rows(path):
        if first:
            first = False
            check_columns(path, set(row.cells), problems)
        where = f"{path.name}: line {row.line}"
        try:
            if row.fault:
                raise InputError(path, row.fault, field=f"line {row.line}")
            yield case_from_row(directory, row.cells, where, problems).with_root(directory)
        except InputError as error:
            if problems is None:
                raise
            problems.append(problem_from_error(directory, where, error))


def read_ids(directory: str | Path) -> Iterator[str]:
    """The ids of the records of cases.jsonl, in order; a record is checked only where its id is not at the start.

    A change that a killed command has left unfinished is completed first.

    Raises:
        InputError: the file cannot be read, or a line that is checked is no case.
    """
    directory = Path(directory)
    settle(directory)
    path = directory / CASES
    for number, line in read_lines(path):
        start = _ID_AT_START.match(line)
        yield parse_record(path, line, number).id if start is None else start[1].decode()


def read_records(
    directory: str | Path, ids: Container[str] | None, record: type[Record]
) -> Iterator[tuple[bytes, Record]]:
    """The records of cases.jsonl, in order: each line without its end, and what is read of it.

    A change that a killed command has left unfinished is completed first.

    Args:
        directory: the benchmark.
        ids: see ``read``.
        record: ``Case``, without a ``root``, or, of records that were checked before, a model of a part of it.

    Raises:
        InputError: the file cannot be read, or a line is no case.
    """
    directory = Path(directory)
    settle(directory)
    return _records(directory / CASES, None, ids, record)


def parse_record(path: Path, line: bytes, number: int) -> Case:
    """The case of one line of cases.jsonl.

    Raises:
        InputError: it is not a case.
    """
    return _parse_line(path, line, number, Case)


def _parse_line(path: Path, line: bytes, number: int, record: type[Record]) -> Record:
    try:
        return record.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise InputError(
            path, f"not a case record: {first['msg']}{f' at {at}' if at else ''}", f"line {number}"
        ) from error


def check_columns(path: Path, columns: set[str], problems: list[Problem] | None) -> None:
    """Check that a table has the columns that a case needs; the second version of question and images may be missing.

    Raises:
        InputError: a column that a case needs is missing.
    """
    missing = [name for name in _NEEDED if name not in columns]
    if not columns & {"question", "pure_question"}:
        missing.append("question")
    if missing:
        raise InputError(path, f"columns are missing: {', '.join(missing)}", field="line 1")
    gone = [name for name in PUBLISHED if name not in columns and name not in _NEEDED]
    if gone and problems is not None:
        problems.append(Problem(path.name, f"columns are missing: {', '.join(gone)}"))


def case_from_row(directory: Path, cells: dict[str, str], where: str, problems: list[Problem] | None) -> Case:
    """The case of one row and its folder.

    Args:
        directory: what the paths are relative to.
        cells: cells of the row, by column.
        where: name of the row in messages.
        problems: list that gets what was left out.

    Raises:
        InputError: the case cannot be read.
    """
    paths = parse_image_paths(directory, cells.get("image_path", ""), where)
    try:
        offered = parse_choices(cells.get("choices", ""))
    except ValueError as error:
        raise InputError(where, str(error), field="choices") from error
    letter = cells.get("answer", "").strip()
    if letter not in {option.letter for option in offered}:
        raise InputError(where, f"{shorten(letter)} is not one of {format_letters(offered)}", field="answer")
    answer = next(option.number for option in offered if option.letter == letter)
    frames, queries = [], []
    candidates: list[Candidate] = []
    for position, path in enumerate(paths):
        drawn = PurePosixPath(path)
        file = str(drawn.with_name(annotation_name(drawn.name)))
        items = read_objects(safe_join(directory, file, where), file)
        if not items:
            raise InputError(file, "list of objects is empty")
        for item in items:
            if item.skipped and problems is not None:
                what = (
                    f"{item.skipped} polygons of odd length or under 6 values are skipped, as the published reader does"
                )
                problems.append(Problem(f"{file}: object {shorten(item.id)}", what))
        original = str(drawn.with_name(original_name(drawn.name)))
        frames.append(Frame(path=original, index=position, width=items[0].width, height=items[0].height))
        if position < len(paths) - 1:
            queries.append(items[0].region)
        else:
            candidates = _candidates(items, file)
    types, fault = parse_match_types(cells.get("match_type"))
    extra: dict[str, Any] = {k: v for k, v in cells.items() if v and k not in (*PUBLISHED, *OWN)}
    extra |= {k: cells[k] for k in ("index", *_OPTIONAL) if cells.get(k)}
    extra |= {k: unquote_name(cells[k]) for k in ("source", "video") if cells.get(k)}
    if fault:
        extra["match_type"] = cells.get("match_type", "")
        if problems is not None:
            problems.append(Problem(f"{where}: match_type", fault))
    same = next((c.region.id for c in candidates if c.number == answer and answer is not None), "query")
    queries = [q if q.id else q.model_copy(update={"id": same}) for q in queries]
    visible = [r for r in queries if r.mask is None or masks.area(r.mask)]  # a query may be hidden in between
    boxes = all(region.box is not None for region in [*visible, *(c.region for c in candidates)])
    prompt: Literal["mask", "box"] = "box" if boxes else "mask"
    try:
        return Case(
            id=PurePosixPath(paths[-1]).parent.name,
            frames=tuple(frames),
            query=tuple(queries),
            candidates=tuple(candidates),
            answer=answer,
            prompt=prompt,
            question=cells.get("pure_question") or cells.get("question", "").removesuffix(cells.get("choices", "")),
            options=offered,
            match_types=types,
            extra=extra,
        )
    except ValidationError as error:
        raise InputError(where, error.errors(include_url=False)[0]["msg"]) from error


def _candidates(items: list[AnnotatedObject], file: str) -> list[Candidate]:
    candidates = []
    for item in items:
        if isinstance(item.id, bool) or not isinstance(item.id, int) or item.id < 1:
            raise InputError(file, f"id {shorten(item.id)} must be a number from 1", field="id")
        region = item.region if item.region.id else item.region.model_copy(update={"id": str(item.id)})
        candidates.append(Candidate(number=item.id, region=region))
    return sorted(candidates, key=lambda candidate: candidate.number)


def _records(
    path: Path, problems: list[Problem] | None, ids: Container[str] | None, record: type[Record]
) -> Iterator[tuple[bytes, Record]]:
    for number, line in read_lines(path):
        start = _ID_AT_START.match(line) if ids is not None else None
        if start is not None and ids is not None and start[1].decode() not in ids:
            continue
        try:
            case = _parse_line(path, line, number, record)
        except InputError as error:
            if problems is None:
                raise
            problems.append(Problem(f"{path.name}: line {number}", error.reason))
            continue
        if ids is None or case.id in ids:
            yield line.rstrip(b"\r\n"), case


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers from 1."""
    try:
        with open_regular(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error


def problem_from_error(directory: Path, where: str, error: InputError) -> Problem:
    """An error as a problem; what lies in the folder is named relative to it."""
    file = error.file.removeprefix(f"{directory}/")
    place = file if file.startswith(where) or where.startswith(file) else f"{where}: {file}"
    return Problem(f"{place}{f': {error.field}' if error.field else ''}", error.reason)
