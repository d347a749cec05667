"""The harness of reviewing runs, and says what it measured. How fast anything is, is not tested here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "review.py"


@pytest.mark.slow
@pytest.mark.xdist_group("label-studio")
def test_it_prints_and_writes_one_json_object(tmp_path: Path) -> None:
    out = tmp_path / "results" / "review.json"
    command = [sys.executable, str(FILE), "--cases", "12", "--out", str(out)]
    path = os.pathsep.join((str(FILE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    result = json.loads(done.stdout)
    assert result == json.loads(out.read_text())
    assert (result["cases"], result["push"]["limit"], result["pull"]["limit"]) == (12, 300, 120)
    assert isinstance(result["pull"]["within"], bool)
    assert 20 < result["push"]["peak_mb"] < 500
