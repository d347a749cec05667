"""First case of a set of 10,000 videos, for every reader; prints one JSON object.

Each set is made to its specification by the writers of the tests (``tests/sets``), 10,000 videos of four small frames
(10,000 people for crops), in a folder in memory where there is one. A fresh process then builds one case of it, without
a kept index: seconds from the call to the end, seconds of the processor in them, and the peak of its resident memory.
Limits: 5 s of the processor (the clock alone depends on what else the machine does) and 500 MB. Sources that share a
reader and a layout (YouTube-VIS 2021, OVIS …) are measured when ``--only`` names them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import emit, machine, peak_mb

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.pipeline.build import BuildOptions, build
from tests.sets.every import IDS, LAYOUTS, ONE_OBJECT, SIBLINGS, write_set

SECONDS_LIMIT, MEMORY_LIMIT = 5.0, 500.0
_MEMORY = Path("/dev/shm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", metavar="SOURCE", help="these alone")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--child", nargs=2, metavar=("SOURCE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        source, folder = arguments.child
        print(json.dumps(first_case(source, Path(folder))))
        return
    facts = machine()
    readers = {
        name: measure(source, layout, arguments.videos)
        for name, (source, layout) in zip(IDS, LAYOUTS, strict=True)
        if (source in arguments.only if arguments.only else source not in SIBLINGS)
    }
    emit(
        {
            "machine": facts,
            "videos": arguments.videos,
            "limits": {"cpu_seconds": SECONDS_LIMIT, "mb": MEMORY_LIMIT},
            "slowest_cpu_seconds": max(one["cpu_seconds"] for one in readers.values()),
            "largest_mb": max(one["peak_mb"] for one in readers.values()),
            "within": all(one["within"] for one in readers.values()),
            "readers": readers,
        },
        arguments.out,
    )


def measure(source: str, layout: str, videos: int) -> dict[str, Any]:
    """One source: seconds, peak memory, and what lay on disk."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        started = time.perf_counter()
        root = Path(scratch) / "set"
        write_set(source, layout, root, videos)
        made = time.perf_counter() - started
        command = [sys.executable, __file__, "--child", source, scratch]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        within = found["cpu_seconds"] <= SECONDS_LIMIT and found["peak_mb"] <= MEMORY_LIMIT and found["cases"] == 1
        print(f"{source} {layout}: {found}, made in {made:.0f} s", file=sys.stderr, flush=True)
        return {**found, "within": within}


def first_case(source: str, folder: Path) -> dict[str, Any]:
    """Build one case of the set in ``folder``."""
    alone: dict[str, Any] = {"min_candidates": 1} if source in ONE_OBJECT else {}
    sampling = SamplingOptions(min_area=60, min_side=4, cases_per_video=1, none_share=0, **alone)
    started, begun = time.perf_counter(), time.process_time()
    result = build(source, folder / "set", folder / "bench", BuildOptions(sampling=sampling, max_cases=1))
    taken, busy = time.perf_counter() - started, time.process_time() - begun
    shutil.rmtree(folder / "bench")
    return {
        "seconds": round(taken, 3),
        "cpu_seconds": round(busy, 3),
        "peak_mb": round(peak_mb(), 1),
        "cases": result.cases,
    }


if __name__ == "__main__":
    main()
