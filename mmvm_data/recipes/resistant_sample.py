"""Writes a benchmark of those cases of a pool that blind baselines answer no better than chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmvm_data.audit.case_table import CaseTable, CaseTableBuilder
from mmvm_data.core.compact import NameList
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import OptionError
from mmvm_data.formats.bench import CASES
from mmvm_data.formats.set_files import SetPart, write_sets
from mmvm_data.recipes.inspected_pool import inspect_pool
from mmvm_data.recipes.resistance import select_resistant
from mmvm_data.recipes.selection_scores import Selection


def sample_resistant(
    source: str | Path,
    out: str | Path,
    n: int,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
    label: str | None = None,
    keep_rejects: bool = False,
    is_checked: bool = False,
) -> Selection:
    """Write ``n`` cases of a benchmark, chosen by ``select_resistant``; derived.json has the scores before and after.

    Args:
        source: the pool, a benchmark with cases.jsonl. Its rejected cases are not chosen.
        out: a new folder.
        n: number of cases, best a third of the pool or less.
        seed: decides, with the cases of the pool alone, which are chosen.
        workers: processes that read images.
        progress: called with the number of cases that were read or written.
        label: stands for the pool's path in derived.json.
        keep_rejects: whether the pool's rejects are copied.
        is_checked: see ``SetPart``.

    Raises:
        OptionError: fewer than ``n`` cases.
        InputError: the pool, or one of its images, cannot be read.
        UsageError: ``out`` exists.
        OutputError: the folder cannot be written.
    """
    source = Path(source)
    ids, cases = _measure_pool(source, workers, progress)
    if not 1 <= n <= len(cases):
        raise OptionError("n", f"must be in 1..{len(cases)}, the number of cases of {source}, got {n}")
    selection = select_resistant(ids, cases, n, seed)
    chosen = {name: name for name, is_chosen in zip(ids, selection.chosen, strict=True) if is_chosen}
    options = {"n": n, "resist": selection.to_json(), "seed": seed}
    part = SetPart(source, chosen, label, is_checked=is_checked)
    write_sets(Path(out), {".": [part]}, "sample", options, keep_rejects, progress)
    return selection


def _measure_pool(source: Path, workers: int, progress: Callable[[int], None] | None) -> tuple[NameList, CaseTable]:
    """The ids of the cases, and what baselines answer to them."""
    ids, cases = NameList(), CaseTableBuilder()
    for case in inspect_pool(source, workers, progress):
        ids.append(case.id)
        cases.add_inspected(case)
    if repeated := ids.count_repeats():
        raise InputError(source / CASES, f"{repeated} case ids repeat", field="id")
    return ids, cases.build()
