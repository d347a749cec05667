"""Memory of one long build: 20,000 cases of generated videos by one process; prints one JSON object.

The resident memory of the process is read twice a second until it ends. Its peak over the whole build may be at most
5 % above its peak over the first fifth of the cases.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from build import multiplied
from build_once import SOURCE
from common import emit, machine, read_resident_mb

from mmvm_data import synth
from mmvm_data.pipeline import build

CASES, VIDEOS, GROWTH_LIMIT = 20_000, 40, 1.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--child", nargs=3, metavar=("ROOT", "OUT", "CASES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        root, out, cases = arguments.child
        made = build.build(SOURCE, Path(root), Path(out), build.BuildOptions(max_cases=int(cases)))
        print(json.dumps({"cases": made.cases, "seconds": made.seconds}))
        return
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        emit(measure(Path(scratch), arguments.cases), arguments.out)


def measure(scratch: Path, cases: int) -> dict[str, Any]:
    """One build, watched."""
    facts = machine()
    videos = max(2, min(VIDEOS, cases // 30))
    options = synth.SynthOptions(videos=videos, frames=12, width=427, height=240, layout=SOURCE)
    few = synth.generate(scratch / "few", options)
    many = multiplied(few, scratch / "many", -(-cases // (3 * videos)))  # a video gives three or four
    command = [sys.executable, __file__, "--child", str(many), str(scratch / "out"), str(cases)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    seen: list[tuple[int, float]] = []
    while process.poll() is None:
        seen.append((_cases_so_far(scratch / "out"), read_resident_mb(process.pid)))
        time.sleep(0.5)
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    made = json.loads(printed)
    peaks = [max(resident for done, resident in seen if done <= cases * part / 5) for part in range(1, 6)]
    return {
        "machine": facts,
        "cases": made["cases"],
        "seconds": round(made["seconds"], 1),
        "peak_mb_by_fifths": [round(peak, 1) for peak in peaks],
        "growth": round(peaks[-1] / peaks[0], 4),
        "limit": GROWTH_LIMIT,
        "within": peaks[-1] <= GROWTH_LIMIT * peaks[0],
    }


def _cases_so_far(out: Path) -> int:
    """From the last whole line of the journal; 0 before there is one."""
    try:
        with open(out / ".build" / "journal.jsonl", "rb") as journal:
            journal.seek(max(0, os.fstat(journal.fileno()).st_size - 2000))
            lines = journal.read().splitlines()
    except OSError:
        return 0
    states = [json.loads(line)["state"]["cases"] for line in lines[1:-1] if b'"state"' in line]
    return states[-1] if states else 0


if __name__ == "__main__":
    main()
