"""Changes to a finished benchmark: people's answers and edits become a new revision, the one before is kept.

``revisions/cases.0001.jsonl`` is the first state of cases.jsonl that was replaced, and so on; case folders and the tsv
follow the newest. A case that was rejected keeps its record and folder and leaves the tsv.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats.bench import CASES, TSV, draw_again
from mmvm_data.formats.bench_read import record
from mmvm_data.formats.tsv import write_tsv
from mmvm_data.io.files import atomic_write

REVISIONS = "revisions"


def revise(directory: str | Path, changed: Mapping[str, Case]) -> list[str]:
    """Replace cases of a benchmark by their ids.

    A folder is drawn anew where its marks changed. Everything is redone by a second call with the same changes, so a
    call that was killed is repeated, and nothing else.

    Args:
        directory: a benchmark with cases.jsonl.
        changed: id -> the new case; one that equals the case that is there changes nothing.

    Returns:
        ids of the cases that became different, in the order of the file. Without any, no file is touched.

    Raises:
        InputError: there is no cases.jsonl, a line of it is broken, an id of ``changed`` is not in it, or a new mask
            does not fit its image.
        OutputError: the folder cannot be written.
    """
    directory = Path(directory)
    path = directory / CASES
    found = {case.id: changed[case.id] != case for case in _cases(path) if case.id in changed}
    different = [name for name, differs in found.items() if differs]
    unknown = sorted(set(changed) - set(found))
    if unknown:
        raise InputError(path, f"there is no case {unknown[0]!r} to change", field="id")
    if not different:
        return []
    renewed = set(different)
    try:
        with atomic_write(path) as lines:
            table = directory / f".{TSV}.new"

            def written() -> Iterator[Case]:
                with open(path, "rb") as before:
                    for number, line in enumerate(before, start=1):
                        case = record(path, line, number)
                        if case.id in renewed:
                            now = changed[case.id]
                            if _marks(now) != _marks(case):
                                draw_again(now, directory)
                            line, case = now.model_dump_json().encode() + b"\n", now
                        lines.write(line.decode())
                        if case.review.state != "rejected":
                            yield case

            write_tsv(written(), table)
            _keep(path)
        table.replace(directory / TSV)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    return different


def _cases(path: Path) -> Iterator[Case]:
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield record(path, line, number)
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error


def _marks(case: Case) -> tuple[object, ...]:
    """What the drawn images and the JSON beside them show."""
    return case.query, case.candidates, case.prompt, case.frames


def _keep(path: Path) -> None:
    """Give the present cases.jsonl a second name among the revisions; replacing it then leaves that one."""
    folder = path.parent / REVISIONS
    folder.mkdir(exist_ok=True)
    number = 1 + max((int(p.name[6:10]) for p in folder.glob("cases.[0-9][0-9][0-9][0-9].jsonl")), default=0)
    os.link(path, folder / f"cases.{number:04d}.jsonl")
