"""Changes a finished benchmark: answers and edits become a new revision, and the one before is kept.

``revisions/cases.0001.jsonl`` is the first state of cases.jsonl that was replaced, and so on; case folders and the tsv
follow the newest. A case that was rejected keeps its record and folder and leaves the tsv.

Everything that changes a benchmark does so under its lock, against the records as they are then, and in one step: after
a kill either the old or the new state stands in all files (see ``io.transaction``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats.bench import CASES, FOLDER, TSV, draw_case_files
from mmvm_data.formats.bench_read import parse_record, read_lines
from mmvm_data.formats.tsv import REVISIONS, write_tsv
from mmvm_data.io.files import read_regular
from mmvm_data.io.folder_lock import lock_folder
from mmvm_data.io.transaction import Transaction, open_transaction, recover

Edit = Callable[[Case], Case]
"""The record of a case as it is on disk -> the new one; the same or an equal one changes nothing.

It sets the fields that its command owns and keeps all others, since another command may have changed the record since
it was read."""

Files = Callable[[], Mapping[str, str | None]]
"""Returns name -> new text of further files of the folder; None for a file to remove."""


class Revision:
    """A benchmark that nobody else can change; see ``open_revision``.

    Attributes:
        directory: the benchmark.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(
        self, edits: Mapping[str, Case | Edit], files: Callable[[], Mapping[str, str | None]] = dict
    ) -> list[str]:
        """Change cases by their ids, and other files with them, in one step.

        A case is drawn again where its marks changed.

        Args:
            edits: id -> an edit, or the new case as a whole.
            files: called after the edits, for further files to change.

        Returns:
            Ids of the cases that changed, in the order of the file. Without any, and without texts, no file is
            written.

        Raises:
            InputError: there is no cases.jsonl, a line of it is broken, an id of ``edits`` is not in it, or a new mask
                does not fit its image.
            OutputError: the folder cannot be written.
        """
        try:
            with open_transaction(self.directory) as transaction:
                changed = self._stage_cases(edits, transaction) if edits else []
                for name, text in files().items():
                    if _read_text(self.directory / name) == text:
                        continue
                    if text is None:
                        transaction.remove(name)
                    else:
                        transaction.stage(name).write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise OutputError(error.filename or self.directory, error) from error
        return changed

    def _stage_cases(self, edits: Mapping[str, Case | Edit], transaction: Transaction) -> list[str]:
        """Apply the edits, one case in memory at a time, and return the ids of the cases that changed.

        Without any, nothing stays staged.
        """
        path = self.directory / CASES
        changed: list[str] = []
        unknown = set(edits)

        def write_each() -> Iterator[Case]:
            with open(transaction.stage(CASES), "wb") as lines:
                for number, line in read_lines(path):
                    case = parse_record(path, line, number)
                    if case.id in edits:
                        unknown.discard(case.id)
                        edit = edits[case.id]
                        new = edit if isinstance(edit, Case) else edit(case)
                        if new != case:
                            changed.append(case.id)
                            if _drawn_fields(new) != _drawn_fields(case):
                                self._stage_folder(new, transaction)
                            line, case = new.model_dump_json().encode() + b"\n", new
                    lines.write(line)
                    if case.review.state != "rejected":
                        yield case

        write_tsv(write_each(), transaction.stage(TSV))
        if unknown:
            raise InputError(path, f"there is no case {min(unknown)!r} to change", field="id")
        if not changed:
            transaction.discard(CASES)
            transaction.discard(TSV)
            return []
        earlier_copy = transaction.stage(f"{REVISIONS}/{_next_revision(self.directory)}")
        try:
            os.link(path, earlier_copy)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, earlier_copy)
        return changed

    def _stage_folder(self, case: Case, transaction: Transaction) -> None:
        """Stage the files of a case's folder that differ from those that are there."""
        folder = self.directory / FOLDER / case.id
        files = draw_case_files(case, self.directory)
        for name, data in files.items():
            target = folder / name
            if not target.is_file() or target.read_bytes() != data:
                transaction.stage(f"{FOLDER}/{case.id}/{name}").write_bytes(data)
        if folder.is_dir():
            kept = {*files, *(PurePosixPath(frame.path).name for frame in case.frames)}
            for name in sorted(set(os.listdir(folder)) - kept):
                if (folder / name).is_file():
                    transaction.remove(f"{FOLDER}/{case.id}/{name}")


@contextmanager
def open_revision(directory: str | Path, command: str) -> Iterator[Revision]:
    """Lock a benchmark, and complete or discard what a killed command has left.

    Hold it for as long as files are written, not while waiting for a server.

    Args:
        directory: a benchmark with cases.jsonl.
        command: name of this command, for those that wait for it.

    Raises:
        InputError: what a killed command has left is broken.
        UsageError: another process holds the lock and does not end.
        OutputError: the folder cannot be written.
    """
    directory = Path(directory)
    with lock_folder(directory, command):
        try:
            recover(directory)
        except OSError as error:
            raise OutputError(error.filename or directory, error) from error
        yield Revision(directory)


def revise(
    directory: str | Path, changed: Mapping[str, Case | Edit], command: str = "mmvm_data.formats.revisions"
) -> list[str]:
    """Change cases of a benchmark by their ids; see ``Revision.write``.

    Args:
        directory: a benchmark with cases.jsonl.
        changed: id -> an edit, or the new case as a whole.
        command: name of this command, for those that wait for it.

    Returns:
        Ids of the cases that changed, in the order of the file.

    Raises:
        InputError, UsageError, OutputError: as ``open_revision`` and ``Revision.write``.
    """
    with open_revision(directory, command) as revision:
        return revision.write(changed)


def _read_text(path: Path) -> str | None:
    try:
        return read_regular(path).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(path, f"file cannot be read: {error.strerror or error}") from error


def check_drawable(new: Case, current: Case, directory: Path) -> None:
    """Check that a revision can draw the images of a changed case.

    ``Revision.write`` writes all changes or none, so a case that it cannot draw is to be left out before.

    Raises:
        InputError: the images have to be drawn, and one is missing or damaged, or a mask does not fit it.
    """
    if _drawn_fields(new) != _drawn_fields(current):
        draw_case_files(new, directory)


def _drawn_fields(case: Case) -> tuple[object, ...]:
    """The fields that decide the drawn images and the JSON beside them."""
    return case.query, case.candidates, case.prompt, case.frames


def _next_revision(directory: Path) -> str:
    """Name of the file that keeps the current cases.jsonl."""
    numbers = (path.name[6:-6] for path in (directory / REVISIONS).glob("cases.*.jsonl"))
    return f"cases.{1 + max((int(number) for number in numbers if number.isdigit()), default=0):04d}.jsonl"
