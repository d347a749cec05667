"""Match types that are proposed for the cases of a pool, where a recipe balances them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from mmvm_data.cases.cues import propose_cues
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES
from mmvm_data.formats.bench_read import CASES, parse_record
from mmvm_data.io import media, process_pool
from mmvm_data.io.files import open_regular

_BATCH_SIZE = 16  # cases that are sent to a worker together
Batch = list[tuple[int, bytes]]
"""Lines of records with their numbers."""


def propose_types(folder: Path, workers: int, progress: Callable[[int], None] | None) -> dict[str, tuple[str, ...]]:
    """The abbreviations of the match types that are proposed for each case, by its id, as ``cases.cues`` proposes them
    without the source.

    Args:
        folder: a benchmark with records.
        workers: processes.
        progress: called with the number of cases that are done.

    Raises:
        InputError: a case or an image cannot be read, or a worker process died.
    """
    types: dict[str, tuple[str, ...]] = {}
    results = process_pool.map_ordered(_iter_batches(folder / CASES), _open_folder, (folder,), _propose_batch, workers)
    for _, result in results:
        if isinstance(result, process_pool.WorkerDied):
            raise InputError(folder, f"match types of a batch of cases cannot be proposed: {result}")
        types.update(result)
        if progress:
            progress(len(types))
    return types


def _open_folder(folder: Path) -> Path:
    return folder


def _iter_batches(path: Path) -> Iterator[Batch]:
    with open_regular(path) as lines:
        numbered = enumerate(lines, 1)
        while batch := list(islice(numbered, _BATCH_SIZE)):
            yield batch


def _propose_batch(folder: Path, batch: Batch) -> list[tuple[str, tuple[str, ...]]]:
    proposed = []
    for number, line in batch:
        case = parse_record(folder / CASES, line, number)
        images = [media.read_frame_bgr(folder, frame) for frame in case.frames]
        try:
            cues = propose_cues(case, images)
        except ValueError as error:
            raise InputError(folder / CASES, str(error), case.id) from error
        proposed.append((case.id, tuple(sorted({MATCH_TYPES[cue.type][0] for cue in cues}))))
    return proposed
