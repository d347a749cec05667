"""Two workers of a Ray cluster over one, whole builds at 480p; at least 1.7 times as fast. Prints one JSON object.

A cluster of this machine is started once; each build starts its actors, makes its cases and ends. Builds alternate. The
trees of all must be the same, and the same as that of one local process.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from build import multiplied
from build_once import SOURCE
from common import emit, machine

from mmvm_data import synth
from mmvm_data.pipeline import build as pipeline

SPEEDUP_LIMIT = 1.7
FEW = 40  # videos that are drawn; the others are links to their pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--videos", type=int, default=1600)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch, cluster() as address:
        result = measure(Path(scratch), address, arguments.runs, arguments.videos)
    emit(result, arguments.out)


def measure(scratch: Path, address: str, runs: int, videos: int) -> dict[str, Any]:
    """Builds by one and two workers in turn."""
    facts = machine()
    options = synth.SynthOptions(videos=FEW, frames=12, layout=SOURCE, workers=os.cpu_count() or 1)
    few = synth.generate(scratch / "few", options)
    root = multiplied(few, scratch / "videos", -(-videos // FEW))
    reference, _ = build(root, scratch / "local", None, 1)
    cases = sum(1 for _ in open(scratch / "local/cases.jsonl", "rb"))  # noqa: SIM115
    rows, same = [], True
    for run in range(runs):
        row = []
        for workers in (1, 2):
            digest, seconds = build(root, scratch / f"{run}-{workers}", address, workers)
            same &= digest == reference
            row.append(seconds)
        rows.append(row)
    speedups = [one / two for one, two in rows]
    return {
        "machine": facts,
        "cases": cases,
        "seconds_one": round(statistics.median(one for one, _ in rows), 2),
        "seconds_two": round(statistics.median(two for _, two in rows), 2),
        "speedups": [round(value, 3) for value in speedups],
        "speedup": round(statistics.median(speedups), 3),
        "limit": SPEEDUP_LIMIT,
        "within": statistics.median(speedups) >= SPEEDUP_LIMIT,
        "same_bytes": same,
    }


def build(root: Path, out: Path, address: str | None, workers: int) -> tuple[str, float]:
    """One build: digest of its tree without build.json, and seconds."""
    engine: Literal["local", "ray"] = "ray" if address else "local"
    started = time.perf_counter()
    pipeline.build(SOURCE, root, out, pipeline.BuildOptions(workers=workers, engine=engine, ray_address=address))
    seconds = time.perf_counter() - started
    digest = hashlib.sha256()
    for path in sorted(p for p in out.rglob("*") if p.is_file() and p.name != "build.json"):
        digest.update(str(path.relative_to(out)).encode() + path.read_bytes())
    return digest.hexdigest(), seconds


@contextmanager
def cluster() -> Iterator[str]:
    """A cluster of this machine with two processors."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # it listens on this machine only; Ray reads this when it is imported
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats"]
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    head = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
    try:
        assert head.stdout is not None
        if not any("Ray runtime started" in line for line in head.stdout):
            raise RuntimeError("Ray did not start")
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait()


if __name__ == "__main__":
    main()
