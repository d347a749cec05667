"""One build, for ``build.py``; as a program, in a process of its own that imports no more than the build needs.

Worker processes import the program that started them again, so what this file imports at its top counts in each.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Literal

SOURCE: Literal["ytvis"] = "ytvis"


def build(root: Path, out: Path, workers: int, threads: int | None = 0) -> dict[str, Any]:
    """One fresh build: wall and processor time in seconds, opening the source included, and its cases.

    The processor time is that of this process and of the workers, which have ended.
    """
    from mmvm_data.pipeline import build as pipeline

    for folder in (out, out.parent / f".{out.name}.index"):
        shutil.rmtree(folder, ignore_errors=True)
    started, cpu = time.perf_counter(), _cpu_seconds()
    options = pipeline.BuildOptions(workers=workers, writer_threads=threads)
    result = pipeline.build(SOURCE, root, out, options)
    seconds, cpu = time.perf_counter() - started, _cpu_seconds() - cpu
    return {"seconds": seconds, "cpu": cpu, "cases": result.cases}


def _cpu_seconds() -> float:
    """Processor time of this process, and of those that it started and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


if __name__ == "__main__":
    root, out, workers = sys.argv[1:]
    print(json.dumps(build(Path(root), Path(out), int(workers))))
