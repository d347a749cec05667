"""`mmvm-data build --resist` over a plain build of the same pool, on generated videos with cuts.

Builds a pool without choosing, then again as `build --resist` does: it measures the cases while they are built, chooses
a third, writes these and deletes the pool, which is measured but not part of the limit. Times are processor seconds of
one process, so that other work on the machine counts less. Small images make building cheap, and choosing does not
depend on their size. `--copies` repeats the videos under other names: 9 of the default videos give a pool of about
30,000 cases, of which 10,000 are chosen. Prints one JSON object.

    python benchmarks/resist_cost.py --copies 9 --out benchmarks/results/resist_cost.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import emit, machine, peak_mb

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.formats import bench
from mmvm_data.pipeline.build import BuildOptions, build
from mmvm_data.recipes.resistant_build import build_resistant
from mmvm_data.synth import SynthOptions, generate

LIMIT, POOL_FACTOR, CASES_PER_VIDEO = 0.15, 3, 4
VIDEOS, SIZE = 340, (320, 180)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--videos", type=int, default=VIDEOS, help="generated videos, about 10 cases each")
    parser.add_argument("--root", type=Path, help="videos that were generated before")
    parser.add_argument("--copies", type=int, default=1, help="how often the videos are repeated")
    parser.add_argument("--runs", type=int, default=1, help="number of builds of each kind, in turns")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, help="width and height of the images")
    parser.add_argument("--folder", type=Path, help="where the files are written; the system's temporary folder")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-", dir=a.folder) as scratch:
        emit(measure(Path(scratch), a.root, a.videos, a.copies, a.size, a.runs), a.out)


def measure(
    scratch: Path, root: Path | None, videos: int, copies: int, size: Sequence[int], runs: int
) -> dict[str, Any]:
    """Processor seconds of building a pool, and of building it, choosing a third of it and writing these."""
    facts = machine()
    width, height = size
    if root is None:
        root = scratch / "videos"
        options = SynthOptions(
            videos=videos, frames=8, cuts=3, look_alikes="patterns", width=width, height=height, objects=(4, 4), seed=1
        )
        generate(root, options)
    root = _multiply_videos(root, scratch / "copies", copies)
    area = width * height / (SIZE[0] * SIZE[1])
    side = round(10 * area**0.5)
    sampling = SamplingOptions(
        seed=1, min_area=round(150 * area), min_side=side, min_candidates=4, none_share=0, min_gap=10
    )
    wanted = BuildOptions(sampling=replace(sampling, cases_per_video=CASES_PER_VIDEO))
    pool = BuildOptions(sampling=replace(sampling, cases_per_video=CASES_PER_VIDEO * POOL_FACTOR))
    alone: list[float] = []
    parts: list[dict[str, float]] = []
    peak = 0.0
    for _ in range(runs):
        started = time.process_time()
        built = build("ytvos", root, scratch / "plain", pool)
        alone.append(time.process_time() - started)
        peak = peak or peak_mb()
        shutil.rmtree(scratch / "plain")
        parts.append(_time_parts(root, scratch / "chosen", wanted, built.cases))
        chosen = sum(1 for _ in bench.read(scratch / "chosen"))
        shutil.rmtree(scratch / "chosen")
    seconds = statistics.median(alone)
    medians = {name: statistics.median(part[name] for part in parts) for name in parts[0]}
    deleting = medians.pop("deleting the pool")
    medians = {"measuring while building": medians.pop("building") - seconds} | medians
    added = sum(medians.values())
    return {
        "machine": facts,
        "images": f"{width} x {height}",
        "videos": videos,
        "copies": copies,
        "runs": runs,
        "pool_cases": built.cases,
        "chosen": chosen,
        "build_seconds": round(seconds, 2),
        "added_seconds": round(added, 2),
        "build_ms_per_case": round(1e3 * seconds / built.cases, 3),
        "added_ms_per_case": {name: round(1e3 * part / built.cases, 3) for name, part in medians.items()},
        "share": round(added / seconds, 3),
        "share_with_deleting": round((added + deleting) / seconds, 3),
        "limit": LIMIT,
        "within": added <= LIMIT * seconds,
        "peak_mb": {"build": round(peak), "with choosing": round(peak_mb())},
    }


def _time_parts(root: Path, out: Path, options: BuildOptions, pool_cases: int) -> dict[str, float]:
    """Processor seconds of the parts of ``build_resistant``, which reports cases as they are read, then written."""
    times = {"start": time.process_time()}

    def note(number: int) -> None:
        now = time.process_time()
        times.setdefault("first read", now)
        if "last read" in times:
            times.setdefault("first written", now)
            times["last written"] = now
        elif number == pool_cases:
            times["last read"] = now

    build_resistant("ytvos", root, out, options, POOL_FACTOR, choosing=note)
    times["end"] = time.process_time()
    steps = {
        "building": ("start", "first read"),
        "reading what was measured": ("first read", "last read"),
        "choosing": ("last read", "first written"),
        "writing": ("first written", "last written"),
        "deleting the pool": ("last written", "end"),
    }
    return {name: times[last] - times[first] for name, (first, last) in steps.items()}


def _multiply_videos(root: Path, out: Path, copies: int) -> Path:
    """The same videos many times under other names; their files are links."""
    if copies == 1:
        return root
    meta = json.loads((root / "train/meta.json").read_text(encoding="utf-8"))
    videos = {f"{name}-{k}": entry for k in range(copies) for name, entry in meta["videos"].items()}
    for kind in ("JPEGImages", "Annotations"):
        for name in meta["videos"]:
            for k in range(copies):
                target = out / "train" / kind / f"{name}-{k}"
                target.mkdir(parents=True)
                for path in (root / "train" / kind / name).iterdir():
                    os.link(path, target / path.name)
    (out / "train/meta.json").write_text(json.dumps({**meta, "videos": videos}), encoding="utf-8")
    return out


if __name__ == "__main__":
    main()
