"""Speed and memory of ``mmvm-data browse`` on 5,000 cases; prints one JSON object.

1. First load into an empty database; at most 180 s.
2. The same again, nothing changed: seconds.
3. Peak resident memory of the loading process, mongod not counted, for all cases and for a tenth of them; at most
   600 MB (importing FiftyOne takes about half of that).

Cases are generated: masks of 80 x 45 images that cases share, two to eight candidates. Each load is a process of its
own with a bundled mongod; the time is that of the load, without the start of Python and of the database.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import emit, machine, peak_mb

ROOT = Path(__file__).resolve().parents[1]
SECONDS_LIMIT, MEMORY_LIMIT_MB = 180.0, 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--child", nargs=2, metavar=("BENCHMARK", "DATABASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure_load(*map(Path, arguments.child))))
        return
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        emit(measure(Path(scratch), arguments.cases), arguments.out)


def measure(scratch: Path, cases: int) -> dict[str, Any]:
    """Return all results, with the limits beside the values."""
    facts = machine()
    few = run_child(generate_benchmark(scratch / "few", cases // 10), scratch / "database-few")
    many = generate_benchmark(scratch / "many", cases)
    first = run_child(many, scratch / "database")
    again = run_child(many, scratch / "database")
    assert (first["added"], again["unchanged"]) == (cases, cases)
    return {
        "machine": facts,
        "cases": cases,
        "first_load": {
            "seconds": round(first["seconds"], 2),
            "cases_a_second": round(cases / first["seconds"], 1),
            "limit": SECONDS_LIMIT,
            "within": first["seconds"] <= SECONDS_LIMIT,
        },
        "again": {"seconds": round(again["seconds"], 2)},
        "memory": {
            "imported_mb": round(first["imported_mb"], 1),
            "peak_mb_tenth": round(few["peak_mb"], 1),
            "peak_mb": round(first["peak_mb"], 1),
            "limit": MEMORY_LIMIT_MB,
            "within": first["peak_mb"] <= MEMORY_LIMIT_MB,
        },
    }


def generate_benchmark(folder: Path, cases: int) -> Path:
    """Return a benchmark of generated cases that share their images."""
    sys.path.insert(0, str(ROOT))
    from tests import builds

    generated = (builds.make_case(i if i != 5 else 14).model_copy(update={"id": f"case_{i:06d}"}) for i in range(cases))
    return builds.write_build(folder, list(generated))


def measure_load(benchmark: Path, database: Path) -> dict[str, float]:
    """Load a benchmark in this process; return seconds, numbers of cases, and memory in MB."""
    from mmvm_data.viz import fiftyone, mongo

    fo = fiftyone.connect(mongo.open_database(folder=database))
    imported = peak_mb()
    result = fiftyone.load(fo, benchmark)
    assert not result.problems, result.problems[:3]
    numbers = {"seconds": result.seconds, "added": result.added, "unchanged": result.unchanged}
    return {**numbers, "imported_mb": imported, "peak_mb": peak_mb()}


def run_child(benchmark: Path, database: Path) -> dict[str, Any]:
    """Run ``measure_load`` in a process of its own."""
    command = [sys.executable, __file__, "--child", str(benchmark), str(database)]
    path = os.pathsep.join((str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])))
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    usage: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return usage


if __name__ == "__main__":
    main()
