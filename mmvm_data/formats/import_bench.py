"""A benchmark in the published layout gets records, so that reviews, tags and edits can be written into it.

``cases.jsonl`` is written from the table and the case folders, which stay as they are. ``import.json`` says what it was
made from, and ``revisions/imported.tsv`` keeps the table: later revisions write it again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.core.version import __version__
from mmvm_data.formats.bench import CASES, FOLDER, TSV
from mmvm_data.formats.bench_read import Problem, read, require_benchmark
from mmvm_data.formats.revisions import open_revision
from mmvm_data.formats.tsv import REVISIONS
from mmvm_data.io.files import read_regular
from mmvm_data.io.transaction import open_transaction

IMPORT: Final = "import.json"
IMPORTED_TABLE: Final = f"{REVISIONS}/imported.tsv"


@dataclass
class ImportResult:
    """What an import did.

    Attributes:
        is_new: whether cases.jsonl was written now; the rest is empty when it was there.
        cases: how many records were written.
        problems: cases and parts of cases that could not be read.
    """

    is_new: bool = False
    cases: int = 0
    problems: list[Problem] = field(default_factory=list)


def import_benchmark(directory: str | Path, command: str = "mmvm-data import") -> ImportResult:
    """Write cases.jsonl for a benchmark that has none; one that has it is left as it is.

    Rows that cannot be read get no record. The table keeps them until the first revision, and the copy for ever.

    Args:
        directory: a folder with the published table and case folders.
        command: name of this command, for those that wait for it.

    Raises:
        InputError: the table cannot be read, no case can, two cases share a folder, or images lie elsewhere than in
            the folder of their case.
        UsageError: another process holds the lock of the folder and does not end.
        OutputError: the folder cannot be written.
    """
    directory = Path(directory)
    if (directory / CASES).is_file():
        return ImportResult()
    require_benchmark(directory)
    result = ImportResult(is_new=True)
    with open_revision(directory, command):
        if (directory / CASES).is_file():  # another command was faster
            return ImportResult()
        seen: set[str] = set()
        try:
            table = read_regular(directory / TSV)
        except OSError as error:
            raise InputError(directory / TSV, f"file cannot be read: {error.strerror or error}") from error
        try:
            with open_transaction(directory) as transaction:
                with open(transaction.stage(CASES), "wb") as lines:
                    for case in read(directory, result.problems):
                        _check_place(directory, case, seen)
                        seen.add(case.id)
                        lines.write(case.model_dump_json().encode() + b"\n")
                if not seen:
                    raise InputError(directory / TSV, "no case of it can be read; `mmvm-data validate` lists why")
                result.cases = len(seen)
                transaction.stage(IMPORTED_TABLE).write_bytes(table)
                record = {
                    "version": 1,
                    "mmvm_data": __version__,
                    "table": TSV,
                    "sha256": hashlib.sha256(table).hexdigest(),
                    "cases": result.cases,
                    "problems": [[problem.where, problem.what] for problem in result.problems],
                }
                transaction.stage(IMPORT).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(error.filename or directory, error) from error
    return result


def _check_place(directory: Path, case: Case, seen: set[str]) -> None:
    """Check that a case has a folder of its own, in which a revision can draw it again."""
    if case.id in seen:
        raise InputError(directory / TSV, f"two cases share the folder {case.id!r:.60}", field="image_path")
    for frame in case.frames:
        if PurePosixPath(frame.path).parent != PurePosixPath(FOLDER, case.id):
            raise InputError(
                directory / TSV, f"expected images in {FOLDER}/{case.id}, found {frame.path!r:.100}", field="image_path"
            )
