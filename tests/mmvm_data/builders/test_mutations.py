"""Every reader on corrupted files: 500 each, or MMVM_MUTATIONS; MMVM_MUTATIONS_RECORD names a file for the outcomes (as
JSON). Sources that share reader and layout with an earlier one get a fifth of them."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmvm_data.core import augment
from tests.mutation import corrupt_files
from tests.sets.every import IDS, LAYOUTS, SIBLINGS

COUNT = int(os.environ.get("MMVM_MUTATIONS", "500"))
MEMORY = Path("/dev/shm")
"""A folder in memory, for files that are rewritten many times."""


@pytest.fixture(scope="module")
def record() -> Iterator[dict[str, dict[str, float]]]:
    outcomes: dict[str, dict[str, float]] = {}
    yield outcomes
    if file := os.environ.get("MMVM_MUTATIONS_RECORD"):
        total = sum(int(sum(v for k, v in counts.items() if k != "seconds")) for counts in outcomes.values())
        report = {"files_each": COUNT, "files": total, "crashes": 0, "readers": outcomes}
        Path(file).write_text(json.dumps(report, indent=1) + "\n")


@pytest.mark.parametrize(("source", "layout"), LAYOUTS, ids=IDS)
def test_corrupted_files_are_reported_and_never_crash_a_reader(
    source: str, layout: str, monkeypatch: pytest.MonkeyPatch, record: dict[str, dict[str, float]]
) -> None:
    monkeypatch.setattr(augment, "SIZE", 48)  # the pixels of views do not matter here
    started, count = time.monotonic(), COUNT // 5 if source in SIBLINGS else COUNT
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        outcomes = corrupt_files(source, layout, Path(folder) / "set", count)
    record[IDS[LAYOUTS.index((source, layout))]] = {**outcomes, "seconds": round(time.monotonic() - started, 1)}
    assert sum(outcomes.values()) == count
    assert outcomes["whole"] < 0.9 * count, outcomes
