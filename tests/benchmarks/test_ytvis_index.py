"""The harness of the YouTube-VIS index runs, and says what it measured. How fast anything is, is not tested here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "ytvis_index.py"


def test_it_prints_and_writes_one_json_object(tmp_path: Path) -> None:
    out = tmp_path / "results" / "index.json"
    command = [sys.executable, str(FILE), "--videos", "20", "--runs", "1", "--out", str(out)]
    path = os.pathsep.join((str(FILE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    result = json.loads(done.stdout)
    assert result == json.loads(out.read_text())
    assert (result["file"]["videos"], result["runs"]) == (20, 1)
    for part, limit in (("speed", 0.3), ("memory", 0.25), ("opened_again", 10.0)):
        assert result[part]["limit"] == limit
        assert isinstance(result[part]["within"], bool)
    assert 10 < result["memory"]["first_case_peak_mb"] < 500
    assert result["speed"]["first_case_seconds"] > 0
