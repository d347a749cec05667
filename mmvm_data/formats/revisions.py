"""Changes a finished benchmark: answers and edits become a new revision, and the one before is kept.

``revisions/cases.0001.jsonl`` is the first state of cases.jsonl that was replaced, and so on; case folders and the tsv
follow the newest. A case that was rejected keeps its record and folder and leaves the tsv.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats.bench import CASES, TSV, redraw_case
from mmvm_data.formats.bench_read import parse_record
from mmvm_data.formats.tsv import write_tsv
from mmvm_data.io.files import atomic_write

REVISIONS = "revisions"


def revise(directory: str | Path, changed: Mapping[str, Case]) -> list[str]:
    """Replace cases of a benchmark by their ids.

    A case is drawn again where its marks changed. A second call with the same changes redoes everything, so a call that
    was killed is simply repeated.

    Args:
        directory: a benchmark with cases.jsonl.
        changed: id -> the new case; one that equals the case that is there changes nothing.

    Returns:
        Ids of the cases that changed, in the order of the file. Without any, no file is written.

    Raises:
        InputError: there is no cases.jsonl, a line of it is broken, an id of ``changed`` is not in it, or a new mask
            does not fit its image.
        OutputError: the folder cannot be written.
    """
    directory = Path(directory)
    path = directory / CASES
    differs = {case.id: changed[case.id] != case for case in _read_cases(path) if case.id in changed}
    changed_ids = [case_id for case_id, is_different in differs.items() if is_different]
    unknown = sorted(set(changed) - set(differs))
    if unknown:
        raise InputError(path, f"there is no case {unknown[0]!r} to change", field="id")
    if not changed_ids:
        return []
    to_replace = set(changed_ids)
    try:
        with atomic_write(path) as lines:
            table = directory / f".{TSV}.new"

            def write_each() -> Iterator[Case]:
                with open(path, "rb") as earlier:
                    for number, line in enumerate(earlier, start=1):
                        case = parse_record(path, line, number)
                        if case.id in to_replace:
                            new = changed[case.id]
                            if _drawn_fields(new) != _drawn_fields(case):
                                redraw_case(new, directory)
                            line, case = new.model_dump_json().encode() + b"\n", new
                        lines.write(line.decode())
                        if case.review.state != "rejected":
                            yield case

            write_tsv(write_each(), table)
            _keep_revision(path)
        table.replace(directory / TSV)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    return changed_ids


def _read_cases(path: Path) -> Iterator[Case]:
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield parse_record(path, line, number)
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error


def _drawn_fields(case: Case) -> tuple[object, ...]:
    """The fields that decide the drawn images and the JSON beside them."""
    return case.query, case.candidates, case.prompt, case.frames


def _keep_revision(path: Path) -> None:
    """Link the current cases.jsonl under a second name among the revisions, where it stays when it is replaced."""
    folder = path.parent / REVISIONS
    folder.mkdir(exist_ok=True)
    number = 1 + max((int(p.name[6:10]) for p in folder.glob("cases.[0-9][0-9][0-9][0-9].jsonl")), default=0)
    os.link(path, folder / f"cases.{number:04d}.jsonl")
