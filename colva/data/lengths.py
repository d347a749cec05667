"""The number of tokens of each record, measured once and cached.

Lengths are measured with the benchmark's question; what another wording adds depends on the wording alone. The table
is written in parts, so that an interrupted measurement resumes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from colva.data.main_process import main_process_first, map_in_workers
from colva.data.prompt_variants import RECORD_FORMS
from colva.data.record_reader import RecordReader, measure_record
from colva.processing.collator import Processor
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.io.files import atomic_write

UNUSABLE: Final = -1
"""In place of a length: the record cannot be used."""
_RECORDS_PER_PART: Final = 16384
_RECORDS_PER_TASK: Final = 64
_FORMAT: Final = 2


@dataclass(frozen=True)
class RecordLengths:
    """Lengths of one source's records.

    Attributes:
        tokens: int32 `[n]`, or UNUSABLE.
        forms: int32 `[n]`, indices into RECORD_FORMS.
    """

    tokens: NDArray[np.int32]
    forms: NDArray[np.int32]


def load_lengths(
    reader: RecordReader,
    processor: Processor,
    object_tokens: bool,
    cache_dir: Path,
    num_workers: int,
    scratch_dir: Path | None = None,
) -> RecordLengths:
    """The lengths of a source's records, measured if they are not cached.

    Args:
        reader: the source.
        processor: decides the tokens.
        object_tokens: cases name their objects by tokens.
        cache_dir: folder for the table.
        num_workers: processes that measure; 0 measures in this process.
        scratch_dir: folder for a table that is measured, in place of the cache.

    Raises:
        InputError: the cached table is damaged.
        OutputError: the cache cannot be written to.
    """
    file = cache_dir / f"{_table_name(reader, processor, object_tokens)}.npy"
    if scratch_dir is not None and _read_table(file, len(reader)) is None:
        file = scratch_dir / file.name
    try:
        main_process_first(
            lambda: _read_table(file, len(reader)) is not None,
            lambda: _measure_source(reader, processor, object_tokens, file, num_workers),
        )
    except OSError as error:
        raise OutputError(cache_dir, error) from error
    table = _read_table(file, len(reader))
    if table is None:
        raise InputError(file, "damaged; delete it to have it built again")
    return RecordLengths(table[:, 0], table[:, 1])


def _table_name(reader: RecordReader, processor: Processor, object_tokens: bool) -> str:
    """A name that hashes everything that determines the table."""
    parts = [
        str(_FORMAT),
        reader.records.stamp,
        reader.source.kind,
        str(None if reader.root is None else reader.root.absolute()),
        processor.vocabulary.tokenizer.backend_tokenizer.to_str(),
        repr(processor.vocabulary.image_wrap),
        repr(processor.template),
        repr(processor.image_processor),
        processor.prompt_style,
        str(object_tokens),
    ]
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=12)
    return f"lengths-{digest.hexdigest()}"


def _measure_source(
    reader: RecordReader, processor: Processor, object_tokens: bool, file: Path, num_workers: int
) -> None:
    count = len(reader)
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = [file.with_name(f"{file.stem}.part-{k:05d}.npy") for k in range(-(-count // _RECORDS_PER_PART))]
    sizes = [min(_RECORDS_PER_PART, count - k * _RECORDS_PER_PART) for k in range(len(parts))]
    remaining = [k for k, part in enumerate(parts) if _read_table(part, sizes[k]) is None]
    task = _MeasureTask(reader, processor, object_tokens)
    for k, rows in zip(remaining, _measure_parts(task, remaining, sizes, num_workers), strict=True):
        _write_table(parts[k], rows)
    tables = [_read_table(part, size) for part, size in zip(parts, sizes, strict=True)]
    _write_table(file, np.concatenate([table for table in tables if table is not None]))
    for part in parts:
        part.unlink(missing_ok=True)


def _measure_parts(
    task: _MeasureTask, remaining: list[int], sizes: list[int], num_workers: int
) -> Iterator[NDArray[np.int32]]:
    """The table of each remaining part, in order; worker processes are started once for all of them."""
    starts = [k * _RECORDS_PER_PART + offset for k in remaining for offset in range(0, sizes[k], _RECORDS_PER_TASK)]
    rows = map_in_workers(task, starts, num_workers)
    for k in remaining:
        yield np.concatenate([next(rows) for _ in range(0, sizes[k], _RECORDS_PER_TASK)])


@dataclass(frozen=True)
class _MeasureTask:
    """Measures the records from a number on, to the end of a task: int32 `[n, 2]`, tokens and form."""

    reader: RecordReader
    processor: Processor
    object_tokens: bool

    def __call__(self, start: int) -> NDArray[np.int32]:
        stop = min(start + _RECORDS_PER_TASK, len(self.reader), (start // _RECORDS_PER_PART + 1) * _RECORDS_PER_PART)
        rows = np.full((stop - start, 2), UNUSABLE, np.int32)
        for row, number in enumerate(range(start, stop)):
            try:
                tokens, form = measure_record(self.reader, number, self.processor, self.object_tokens)
            except (InputError, ValueError):  # the reason is reported when training reaches the record
                continue
            rows[row] = tokens, RECORD_FORMS.index(form)
        return rows


def _read_table(file: Path, count: int) -> NDArray[np.int32] | None:
    """A table of so many rows; None when the file is missing or does not fit."""
    try:
        table: NDArray[np.int32] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return table if table.dtype == np.int32 and table.shape == (count, 2) else None


def _write_table(file: Path, table: NDArray[np.int32]) -> None:
    with atomic_write(file, "wb") as handle:
        np.save(handle, table, allow_pickle=False)
