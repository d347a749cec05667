"""The harness of stage 1 runs, and both sides of it make the same tensors. How fast anything is, is not tested here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_prints_and_writes_one_json_object(tmp_path: Path) -> None:
    words = ["--images", "2", "--objects", "12", "--width", "400", "--height", "300", "--runs", "1", "--steps", "1"]
    words += ["--step", "0.01", "--no-memory", "--out", str(tmp_path / "out.json")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "stage1.py"), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "out.json").read_text())
    assert found["loading"]["ratio"] > 0
    # OpenCV's nearest and ours round differently at edges, nowhere else
    assert found["loading"]["cells_that_differ"] < 0.05
    assert 0 <= found["waiting"]["share"] <= 1
