"""Every reader on spoiled files: 500 each, or as many as MMVM_MUTATIONS says; MMVM_MUTATIONS_RECORD names a file for
the outcomes (as JSON). Sources that share a reader and a layout with one before them get a fifth."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmvm_data.core import augment
from tests.mutation import spoil
from tests.sets.every import IDS, LAYOUTS, SIBLINGS

COUNT = int(os.environ.get("MMVM_MUTATIONS", "500"))
MEMORY = Path("/dev/shm")
"""Where files that are written again and again cost no disk."""


@pytest.fixture(scope="module")
def record() -> Iterator[dict[str, dict[str, float]]]:
    found: dict[str, dict[str, float]] = {}
    yield found
    if file := os.environ.get("MMVM_MUTATIONS_RECORD"):
        total = sum(int(sum(v for k, v in one.items() if k != "seconds")) for one in found.values())
        whole = {"files_each": COUNT, "files": total, "crashes": 0, "readers": found}
        Path(file).write_text(json.dumps(whole, indent=1) + "\n")


@pytest.mark.parametrize(("source", "layout"), LAYOUTS, ids=IDS)
def test_spoiled_files_are_named_and_never_crash_a_reader(
    source: str, layout: str, monkeypatch: pytest.MonkeyPatch, record: dict[str, dict[str, float]]
) -> None:
    monkeypatch.setattr(augment, "SIZE", 48)  # what is drawn of a set that was read does not matter here
    started, count = time.monotonic(), COUNT // 5 if source in SIBLINGS else COUNT
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        outcomes = spoil(source, layout, Path(folder) / "set", count)
    record[IDS[LAYOUTS.index((source, layout))]] = {**outcomes, "seconds": round(time.monotonic() - started, 1)}
    assert sum(outcomes.values()) == count
    assert outcomes["whole"] < 0.9 * count, outcomes
