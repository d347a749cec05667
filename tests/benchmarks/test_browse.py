"""The harness of browsing runs, and says what it measured. How fast anything is, is not tested here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "browse.py"


def test_it_prints_and_writes_one_json_object(tmp_path: Path) -> None:
    out = tmp_path / "results" / "browse.json"
    command = [sys.executable, str(FILE), "--cases", "60", "--out", str(out)]
    path = os.pathsep.join((str(FILE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    result = json.loads(done.stdout)
    assert result == json.loads(out.read_text())
    assert (result["cases"], result["first_load"]["limit"], result["memory"]["limit"]) == (60, 180, 600)
    assert isinstance(result["first_load"]["within"], bool)
    assert 50 < result["memory"]["imported_mb"] <= result["memory"]["peak_mb"]
