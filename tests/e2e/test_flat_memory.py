"""Commands keep a little of each case in memory, not the case: ten times the cases take hardly more."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from mmvm_data.annotation.rationale.generate import write_rationales
from mmvm_data.annotation.rationale.selection import RationaleOptions
from mmvm_data.audit import feature_rows, gradient_boosting
from mmvm_data.audit.case_measures import measure_case
from mmvm_data.audit.case_table import CaseTableBuilder
from mmvm_data.audit.inspected_case import InspectedCase
from mmvm_data.core import rle
from mmvm_data.core.compact import NameList
from mmvm_data.core.types import Case, Cue
from mmvm_data.formats import bench, sft
from mmvm_data.formats.revisions import revise
from mmvm_data.formats.set_operations import filter_set
from mmvm_data.io.transaction import open_transaction
from mmvm_data.recipes import balanced_subset
from mmvm_data.recipes.resistance import select_resistant
from tests.builds import make_case

FEW, MANY = 20, 200
BYTES_A_CASE = 3_200
"""A record is a line of 4 KB and 26 KB as an object. A new rationale takes 2.5 KB, the names of six files 2.1 KB."""

CHOICE_BYTES_A_CASE = 400
"""Two bytes for each of 60 answers and rules, one for each of 60 sums, 50 for facts and id; the rest is short-lived."""

Work = Callable[[Path, Path], object]


def write_cases(folder: Path, count: int) -> None:
    """A benchmark without images, and with an earlier revision of all records."""
    (folder / "revisions").mkdir(parents=True)
    lines = []
    for number in range(count):
        case = make_case(6 + 9 * (number % 5), id=f"case_{number:06d}")
        place = f"{bench.FOLDER}/{case.id}"
        frames = tuple(f.model_copy(update={"path": f"{place}/{f.path.rpartition('/')[2]}"}) for f in case.frames)
        cues = (Cue(type=1, score=0.9, evidence="its cap is red"),)
        changes = {"frames": frames, "cues": cues, "rationale": None, "review": {"state": "proposed"}}
        lines.append(Case.model_validate(case.model_dump() | changes).model_dump_json() + "\n")
        (folder / place).mkdir(parents=True)
    for name in (bench.CASES, "revisions/cases.0001.jsonl"):
        (folder / name).write_text("".join(lines), encoding="utf-8")


def revise_all(folder: Path, out: Path) -> None:
    ids = [case.id for case in bench.read(folder)]
    changed = revise(folder, dict.fromkeys(ids, lambda case: case.model_copy(update={"rationale": "a red cap"})))
    assert changed == ids


def explain_all(folder: Path, out: Path) -> None:
    assert write_rationales(folder, RationaleOptions()).changed


def replace_files(folder: Path, out: Path) -> None:
    """As an export that writes six files a case does."""
    out.mkdir()
    with open_transaction(out) as transaction:
        for case in bench.read(folder):
            for k in range(6):
                transaction.stage(f"{bench.FOLDER}/{case.id}/FRAME{k:02d}_ORI.jpg").write_bytes(b"")


@pytest.mark.parametrize(
    "work",
    [
        revise_all,
        explain_all,
        replace_files,
        lambda folder, out: filter_set(folder, out, "candidates > 1"),
        lambda folder, out: sft.write(bench.read(folder), out),
    ],
    ids=["revise", "rationale", "transaction", "filter", "sft"],
)
def test_ten_times_the_cases_take_hardly_more_memory(work: Work, tmp_path: Path) -> None:
    peaks = []
    for count in (FEW, FEW, MANY):  # the first fills caches
        folder = tmp_path / f"{len(peaks)}"
        write_cases(folder, count)
        rle.clear_cached_spans()  # bounded, but by more than these cases have
        gc.collect()
        tracemalloc.start()
        try:
            work(folder, tmp_path / f"{len(peaks)}-out")
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] - peaks[1] < BYTES_A_CASE * (MANY - FEW)


def choose_a_third(count: int) -> None:
    """As ``build --resist`` and recipes with ``resist`` choose, of cases whose measures are known."""
    measures = [measure_case(make_case(6 + k)) for k in range(5)]
    ids, answers = NameList(), CaseTableBuilder()
    for k in range(count):
        ids.append(f"case_{k:06d}")
        answers.add_inspected(InspectedCase(ids[k], "davis", f"video{k // 10}", measures[k % 5], (), b""))
    table = answers.build()
    tracemalloc.reset_peak()  # answering a batch of cases takes more than few cases do
    assert select_resistant(ids, table, count // 3, seed=0).chosen.sum() == count // 3


def test_a_choice_holds_numbers_of_each_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features lie in a file, and trees are fitted on a limited number of cases, which is left out here."""
    monkeypatch.setattr(feature_rows, "_MEMORY_BYTES", 1 << 14)
    monkeypatch.setattr(balanced_subset, "_BLOCK", 256)
    monkeypatch.setattr(gradient_boosting, "_is_installed", lambda: False)
    peaks = []
    for count in (300, 300, 3_000):
        gc.collect()
        tracemalloc.start()
        try:
            choose_a_third(count)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[2] - peaks[1] < CHOICE_BYTES_A_CASE * 2_700
