"""How many tokens each record has, measured once and kept.

Measured with the benchmark's question; what another wording adds is a number of the wording, not of the record. The
table is written in parts, so that a measurement that was killed goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from colva.data.main_process import by_one, in_workers
from colva.data.mixture import Opened, measure
from colva.data.prompt_variants import FORMS
from colva.processing.collator import Processor
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.io.files import atomic_write

BAD: Final = -1
_PART: Final = 16384
_TASK: Final = 64
_FORMAT: Final = 1


@dataclass(frozen=True)
class Lengths:
    """Of one source: `tokens` int32 `[n]` (BAD for a record that cannot be used) and `forms` `[n]`, places in FORMS."""

    tokens: NDArray[np.int32]
    forms: NDArray[np.int32]


def lengths_of(opened: Opened, processor: Processor, objects: bool, cache: Path, workers: int) -> Lengths:
    """The table of a source, measured if it is not in the cache.

    Args:
        opened: the source.
        processor: decides the tokens.
        objects: cases name their objects.
        cache: folder.
        workers: processes that measure; 0 measures here.

    Raises:
        OutputError: the cache cannot be written to.
    """
    name = _name(opened, processor, objects)
    file = cache / f"{name}.npy"
    try:
        by_one(
            lambda: _read(file, len(opened)) is not None, lambda: _measure(opened, processor, objects, file, workers)
        )
    except OSError as error:
        raise OutputError(cache, error) from error
    found = _read(file, len(opened))
    if found is None:
        raise InputError(file, "damaged; delete it to have it made again")
    return Lengths(found[:, 0], found[:, 1])


def _name(opened: Opened, processor: Processor, objects: bool) -> str:
    """Of everything that decides the table."""
    words = processor.vocabulary.tokenizer.backend_tokenizer.to_str()
    said = [
        str(_FORMAT),
        opened.records.stamp,
        opened.source.kind,
        str(None if opened.root is None else opened.root.absolute()),
        words,
        repr(processor.vocabulary.wrap),
        repr(processor.template),
        repr(processor.image_processor),
        processor.prompt_style,
        str(objects),
    ]
    digest = hashlib.blake2b("\0".join(said).encode("utf-8", "surrogateescape"), digest_size=12)
    return f"lengths-{digest.hexdigest()}"


def _measure(opened: Opened, processor: Processor, objects: bool, file: Path, workers: int) -> None:
    count = len(opened)
    file.parent.mkdir(parents=True, exist_ok=True)
    parts = [file.with_name(f"{file.stem}.part-{k:05d}.npy") for k in range(-(-count // _PART))]
    sizes = [min(_PART, count - k * _PART) for k in range(len(parts))]
    left = [k for k, part in enumerate(parts) if _read(part, sizes[k]) is None]
    task = _Measuring(opened, processor, objects)
    for k, rows in zip(left, _tables(task, left, sizes, workers), strict=True):
        _write(parts[k], rows)
    tables = [_read(part, size) for part, size in zip(parts, sizes, strict=True)]
    _write(file, np.concatenate([table for table in tables if table is not None]))
    for part in parts:
        part.unlink(missing_ok=True)


def _tables(task: _Measuring, left: list[int], sizes: list[int], workers: int) -> Iterator[NDArray[np.int32]]:
    """The table of each part that is left, in order; processes are started once for all of them."""
    starts = [k * _PART + at for k in left for at in range(0, sizes[k], _TASK)]
    rows = in_workers(task, starts, workers)
    for k in left:
        yield np.concatenate([next(rows) for _ in range(0, sizes[k], _TASK)])


@dataclass(frozen=True)
class _Measuring:
    opened: Opened
    processor: Processor
    objects: bool

    def __call__(self, start: int) -> NDArray[np.int32]:
        stop = min(start + _TASK, len(self.opened), (start // _PART + 1) * _PART)
        rows = np.full((stop - start, 2), BAD, np.int32)
        for row, number in enumerate(range(start, stop)):
            try:
                tokens, form = measure(self.opened, number, self.processor, self.objects)
            except (InputError, ValueError):  # why is said when the record comes up
                continue
            rows[row] = tokens, FORMS.index(form)
        return rows


def _read(file: Path, count: int) -> NDArray[np.int32] | None:
    try:
        found: NDArray[np.int32] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.int32 and found.shape == (count, 2) else None


def _write(file: Path, table: NDArray[np.int32]) -> None:
    with atomic_write(file, "wb") as handle:
        np.save(handle, table, allow_pickle=False)
