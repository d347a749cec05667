from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def harness() -> Any:
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("bench_stage2", FOLDER / "stage2.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))


def test_opening_counts_the_records_that_were_written(harness: Any, tmp_path: Path) -> None:
    found = harness.measure_opening(tmp_path, 500)
    assert found["first"]["records"] == found["again"]["records"] == 500
    assert found["first"]["peak_mb"] >= found["first"]["before_mb"] > 0


def test_padding_packs_every_conversation(harness: Any) -> None:
    found = harness.measure_padding()
    assert found["conversations"] == 240_000 and 0 < found["share"] < 1 and found["rows"] < 240_000
