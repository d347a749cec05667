"""The harness of evaluation runs, and says what it measured. How fast anything is, is not tested here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.colva.evaluation.worlds import original

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "eval.py"


@pytest.mark.slow
def test_it_prints_and_writes_one_json_object(tmp_path: Path) -> None:
    out = tmp_path / "results" / "eval.json"
    words = ["--bench", str(original(tmp_path, 40)), "--cases", "40", "--requests", "40", "--questions", "8"]
    path = os.pathsep.join((str(FILE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(
        [sys.executable, str(FILE), *words, "--out", str(out)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    result = json.loads(done.stdout)
    assert result == json.loads(out.read_text())
    assert (result["cases"], result["endpoint"]["requests"], result["local_batch"]["questions"]) == (40, 40, 8)
    for part in (result["random"]["build"], result["random"]["published_form"]):
        assert (part["limit"], part["limit_mb"]) == (20, 400)
        assert isinstance(part["within"], bool)
        assert part["cpu_seconds"] > 0
    assert 1 <= result["endpoint"]["mean_under_way"] <= result["endpoint"]["most_under_way"] <= 48
    assert result["local_batch"]["ratio"] > 0
