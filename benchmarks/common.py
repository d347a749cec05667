"""What the harnesses share: medians, the facts of the machine, one JSON object as the result."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def use_one_thread() -> None:
    """Start the program again with one thread for BLAS and OpenMP, unless it has been.

    Libraries read this when they are imported. Their threads wait in a loop for some time after their work, which is
    processor time of whatever is measured meanwhile.
    """
    if any(os.environ.get(name) != value for name, value in _ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_ONE_THREAD})


def median_of(runs: int, fn: Callable[[], object]) -> float:
    """Median wall-clock seconds of ``runs`` calls; the return value is freed outside the measured time."""
    return statistics.median(seconds(fn) for _ in range(runs))


def seconds(fn: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    kept = fn()
    taken = time.perf_counter() - start
    del kept
    return taken


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB of 1,048,576 bytes.

    Linux's VmHWM where there is one: ``ru_maxrss`` of a child begins at the size of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform != "darwin" else 1024**2)


def read_resident_mb(pid: int | str = "self") -> float:
    """Resident memory of a process now, in MB of 1,048,576 bytes; 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS:")), 0.0)


def machine() -> dict[str, Any]:
    """What the numbers depend on; the load says whether other processes ran."""
    return {
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
    }


def invoked(program: Any, *words: object, most: int = 0) -> str:
    """What a command prints to its standard output; ends the harness if its exit code is above `most`."""
    from click.testing import CliRunner  # not at the top: processes whose memory is measured import this file

    result = CliRunner().invoke(program, [str(word) for word in words], catch_exceptions=False)
    if result.exit_code > most:
        raise SystemExit(result.output)
    return result.stdout


def emit(result: dict[str, Any], out: Path | None) -> None:
    """Print the record as one JSON object, and write it to ``out``."""
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


def replace_between(file: Path, marks: tuple[str, str], text: str) -> None:
    """Put text between two marks of a Markdown file; ends the harness where they are missing."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{file}: expected {marks[0]} and {marks[1]} around the table")
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
