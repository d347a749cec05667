"""Checks a benchmark for anything that a reader, an evaluator or a trainer cannot use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mmvm_data.cases.consistency import find_conflicts
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case
from mmvm_data.formats.bench_read import (
    CASES,
    case_from_row,
    check_columns,
    parse_record,
    problem_from_error,
    require_benchmark,
)
from mmvm_data.formats.check_case import (
    check_boxes,
    check_candidates,
    check_query,
    check_record,
    check_second_images,
    check_text,
)
from mmvm_data.formats.check_images import Report, check_image, check_marks
from mmvm_data.formats.id_cells import unquote_id
from mmvm_data.formats.table_cells import parse_image_paths
from mmvm_data.formats.tsv import FOLDER, TSV, Row, parse_whole_number, read_rows, shorten
from mmvm_data.io.files import list_names, open_regular
from mmvm_data.io.transaction import settle

__all__ = ["Report", "validate"]

_ATTEMPTS = 3  # while other commands change the benchmark


def validate(
    directory: str | Path, deep: bool = False, progress: Callable[[int, int | None], None] | None = None
) -> Report:
    """Check every case of a benchmark. One case is in memory at a time; a bad one never stops the check.

    Checked are the table (columns, cells, indices without gaps or repeats, literals, official question, choices,
    letters), the folders (paths that stay inside, missing files, damaged images, sizes that differ from the JSON), the
    objects (numbers, options, polygons that the published reader turns back into exactly ``rle`` or ``bbox``), and
    cases.jsonl against the table; and in a record, whether answer, rationale, cues, match types and options agree.
    Folders that no row names are reported too. A change that a killed command has left unfinished is completed first;
    when another command changes the benchmark during the check, it is checked again.

    Args:
        directory: holds the tsv, ``match_bench/`` and, for ours, cases.jsonl.
        deep: also draw every case again, and compare the marks with those of the files.
        progress: called after each case with (cases done, cases in cases.jsonl; None when there is no such file).

    Returns:
        The report; a table that cannot be read at all is a problem, not an error.
    """
    directory = Path(directory)
    for _ in range(_ATTEMPTS):
        settle(directory)
        before = _file_states(directory)
        report = _check(directory, deep, progress)
        if not report.problems or _file_states(directory) == before:
            break
    return report


def _file_states(directory: Path) -> list[tuple[int, int] | None]:
    """What tells whether the table or the records were replaced."""
    paths = [directory / TSV, directory / CASES]
    return [(path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None for path in paths]


def _check(directory: Path, deep: bool, progress: Callable[[int, int | None], None] | None) -> Report:
    report = Report()
    records = _Records(directory / CASES, report)
    seen = _SeenRows()
    try:
        require_benchmark(directory)
        for row in read_rows(directory / TSV):
            if report.cases == 0:
                check_columns(directory / TSV, set(row.cells), report.problems)
            report.cases += 1
            where = f"{TSV}: line {row.line}"
            if row.fault:
                report.add(where, row.fault)
            _check_index(row, seen, where, report)
            _check_row(directory, row, where, seen, records, report, deep)
            if progress:
                progress(report.cases, records.count if records.has_file else None)
    except InputError as error:
        report.problems.append(problem_from_error(directory, TSV, error))
    for name in records.unused():
        case = records.get(name)
        if case is not None and case.review.state == "rejected":
            seen.folders.add(f"{FOLDER}/{name}")  # keeps its record and its folder
        else:
            report.add(CASES, f"case {name!r} has no row in the table")
    _check_folders(directory, seen, report)
    return report


@dataclass
class _SeenRows:
    """Indices, case ids and folders of the rows that were checked so far."""

    indices: set[str] = field(default_factory=set)
    previous_index: int | None = None
    ids: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)


class _Records:
    """The records of cases.jsonl by case id; offsets are in memory, a record is read when its row is checked."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._offsets: dict[str, int] = {}
        self._used: set[str] = set()
        self.has_file = path.is_file()
        for offset, number, line in self._lines(report):
            try:
                name = parse_record(path, line, number).id
            except InputError as error:
                report.add(f"{CASES}: line {number}", error.reason)
                continue
            if name in self._offsets:
                report.add(f"{CASES}: line {number}", f"case {name!r} occurs twice")
            self._offsets.setdefault(name, offset)

    def get(self, name: str) -> Case | None:
        """The record of a case; None when there is none."""
        if name not in self._offsets:
            return None
        self._used.add(name)
        with open_regular(self._path) as lines:
            lines.seek(self._offsets[name])
            return parse_record(self._path, lines.readline(), 0)

    @property
    def count(self) -> int:
        """Number of records."""
        return len(self._offsets)

    def unused(self) -> list[str]:
        """Ids of the records that were not asked for, sorted."""
        return sorted(self._offsets.keys() - self._used)

    def _lines(self, report: Report) -> Iterator[tuple[int, int, bytes]]:
        if not self.has_file:
            return
        try:
            with open_regular(self._path) as lines:
                offset = 0
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield offset, number, line
                    offset += len(line)
        except OSError as error:
            report.add(CASES, f"file cannot be read: {error.strerror or error}")


