"""The simulation of large builds runs, and the page about them says what the records hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.benchmarks.harnesses import FOLDER, load_harness

RECORDS = {
    "build.json": {
        "one_process": {"480p": {"ms_a_case": {"build_cpu": 9.0}}, "1080p": {"ms_a_case": {"build_cpu": 27.0}}},
        "two_workers": {"disk": {"speedup": 1.8}, "memory": {"speedup": 1.9}},
        "memory": {"one_process": {"peak_mb_10x": 87.6}},
    },
    "ray_engine.json": {"speedup": 1.7},
    "scale.json": {
        "rejects": {"videos": 1_000_000, "cpu_seconds": 200.0, "resident_mb_by_fifths": [250.0, 300.0]},
        "cases": {"videos": 200_000, "cpu_seconds": 60.0, "resident_mb_by_fifths": [100.0, 100.0]},
        "bytes_a_case": {
            "480p": {"files": 300_000, "record": 5_000, "row": 1_600},
            "1080p": {"files": 1_000_000, "record": 12_000, "row": 1_600},
        },
    },
}


@pytest.fixture(scope="module")
def harness() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        yield load_harness("scale_page", patch)


def test_tables_are_those_of_the_records(harness: ModuleType, tmp_path: Path) -> None:
    for name, record in RECORDS.items():
        (tmp_path / name).write_text(json.dumps(record))
    page = tmp_path / "scale.md"
    page.write_text((FOLDER.parent / "docs/scale.md").read_text(encoding="utf-8"), encoding="utf-8")
    harness.write_tables(page, tmp_path)
    text = page.read_text(encoding="utf-8")
    for row in (
        "| a case from frames of 1920 x 1080 | 27.0 ms | `benchmarks/results/build.json` |",
        "| gain of a second process | 1.80 on disk, 1.90 in memory | `benchmarks/results/build.json` |",
        "| the same: a video without a case | 0.20 ms | `benchmarks/results/scale.json` |",
        "| workers, added up | 90 s | 33 min | 25.0 h |",
        "| one machine, 16 processes at 0.90 each | 6 s | 2 min | 1.7 h |",
        "| images and their JSON files | 3.0 GB | 66 GB | 3.0 TB |",
        "| objects on object storage, six files a case | 60,000 | 1,320,000 | 60,000,000 |",
        "| workers that one committing process keeps busy: 854 x 480, 1920 x 1080 | 30, 90 |",
        "| memory of the list of videos: one video, a hundred million | 262 bytes, 26 GB |",
    ):
        assert row in text.splitlines()
    harness.write_tables(page, tmp_path)
    assert page.read_text(encoding="utf-8") == text
    page.write_text("# How far\n")
    with pytest.raises(SystemExit, match="expected <!-- units of records -->"):
        harness.write_tables(page, tmp_path)


def test_a_simulated_build_has_a_record_and_a_row_for_each_video(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "scale.py"), "--child", "20", "1", "2"]
    path = os.pathsep.join((str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    record = json.loads(done.stdout)
    assert (record["videos"], record["workers"]) == (20, 2)
    assert len(record["cpu_us_a_video_by_fifths"]) == len(record["resident_mb_by_fifths"]) == 5
    assert 1500 < record["bytes_a_video_in_files"] < 2500
