from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.harnesses import load_harness


@pytest.fixture(scope="module")
def harness() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        yield load_harness("stage2", patch)


def test_opening_counts_the_records_that_were_written(harness: Any, tmp_path: Path) -> None:
    found = harness.measure_opening(tmp_path, 500)
    assert found["first"]["records"] == found["again"]["records"] == 500
    assert found["first"]["peak_mb"] >= found["first"]["before_mb"] > 0


def test_padding_packs_every_conversation(harness: Any) -> None:
    found = harness.measure_padding()
    assert found["conversations"] == 240_000 and 0 < found["share"] < 1 and found["rows"] < 240_000
