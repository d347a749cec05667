"""Writes a benchmark from cases of finished ones: the files of a case are linked or copied, never drawn again.

A new benchmark holds, besides the table, the records and the case folders:

derived.json                  the operation, its options, and for each source its path, number of cases and build.json
origins.jsonl                 for each case its id, the number of its source (from 1) and its id there
rejects.jsonl                 of a merge: the rejects of all sources
revisions/source-01/…         earlier records and pulled annotations of the chosen cases, under their new ids
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from pydantic_core import to_json

from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.types import Case
from mmvm_data.core.version import __version__
from mmvm_data.formats.bench_read import CASES, read, read_ids, read_records, require_benchmark
from mmvm_data.formats.build_files import REJECTS, read_build
from mmvm_data.formats.tsv import FOLDER, REVISIONS, TSV, TableRecord, format_row, write_lines
from mmvm_data.io.files import open_regular, safe_parts
from mmvm_data.io.json_files import parse_json_object
from mmvm_data.io.staging import staging_folder

DERIVED: Final = "derived.json"
ORIGINS: Final = "origins.jsonl"
_HISTORY: Final = "annotation/history.jsonl"
_NO_FACTS: Final = b'"extra":{}},"extra":'
"""The end of a provenance without facts, and the key after it."""
_PLAIN_NAME: Final = re.compile(r"[ !#-\[\]-~]+")


@dataclass(frozen=True)
class SetPart:
    """What a new benchmark takes from one source.

    Attributes:
        source: folder of a benchmark with cases.jsonl.
        ids: id of each chosen case in the source -> its id in the new benchmark.
        label: stands for the source's path in derived.json, where the source is temporary.
        build: stands for its build.json there.
        facts: added to ``provenance.extra`` of each case.
        is_checked: whether a build of the same command has written the records, which are not checked once more.
    """

    source: Path
    ids: Mapping[str, str] = field(repr=False)
    label: str | None = None
    build: Mapping[str, Any] | None = field(default=None, repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_checked: bool = False


def read_set(source: Path, ids: Container[str] | None = None) -> Iterator[Case]:
    """The cases of a benchmark that set operations can use, rejected ones too.

    Args:
        source: the benchmark.
        ids: of the cases that are wanted; None: all.

    Raises:
        InputError: there is no cases.jsonl, or it is broken.
    """
    _require_records(source)
    return read(source, ids=ids)


def read_set_ids(source: Path) -> Iterator[str]:
    """The ids of the cases that ``read_set`` returns, without parsing most of them.

    Raises:
        InputError: there is no cases.jsonl, or it cannot be read.
    """
    _require_records(source)
    return read_ids(source)


def _require_records(source: Path) -> None:
    require_benchmark(source)
    if not (source / CASES).is_file():
        raise InputError(source, f"expected a benchmark with {CASES}; `mmvm-data import` makes one of a published set")


def write_sets(
    out: Path,
    parts_of: Mapping[str, Sequence[SetPart]],
    operation: str,
    options: Mapping[str, Any],
    keep_rejects: bool = False,
    progress: Callable[[int], None] | None = None,
    finish: Callable[[Path], None] | None = None,
) -> None:
    """Write new benchmarks into a folder. It appears in one step, when all of them are complete.

    Args:
        out: a folder that does not exist, or is empty.
        parts_of: name of each benchmark's folder in ``out``, "." for ``out`` itself -> what it takes from which source.
        operation, options: for derived.json.
        keep_rejects: whether the rejects of the sources are copied.
        progress: called with the number of cases written.
        finish: called with the folder before it gets its name, to write further files.

    Raises:
        UsageError: there is something at ``out``, or a source was changed meanwhile.
        InputError: a case's images lie outside its folder, or a file is missing.
        OutputError: a folder cannot be written.
    """
    sources = {part.source for parts in parts_of.values() for part in parts}
    before = {source: _file_states(source) for source in sources}
    done = 0
    try:
        with staging_folder(out) as staging_dir:
            for name, parts in parts_of.items():
                folder = staging_dir / name
                folder.mkdir(exist_ok=True)
                done += _write_set(folder, parts, done, progress)
                _write_notes(folder, parts, operation, options, keep_rejects)
            for source in sources:
                if _file_states(source) != before[source]:
                    raise UsageError(f"{source}: was changed while it was read; run the command again")
            if finish:
                finish(staging_dir)
    except OSError as error:
        raise OutputError(error.filename or out, error) from error


def _file_states(source: Path) -> list[tuple[int, int] | None]:
    paths = [source / TSV, source / CASES]
    return [(path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None for path in paths]


def _write_set(folder: Path, parts: Sequence[SetPart], done: int, progress: Callable[[int], None] | None) -> int:
    """Write records, table and case folders, and return the number of cases; one is in memory at a time."""
    written = 0

    def write_each(lines: IO[bytes], origins: IO[bytes]) -> Iterator[str]:
        nonlocal written
        for number, part in enumerate(parts, start=1):
            _require_records(part.source)
            for line, case in _read_part(part):
                name = part.ids[case.id]
                _check_images(case, part.source)
                _place_files(part.source, case.id, f"{folder}/{FOLDER}/{name}")
                lines.write(_rewrite_record(line, case, name, part) + b"\n")
                entry = {"id": name, "source": number, "former_id": case.id}
                origins.write(json.dumps(entry).encode() + b"\n")
                written += 1
                if progress:
                    progress(done + written)
                if case.review.state != "rejected":
                    yield format_row(case, name)

    (folder / FOLDER).mkdir()
    with open(folder / CASES, "wb") as lines, open(folder / ORIGINS, "wb") as origins:
        write_lines(write_each(lines, origins), folder / TSV)
    return written


def _read_part(part: SetPart) -> Iterator[tuple[bytes, Case | TableRecord]]:
    if part.is_checked:
        yield from read_records(part.source, part.ids, TableRecord)
    else:
        yield from read_records(part.source, part.ids, Case)


def _rewrite_record(line: bytes, case: Case | TableRecord, name: str, part: SetPart) -> bytes:
    """The record of a case in the new benchmark, without its end.

    In records that this package writes the text is changed; others are parsed and written again.
    """
    facts, origin = part.facts if case.provenance is not None else {}, case.provenance
    changed = line if name == case.id else _rename_in_text(line, case, name)
    if changed is not None and facts and origin is not None:
        changed = _add_facts_in_text(changed, facts) if origin.extra == {} else None
    if changed is not None:
        return changed
    parsed = case if isinstance(case, Case) else Case.model_validate_json(line)
    return _add_facts(_rename_case(parsed, name), facts).model_dump_json().encode()


def _rename_in_text(line: bytes, case: Case | TableRecord, name: str) -> bytes | None:
    """The record with another id where that stands at the start and in the paths of the images alone; else None."""
    start, prefix = f'{{"version":1,"id":"{case.id}"', f'"path":"{FOLDER}/{case.id}/'
    if (
        _is_plain_name(name)
        and _is_plain_name(case.id)
        and line.startswith(start.encode())
        and line.count(f'"id":"{case.id}"'.encode()) == 1
        and line.count(prefix.encode()) == len(case.frames)
    ):
        renamed = line.replace(start.encode(), f'{{"version":1,"id":"{name}"'.encode(), 1)
        return renamed.replace(prefix.encode(), f'"path":"{FOLDER}/{name}/'.encode())
    return None


def _add_facts_in_text(line: bytes, facts: Mapping[str, Any]) -> bytes | None:
    """The record of a provenance without facts with some; None where the text has several such places. Quotes in a text
    are escaped, so that only keys match."""
    if line.count(_NO_FACTS) != 1:
        return None
    return line.replace(_NO_FACTS, b'"extra":' + to_json(dict(facts)) + b'},"extra":')


def _is_plain_name(name: str) -> bool:
    """Whether JSON writes a name as it is: printable ASCII without escapes."""
    return bool(_PLAIN_NAME.fullmatch(name))


def _check_images(case: Case | TableRecord, source: Path) -> None:
    """Check that the images of a case lie in its folder.

    Raises:
        InputError: one does not.
    """
    prefix = f"{FOLDER}/{case.id}/"
    for frame in case.frames:
        path = frame["path"] if isinstance(frame, dict) else frame.path
        if not path.startswith(prefix):
            raise InputError(
                source / CASES,
                f"case {case.id!r} has the image {path!r} outside of {prefix}; "
                "`mmvm-data export --to bench` writes a benchmark with every image in its case folder",
            )


def _rename_case(case: Case, name: str) -> Case:
    """The case under another id, with the paths of its images in its new folder."""
    if name == case.id:
        return case
    prefix = f"{FOLDER}/{case.id}/"
    frames = tuple(
        frame.model_copy(update={"path": f"{FOLDER}/{name}/{frame.path.removeprefix(prefix)}"}) for frame in case.frames
    )
    return case.model_copy(update={"id": name, "frames": frames})


def _add_facts(case: Case, facts: Mapping[str, Any]) -> Case:
    if not facts or case.provenance is None:
        return case
    provenance = case.provenance.model_copy(update={"extra": {**case.provenance.extra, **facts}})
    return case.model_copy(update={"provenance": provenance})


def _place_files(source: Path, name: str, target: str) -> None:
    """Link the files of a case folder into a new one, or copy them where the file system cannot link."""
    safe_parts(name, source / CASES)
    folder = f"{source}/{FOLDER}/{name}"
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(source / CASES, f"the folder {FOLDER}/{name} is missing") from None
    os.mkdir(target)
    with entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_file():
                continue
            path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            try:
                # commands replace files of a benchmark and never write into them, so links may be shared
                os.link(path, f"{target}/{entry.name}")
            except OSError:
                shutil.copyfile(path, f"{target}/{entry.name}")


def _write_notes(
    folder: Path, parts: Sequence[SetPart], operation: str, options: Mapping[str, Any], keep_rejects: bool
) -> None:
    sources = []
    for number, part in enumerate(parts, start=1):
        sources.append(
            {
                "path": part.label or str(part.source),
                "cases": len(part.ids),
                "build": read_build(part.source) if part.build is None else dict(part.build),
            }
        )
        kept = folder / REVISIONS / f"source-{number:02d}"
        for name in _history_files(part.source):
            _copy_history(part, name, kept / name.removeprefix(f"{REVISIONS}/"))
        if keep_rejects and (part.source / REJECTS).is_file():
            with open_regular(part.source / REJECTS) as earlier, open(folder / REJECTS, "ab") as rejects:
                shutil.copyfileobj(earlier, rejects)
    record = {"operation": operation, "options": dict(options), "version": __version__, "sources": sources}
    (folder / DERIVED).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _history_files(source: Path) -> list[str]:
    """Files of a benchmark with earlier records and annotations of its cases."""
    names = [name for name in (_HISTORY, ORIGINS) if (source / name).is_file()]
    found = sorted((source / REVISIONS).rglob("*.jsonl"))
    return names + [path.relative_to(source).as_posix() for path in found if path.is_file()]


def _copy_history(part: SetPart, name: str, target: Path) -> None:
    """Copy the lines that are about chosen cases, under their new ids; without any no file is written."""
    lines = _select_history(part, name)
    first = next(lines, None)
    if first is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as kept:
            kept.write(first)
            kept.writelines(lines)


def _select_history(part: SetPart, name: str) -> Iterator[bytes]:
    """Yield the lines that ``_copy_history`` copies."""
    path = part.source / name
    with open_regular(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            record = parse_json_object(line, path, f"line {number}")
            key = "case" if "case" in record else "id"
            former = record.get(key)
            if isinstance(former, str) and former in part.ids:
                if part.ids[former] != former:
                    record[key] = part.ids[former]
                    line = json.dumps(record).encode() + b"\n"
                yield line
