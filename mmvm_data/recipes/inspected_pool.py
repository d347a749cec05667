"""Inspects the cases of a pool from which some are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mmvm_data.audit.case_inspector import inspect_cases
from mmvm_data.audit.inspected_case import InspectedCase
from mmvm_data.audit.results import AuditOptions
from mmvm_data.core.errors import InputError
from mmvm_data.core.plurals import pluralize
from mmvm_data.formats.bench import CASES
from mmvm_data.formats.bench_read import Problem
from mmvm_data.formats.set_files import read_set


def inspect_pool(
    folder: Path,
    workers: int,
    progress: Callable[[int], None] | None,
    with_baselines: bool = True,
    with_hashes: bool = False,
) -> Iterator[InspectedCase]:
    """Inspect every case that is not rejected; one is in memory at a time.

    Args:
        folder: a benchmark with cases.jsonl.
        workers: processes that read images.
        progress: called with the number of cases that were inspected.
        with_baselines: whether the cases get measures.
        with_hashes: whether their frames are hashed.

    Raises:
        InputError: the benchmark is none; at the end, that cases or their images cannot be read.
    """
    next(iter(read_set(folder)), None)  # a set without records is refused before images are read
    problems: list[Problem] = []
    for case in inspect_cases(folder, AuditOptions(workers=workers), problems, with_baselines, progress, with_hashes):
        problems += case.problems
        yield case
    if problems:
        where, what = problems[0]
        raise InputError(
            folder / CASES,
            f"{pluralize(len(problems), 'case')} cannot be read; `mmvm-data validate` lists them: {what}",
            where,
        )
