"""`mmvm-data merge` of five benchmarks of 2,000 cases over `cp -r` of the same folders; prints one JSON object.

Both sides are commands in processes of their own, in turns, on files that are in the page cache: the copy of the five
folders, the merge with hard links, and the merge where the file system cannot link, so that files are copied. The merge
reads every record, gives it a new id, and writes records, table, origins and rejects; `cp` does not.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from build import multiplied
from build_once import SOURCE
from common import emit, machine

from mmvm_data import synth
from mmvm_data.pipeline import build

PARTS, CASES, VIDEOS, RUNS, LIMIT = 5, 2_000, 40, 3, 0.7
_COMMAND = "from mmvm_data.cli import cli; cli()"
_WITHOUT_LINKS = "import os\ndef link(*args, **kwargs): raise OSError('no links')\nos.link = link\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--cases", type=int, default=CASES, help="of each benchmark")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--folder", type=Path, help="where the files are written; the system's temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-", dir=arguments.folder) as scratch:
        emit(measure(Path(scratch), arguments.cases, arguments.runs), arguments.out)


def measure(scratch: Path, cases: int, runs: int) -> dict[str, Any]:
    """Median wall-clock and processor seconds of the three commands."""
    facts = machine()
    sources = _make_benchmarks(scratch, cases)
    files = [path for source in sources for path in source.rglob("*") if path.is_file()]
    words = [*map(str, sources), "--fresh-ids", "--out"]
    commands = {
        "cp -r": ["cp", "-r", *map(str, sources)],
        "merge, hard links": [sys.executable, "-c", _COMMAND, "merge", *words],
        "merge, copies": [sys.executable, "-c", _WITHOUT_LINKS + _COMMAND, "merge", *words],
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            target = scratch / "target"
            if name == "cp -r":
                target.mkdir()
            times[name].append(_time_command([*command, str(target)]))
            shutil.rmtree(target)
    seconds = {name: statistics.median(wall for wall, _ in taken) for name, taken in times.items()}
    speeds = {name: seconds["cp -r"] / taken for name, taken in seconds.items() if name != "cp -r"}
    return {
        "machine": facts,
        "benchmarks": len(sources),
        "cases": cases * len(sources),
        "files": len(files),
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "runs": runs,
        "seconds": {name: round(taken, 3) for name, taken in seconds.items()},
        "processor_seconds": {
            name: round(statistics.median(cpu for _, cpu in taken), 3) for name, taken in times.items()
        },
        "speed_over_cp": {name: round(speed, 3) for name, speed in speeds.items()},
        "limit": LIMIT,
        "within": speeds["merge, hard links"] >= LIMIT,
    }


def _make_benchmarks(scratch: Path, cases: int) -> list[Path]:
    """Benchmarks of generated videos with equal cases, files of their own each; their ids clash, as those of builds."""
    videos = max(2, min(VIDEOS, cases // 30))
    options = synth.SynthOptions(videos=videos, frames=12, width=427, height=240, layout=SOURCE)
    few = synth.generate(scratch / "few", options)
    many = multiplied(few, scratch / "many", -(-cases // (3 * videos)))  # a video gives three or four
    sources = [scratch / f"part{k}" for k in range(PARTS)]
    made = build.build(SOURCE, many, sources[0], build.BuildOptions(max_cases=cases))
    if made.cases != cases:
        raise SystemExit(f"{made.cases} of {cases} cases came out")
    for source in sources[1:]:
        shutil.copytree(sources[0], source)
    return sources


def _time_command(command: list[str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of a command; ends the harness if it fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment)
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