def _check_index(row: Row, seen: _SeenRows, where: str, report: Report) -> None:
    text = row.cells.get("index")
    if text is None:
        return
    if text in seen.indices:
        report.add(f"{where}: index", f"{shorten(text)} occurs twice")
    seen.indices.add(text)
    number = parse_whole_number(text)
    if (
        number is not None
        and seen.previous_index is not None
        and number not in (seen.previous_index, seen.previous_index + 1)
    ):
        report.add(f"{where}: index", f"{number} follows {seen.previous_index}")
    if not text:
        report.add(f"{where}: index", "is empty")
    seen.previous_index = number


def _check_row(
    directory: Path, row: Row, where: str, seen: _SeenRows, records: _Records, report: Report, deep: bool
) -> None:
    cells = row.cells
    try:
        paths = parse_image_paths(directory, cells.get("image_path", ""), where)
    except InputError as error:
        report.problems.append(problem_from_error(directory, where, error))
        return
    num_problems = len(report.problems)
    name = PurePosixPath(paths[-1]).parent.name
    where = f"{name} (line {row.line})"
    seen.folders.add(str(PurePosixPath(paths[-1]).parent))
    if name in seen.ids:
        report.add(where, "case has a second row")
    seen.ids.add(name)
    if "case_id" in cells and unquote_id(cells["case_id"]) != name:
        report.add(f"{where}: case_id", f"is {cells['case_id']!r}, the folder {name!r}")
    images = [check_image(directory, path, where, report) for path in paths]
    if cells.get("prompt") == "box":
        check_boxes([image for image in images if image], where, report)
    check_text(cells, where, report)
    check_second_images(directory, cells, paths, where, report)
    case = None
    try:
        case = case_from_row(directory, cells, where, None)
    except InputError as error:
        problem = problem_from_error(directory, where, error)
        if problem.what not in {p.what for p in report.problems[num_problems:]}:  # not reported for an image
            report.problems.append(problem)
    last = images[-1]
    if last:
        check_candidates(cells, last, where, report)
    record = records.get(name)
    if record is None and records.has_file:
        report.add(where, f"has no line in {CASES}")
    if record is not None and record.review.state == "rejected":
        report.add(where, "was rejected, but is in the table")
    if case is None:
        return
    check_query(case, where, report)
    if record is not None:
        check_record(case, record, cells, where, report)
        for field_name, what in find_conflicts(record):
            report.add(f"{where}: {field_name}", what)
    if deep and all(images):
        check_marks(directory, case, [image for image in images if image], where, report)


def _check_folders(directory: Path, seen: _SeenRows, report: Report) -> None:
    """Report folders that no row names."""
    if not (directory / FOLDER).is_dir():
        return
    for name in list_names(directory / FOLDER):
        if f"{FOLDER}/{name}" not in seen.folders:
            report.add(f"{FOLDER}/{name}", "no row of the table names this folder")
